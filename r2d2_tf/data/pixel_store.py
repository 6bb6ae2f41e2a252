"""Pixels of many images in memory or in a file, found by a key of each; and the copy of photographs that lies in one."""

import contextlib
import fcntl
import os
import secrets
import time
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from r2d2_tf.system import files

KEY_BYTES = 16
_TOKEN_BYTES = 16
"""A file begins with a number of its own, which its index repeats."""
_SAVED_EVERY = 30.0
"""Seconds between two writings of an index: what a killed process has done since is done again."""
_MOST_UNUSED = 4
"""Times as large as what is wanted of it a file may be, before it is begun anew."""
_SHIFT = 40
"""Bits of a place in memory that are left for the place within an image."""
Read = Callable[[int, int], np.ndarray]
"""Gives a stretch: (begin, length) to `[length]` uint8."""


class Entry(NamedTuple):
    """Where the pixels of an image begin: a square of a known size, and after it `height` x `width` more, which may be none."""

    begin: int
    height: int
    width: int


@dataclass(frozen=True)
class Copy:
    """Pixels of photographs: of each a central square, to be evaluated on, and what crops to train on are cut out of.

    Attributes:
        read: of the store.
        begin: see Entry, `[rows]`; -1 of images that cannot be decoded.
        shape: (height, width) of what crops are cut out of, `[rows, 2]`.
        size: side of the central square.
    """

    read: Read
    begin: np.ndarray
    shape: np.ndarray
    size: int

    def __getitem__(self, rows: np.ndarray | slice) -> "Copy":
        return Copy(self.read, self.begin[rows], self.shape[rows], self.size)

    def center(self, row: int) -> np.ndarray:
        """The central square, `[size, size, 3]`."""
        return self.read(self._begin(row), 3 * self.size**2).reshape(self.size, self.size, 3)

    def whole(self, row: int) -> np.ndarray:
        """What crops are cut out of, `[height * width * 3]`."""
        height, width = self.shape[row].tolist()
        return self.read(self._begin(row) + 3 * self.size**2, 3 * height * width)

    def _begin(self, row: int) -> int:
        if self.begin[row] < 0:
            raise OSError(f"there is no copy of image {row}, which could not be decoded")
        return int(self.begin[row])


class InMemory:
    """Pixels in memory."""

    place = "memory"

    def __init__(self) -> None:
        self.entries: dict[bytes, Entry] = {}
        self._images: list[np.ndarray] = []

    @contextlib.contextmanager
    def writing(self, wanted: Collection[bytes]) -> Iterator[None]:
        """See InFile."""
        yield

    def add(self, key: bytes, square: np.ndarray, rest: np.ndarray) -> None:
        """See InFile."""
        self.entries[key] = Entry(len(self._images) << _SHIFT, *rest.shape[:2])
        self._images.append(np.concatenate([square.ravel(), rest.ravel()]))

    def reader(self) -> Read:
        """See InFile."""

        def read(begin: int, length: int) -> np.ndarray:
            within = begin & ((1 << _SHIFT) - 1)
            return self._images[begin >> _SHIFT][within : within + length]

        return read


