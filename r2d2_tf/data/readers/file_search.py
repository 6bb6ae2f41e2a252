"""Finds the image files in somebody's folder. Reads no image, and needs no TensorFlow."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from tqdm import tqdm

IMAGE_ENDINGS = (".jpg", ".jpeg", ".jfif", ".jpe", ".pjpeg", ".png", ".gif", ".bmp", ".webp")
"""In any case."""
_OF_SYSTEMS = (
    "__macosx",
    "__pycache__",
    "@eadir",
    "@recycle",
    "@recently-snapshot",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "recycler",
    "system volume information",
    "lost+found",
    "network trash folder",
    "temporary items",
    "thevolumesettingsfolder",
)
"""Folders of archives, NAS, systems and file managers, in any case; hidden ones, as of notebooks, are passed over as well."""
_TABLES = re.compile(
    r"(metadata\.(csv|jsonl|parquet)|_classes\.csv|labels\.csv|(train|default)\.txt|project-\d+-at-.*\.(json|csv))",
    re.IGNORECASE,
)
"""Names of files of labels as people call them, and as Hugging Face, Roboflow, CVAT and Label Studio export them."""
_DELAY = 2
"""Seconds before a progress bar is shown."""


@dataclass(frozen=True)
class FilesBelow(Sequence[Path]):
    """Paths of files below the folder `root`, made when they are asked for: a million of them take memory."""

    root: Path
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> "FilesBelow": ...
    def __getitem__(self, index: int | slice) -> "Path | FilesBelow":
        return FilesBelow(self.root, self.names[index]) if isinstance(index, slice) else self.root / self.names[index]


@dataclass(frozen=True)
class FoundFiles:
    """What there is in a folder.

    Attributes:
        root: the folder.
        names: of image files, relative to it, parted by /, sorted.
        sizes: in bytes, `[names]` int64; 0 where a file is not to be had, as a link to nowhere.
        others: how many files have each other ending.
        loops: links to folders that hold them, which are not followed.
        folders: that were looked into, relative to the root.
        others_in: of `others`, those that lie in each folder itself; "" is the root.
        passed_over: how many folders of systems have each name.
        tables: files that may hold labels, by their names.
    """

    root: Path
    names: list[str]
    sizes: np.ndarray
    others: dict[str, int]
    loops: list[str]
    folders: list[str]
    others_in: dict[str, dict[str, int]]
    passed_over: dict[str, int]
    tables: list[str]

    def not_read(self) -> list[str]:
        """What was left alone, for people: 8 files *.heic."""
        folders = [f"{count:,} folders {name}" for name, count in sorted(self.passed_over.items())]
        return [*counted(self.others), *folders]


def counted(endings: Mapping[str, int]) -> list[str]:
    """How many files have each ending, for people."""
    return [f"{count:,} files *{ending}" for ending, count in sorted(endings.items())]


def is_of_system(name: str) -> bool:
    """Whether a folder of this name is passed over, though it is not hidden."""
    return name.lower() in _OF_SYSTEMS


def find_images(root: Path) -> FoundFiles:
    """Looks for image files in a folder and all folders in it, hidden ones excepted. Links are followed.

    Raises:
        ValueError: if it is no folder, holds no image, or a file's name is no text.
        OSError: if a folder cannot be looked into.
    """
    if not root.is_dir():
        raise ValueError(f"data_dir ({root}) is no folder of images: change --data_dir")
    found: dict[str, int] = {}
    others_in: dict[str, Counter[str]] = defaultdict(Counter)
    loops: list[str] = []
    folders: list[str] = []
    passed_over: Counter[str] = Counter()
    tables: list[str] = []
    with tqdm(desc="finding images", unit=" files", delay=_DELAY, leave=False, disable=None) as bar:
        for name, size in _files(root, loops, folders, passed_over):
            ending = os.path.splitext(name)[1].lower()
            if ending in IMAGE_ENDINGS:
                found[_checked(root, name)] = size
            else:
                folder, _, own = name.rpartition("/")
                others_in[folder][ending] += 1
                tables += [name] if _TABLES.fullmatch(own) else []
            bar.update()
    others = sum(others_in.values(), Counter())
    if not found:
        held = f"{sum(others.values()):,} other files ({', '.join(counted(others))})" if others else "nothing"
        raise ValueError(f"data_dir ({root}) holds no image ({', '.join(IMAGE_ENDINGS)}), but {held}: change --data_dir")
    names = sorted(found)
    sizes = np.array([found[name] for name in names], np.int64)
    return FoundFiles(root, names, sizes, dict(others), loops, folders, dict(others_in), dict(passed_over), sorted(tables))


def _checked(root: Path, name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"data_dir ({root}): the name of the file {name!r} is no UTF-8 text; give it another") from None
    return name


def _files(root: Path, loops: list[str], folders: list[str], passed_over: Counter[str]) -> Iterator[tuple[str, int]]:
    """Name and size of each file that is not hidden; adds to `loops`, `folders` and `passed_over`."""
    own = root.stat()
    todo = [("", frozenset([(own.st_dev, own.st_ino)]))]
    while todo:
        folder, above = todo.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                is_folder = _is_folder(entry)
                if entry.name.startswith(".") or (is_folder and is_of_system(entry.name)):
                    passed_over.update([entry.name] * is_folder)
                    continue
                if not is_folder:
                    yield from _file(entry, name)
                    continue
                about = entry.stat()
                itself = (about.st_dev, about.st_ino)
                if itself in above:
                    loops.append(name)
                else:
                    folders.append(name)
                    todo.append((name, above | {itself}))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _file(entry: os.DirEntry[str], name: str) -> Iterator[tuple[str, int]]:
    """The file, if it is one: a pipe or a device might never end. A link to nowhere is a file that cannot be read."""
    try:
        if entry.is_file():
            yield name, entry.stat().st_size
        elif entry.is_symlink() and not os.path.exists(entry.path):
            yield name, 0
    except OSError:
        yield name, 0
