"""Finds the image files in somebody's folder. Reads no image, and needs no TensorFlow."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from tqdm import tqdm

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
"""In any case."""
_NOT_LOOKED_INTO = "__MACOSX"
"""What archives of a Mac hold beside the files themselves."""
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
    """

    root: Path
    names: list[str]
    sizes: np.ndarray
    others: dict[str, int]
    loops: list[str]


def find_images(root: Path) -> FoundFiles:
    """Looks for image files in a folder and all folders in it, hidden ones excepted. Links are followed.

    Raises:
        ValueError: if it is no folder, holds no image, or a file's name is no text.
        OSError: if a folder cannot be looked into.
    """
    if not root.is_dir():
        raise ValueError(f"data_dir ({root}) is no folder of images: change --data_dir")
    found: dict[str, int] = {}
    others: Counter[str] = Counter()
    loops: list[str] = []
    with tqdm(desc="finding images", unit=" files", delay=_DELAY, leave=False, disable=None) as bar:
        for name, size in _files(root, loops):
            ending = os.path.splitext(name)[1].lower()
            if ending in IMAGE_ENDINGS:
                found[_checked(root, name)] = size
            else:
                others[ending] += 1
            bar.update()
    if not found:
        held = f"{sum(others.values()):,} other files" if others else "nothing"
        raise ValueError(f"data_dir ({root}) holds no image ({', '.join(IMAGE_ENDINGS)}), but {held}: change --data_dir")
    names = sorted(found)
    return FoundFiles(root, names, np.array([found[name] for name in names], np.int64), dict(others), loops)


def _checked(root: Path, name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"data_dir ({root}): the name of the file {name!r} is no UTF-8 text; give it another") from None
    return name


def _files(root: Path, loops: list[str]) -> Iterator[tuple[str, int]]:
    """Name and size of each file that is not hidden; adds to `loops`."""
    own = root.stat()
    todo = [("", frozenset([(own.st_dev, own.st_ino)]))]
    while todo:
        folder, above = todo.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if entry.name.startswith(".") or entry.name == _NOT_LOOKED_INTO:
                    continue
                if not _is_folder(entry):
                    yield from _file(entry, name)
                    continue
                about = entry.stat()
                itself = (about.st_dev, about.st_ino)
                if itself in above:
                    loops.append(name)
                else:
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