class InFile:
    """Pixels in a file, which grows and is never cut, as others may read it, with an index beside it.

    Attributes:
        path: of the file of pixels; its index is called the same, but for the ending.
        entries: key -> where the pixels are, as the index says. None, where it is missing or does not belong to the file.
    """

    def __init__(self, path: Path, square_bytes: int) -> None:
        self.path, self._square_bytes = path, square_bytes
        self._index = path.with_suffix(".npz")
        self._file: BinaryIO | None = None
        self._saved, self._token = 0.0, b""
        self.entries = self._loaded()

    @property
    def place(self) -> str:
        """For people."""
        return str(self.path)

    @contextlib.contextmanager
    def writing(self, wanted: Collection[bytes]) -> Iterator[None]:
        """Holds the file to the end of the block, for `add`; waits while another process does.

        What could not be written is removed again, all of it: it would fill the disk for nothing.

        Args:
            wanted: keys that are asked for: a file that holds many others in their place is begun anew.

        Raises:
            OSError: if it cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked(wanted) as file:
            self._file, self._saved = file, time.monotonic()
            try:
                yield
                self._save()
            except OSError:
                self.path.unlink(missing_ok=True)
                self._index.unlink(missing_ok=True)
                raise
            except BaseException:
                # An interrupted run goes on from here.
                self._save()
                raise
            finally:
                self._file = None

    def add(self, key: bytes, square: np.ndarray, rest: np.ndarray) -> None:
        """Adds an image, `rest` (`[height, width, 3]`, which may be none) after its square; not from two threads at once."""
        file = self._file
        if file is None:
            raise ValueError("pixels are added within the block of `writing`")
        begin = file.tell()
        for pixels in (square, rest):
            file.write(pixels.tobytes())
        self.entries[key] = Entry(begin, *rest.shape[:2])
        if time.monotonic() - self._saved > _SAVED_EVERY:
            self._save()

    def reader(self) -> Read:
        """What reads from the file, even once another has taken its place.

        Raises:
            OSError: if that has happened already.
        """
        with self.path.open("rb") as file:
            pixels = np.asarray(np.memmap(file, np.uint8, "r"))
        if pixels[:_TOKEN_BYTES].tobytes() != self._token:
            raise OSError(f"{self.path} was begun anew by another process")
        return lambda begin, length: pixels[begin : begin + length]

    def _loaded(self) -> dict[bytes, Entry]:
        try:
            with self._index.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                keys, places, token = archive["keys"], archive["places"], archive["token"].tobytes()
            with self.path.open("rb") as file:
                own, size = file.read(_TOKEN_BYTES), os.fstat(file.fileno()).st_size
        except (OSError, ValueError, KeyError, EOFError, MemoryError, NotImplementedError, zipfile.BadZipFile, zlib.error):
            return {}
        entries = {key.tobytes(): Entry(*place) for key, place in zip(keys, places.tolist(), strict=True)}
        self._token = own
        is_whole = own == token and all(entry.begin + self._bytes(entry) <= size for entry in entries.values())
        return entries if is_whole else {}

    def _bytes(self, entry: Entry) -> int:
        return self._square_bytes + 3 * entry.height * entry.width

    def _save(self) -> None:
        if self._file is None:
            return
        self._file.flush()
        # The index says nothing that a crash of the machine could make untrue.
        os.fsync(self._file.fileno())
        keys = np.frombuffer(b"".join(self.entries), np.uint8).reshape(-1, KEY_BYTES)
        places = np.array(list(self.entries.values()), np.int64).reshape(-1, 3)
        token = np.frombuffer(self._token, np.uint8)
        with files.written_whole(self._index) as path, path.open("wb") as file:
            np.savez(file, allow_pickle=False, keys=keys, places=places, token=token)
        self._saved = time.monotonic()

    @contextlib.contextmanager
    def _locked(self, wanted: Collection[bytes]) -> Iterator[BinaryIO]:
        """The file, at its end; the lock is the operating system's, and ends with the process."""
        while True:
            # Nobody else's: pictures may be private.
            with os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    print("waiting for another process, which is decoding these photographs")
                    fcntl.flock(file, fcntl.LOCK_EX)
                if not self._is_at_its_place(file):
                    continue
                self.entries, token = self._loaded(), file.read(_TOKEN_BYTES)
                used = sum(self._bytes(self.entries[key]) for key in wanted if key in self.entries)
                size = file.seek(0, os.SEEK_END)
                if 0 < size < _TOKEN_BYTES or size > _TOKEN_BYTES + _MOST_UNUSED * used:
                    self.path.unlink()
                    continue
                self._token = token or secrets.token_bytes(_TOKEN_BYTES)
                file.write(b"" if token else self._token)
                yield file
                return

    def _is_at_its_place(self, file: BinaryIO) -> bool:
        """Whether another process has not begun anew since the file was opened."""
        try:
            return os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False
