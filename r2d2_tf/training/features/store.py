"""Features in a file that grows: what was computed once is there for later runs, whenever the process that computed it died."""

import contextlib
import fcntl
import functools
import os
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from r2d2_tf.data.cache import FOLDER_VARIABLE
from r2d2_tf.system import resources
from r2d2_tf.system.messages import one_line, warn

Append = Callable[[np.ndarray, np.ndarray], None]
"""Adds features, `[n, width]`, of keys, `[n]`."""


class FeatureStore:
    """Features by the keys of images, in one file of records: key, checksum, features.

    Records are only ever appended, by one process at a time. One that was cut off, or is damaged, counts as none.

    Args:
        folder: of the file; None, or one that cannot be written to: a temporary file is used, and a warning says so.
        name: of the file, which tells what computed the features.
        width: numbers an image.
    """

    def __init__(self, folder: Path | None, name: str, width: int) -> None:
        self.record = np.dtype([("key", "<u8"), ("check", "<u4"), ("features", "<f4", (width,))])
        self._folder, self._name = folder, name

    @functools.cached_property
    def path(self) -> Path:
        """Of the file, which can be written to."""
        reason = "there is no home folder"
        if self._folder is not None:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                with (self._folder / self._name).open("ab"):
                    return self._folder / self._name
            except OSError as error:
                reason = str(error)
        warn(one_line(f"features cannot be kept for later runs: {reason}; name a folder in the environment variable "
                      f"{FOLDER_VARIABLE}"))  # fmt: skip
        temporary = tempfile.mkdtemp(prefix="r2d2_tf-")
        weakref.finalize(self, shutil.rmtree, temporary, ignore_errors=True)
        return Path(temporary) / self._name

    def records(self) -> np.ndarray:
        """All whole records, which are read from the file when they are looked at."""
        # Nothing is written by looking.
        path = self.path if "path" in vars(self) else (self._folder or Path()) / self._name
        try:
            count = path.stat().st_size // self.record.itemsize
            return np.memmap(path, self.record, "r", shape=(count,)) if count else np.empty(0, self.record)
        except OSError:
            return np.empty(0, self.record)

    def places(self, keys: np.ndarray) -> np.ndarray:
        """The place of a whole record of each key among `records`, of the key's shape; -1 where there is none."""
        records = self.records()
        there = np.array(records["key"])
        order = np.argsort(there, kind="stable")
        # Of several the last: one that was computed anew, as the others were damaged.
        last = np.searchsorted(there, keys.ravel(), "right", sorter=order) - 1
        found = order[np.maximum(last, 0)] if len(order) else np.zeros(keys.size, np.int64)
        is_there = (last >= 0) & (there[found] == keys.ravel()) if len(order) else np.zeros(keys.size, bool)
        places = np.where(is_there, found, -1)
        whole = {-1: False} | {place: self._is_whole(records[place]) for place in np.unique(places[is_there]).tolist()}
        return np.array([place if whole[place] else -1 for place in places.tolist()], np.int64).reshape(keys.shape)

    def _is_whole(self, record: np.void) -> bool:
        return int(record["check"]) == _checksum(record)

    def check_room(self, count: int) -> None:
        """Raises OSError if so many more records do not fit on the disk."""
        needed, free = count * self.record.itemsize, shutil.disk_usage(self.path.parent).free
        if needed > free:
            raise OSError(
                f"the features take {resources.size_text(needed)}, and {resources.size_text(free)} are free in "
                f"{self.path.parent}: make room there, or name another folder in the environment variable {FOLDER_VARIABLE}"
            )

    @contextlib.contextmanager
    def growing(self, wait: Callable[[], None]) -> Iterator[Append]:
        """Gives a function that appends; `wait` is called again and again while another process holds the file."""
        with self.path.open("ab") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    wait()
                    continue
                except OSError:
                    # No locks on this file system: two that write at once leave records that are not whole, at worst.
                    pass
                break
            size = os.fstat(file.fileno()).st_size
            file.truncate(size - size % self.record.itemsize)

            def append(keys: np.ndarray, features: np.ndarray) -> None:
                records = np.empty(len(keys), self.record)
                records["key"], records["features"] = keys, features
                records["check"] = [_checksum(record) for record in records]
                file.write(records.tobytes())
                file.flush()

            yield append


def _checksum(record: np.void) -> int:
    return zlib.crc32(record["features"].tobytes(), zlib.crc32(record["key"].tobytes()))
