"""What was found out of large files once, kept so that no later run has to read all of them again."""

import contextlib
import hashlib
import os
import stat
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from r2d2_tf.system import files
from r2d2_tf.system.messages import one_line, warn

FOLDER_VARIABLE = "R2D2_TF_CACHE"
"""Environment variable: the folder for what was found, in place of the two that are chosen otherwise."""

_FORMAT = 1
_KEY = "key"


@dataclass(frozen=True)
class FileCache:
    """Arrays that are a function of the contents of some files, in one .npz file a subject.

    The name of that file is made of the names, sizes and times of change of the files, so that what was found in a copy that
    changed since is not read any more. It lies beside the files, for everybody who reads those, or where that folder
    cannot be written to, in the user's own cache folder.

    Attributes:
        paths: of the files, all in one folder, or below `root`.
        root: somebody's own folder, into which nothing is written: what is found is kept in the user's cache folder alone.
    """

    paths: Sequence[Path]
    root: Path | None = None

    def load(self, subject: str, names: Sequence[str]) -> dict[str, np.ndarray] | None:
        """The arrays `names` of a subject; None if nothing (whole) is kept."""
        key = self._key()
        for path in (folder / _file_name(subject, key) for folder in self._folders()):
            try:
                with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                    found = {name: archive[name] for name in (*names, _KEY)}
                if found.pop(_KEY).tobytes() == key.encode():
                    return found
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, ValueError, KeyError, EOFError, MemoryError, NotImplementedError, zipfile.BadZipFile, zlib.error):
                pass
            warn(one_line(f"{path} cannot be read or is damaged: what it held is found anew"))
        return None

    def save(self, subject: str, arrays: dict[str, np.ndarray]) -> None:
        """Keeps arrays, whole or not at all; warns if they cannot be kept."""
        key = self._key()
        reason = "no folder can be written to"
        for folder in self._folders():
            if _is_marked_read_only(folder):
                continue
            try:
                if folder != self.place:
                    folder.mkdir(parents=True, exist_ok=True)
                with files.written_whole(folder / _file_name(subject, key)) as path, path.open("wb") as file:
                    np.savez(file, allow_pickle=False, **arrays, **{_KEY: np.frombuffer(key.encode(), np.uint8)})
                return
            except OSError as error:
                reason = str(error)
        warn(one_line(f"what was found in {self.place} cannot be kept for later runs: {reason}; name a folder in the "
                      f"environment variable {FOLDER_VARIABLE}"))  # fmt: skip

    def _key(self) -> str:
        """64 hexadecimal digits."""
        digest = hashlib.sha256(str(_FORMAT).encode())
        for path in self.paths:
            name = path.name if self.root is None else path.relative_to(self.root)
            try:
                about = path.stat()
            except OSError:
                # A link to nowhere.
                digest.update(f"\0{name}\0".encode())
                continue
            digest.update(f"\0{name}\0{about.st_size}\0{about.st_mtime_ns}".encode())
        return digest.hexdigest()

    @property
    def place(self) -> Path:
        """The folder that the files are in."""
        return self.root or self.paths[0].parent

    def _folders(self) -> list[Path]:
        beside = [self.place] if self.root is None and not os.environ.get(FOLDER_VARIABLE) else []
        own = own_folder()
        return beside if own is None else [*beside, own]


def own_folder() -> Path | None:
    """The user's own cache folder, which need not be there; None where there is no home, as in some containers."""
    if os.environ.get(FOLDER_VARIABLE):
        return Path(os.environ[FOLDER_VARIABLE]).expanduser()
    with contextlib.suppress(RuntimeError):
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "r2d2_tf"
    return None


def _file_name(subject: str, key: str) -> str:
    return f"r2d2_tf-{subject}-{key[:16]}.npz"


def _is_marked_read_only(folder: Path) -> bool:
    """Whether nobody may write to a folder: root could, and should not."""
    try:
        return not folder.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    except OSError:
        return False
