"""Decodes and shrinks photographs once, for later epochs and runs: `Maker`.

The pixels are those that come without a copy, too, in a longer time: whether there is one, and where, changes no result.
"""

import contextlib
import functools
import hashlib
import io
import os
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf
from PIL import Image
from tqdm import tqdm

from r2d2_tf.data.cache import FOLDER_VARIABLE, own_folder
from r2d2_tf.data.decoding import central_crop, decoded_once, shrunk, too_large
from r2d2_tf.data.image_data import FILE, MEMORY, NO_COPY
from r2d2_tf.data.photographs import Photographs
from r2d2_tf.data.pixel_store import KEY_BYTES, Copy, Entry, InFile, InMemory
from r2d2_tf.system.messages import one_line, warn
from r2d2_tf.system.resources import available_memory, size_text

_MOST = 0.5
"""Share of what is free of a disk or of memory that a copy may take."""
_SAMPLE = 64
"""Photographs whose headers tell how large a copy will be."""
_FORMAT = 1
_DELAY = 2
"""Seconds before a progress bar is shown."""
_NO_PIXELS = np.zeros((0, 0, 3), np.uint8)


class Maker:
    """Makes the copy of the photographs of a data set, and finds what of it is there."""

    def __init__(self, parts: Sequence[Photographs], where: str) -> None:
        """Looks for what is there.

        Args:
            parts: to train on, and to test on; seen alike.
            where: NO_COPY, MEMORY, FILE or AUTO.
        """
        self._parts = [(part, keys_of(part), number == 0) for number, part in enumerate(parts if where != NO_COPY else ())]
        self._lock, self._failure = threading.Lock(), ""
        self._store = self._store_for(where) if self._parts else None

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the place of the copy, while images may be added. What a disk refuses is warned of: there is no copy."""
        if self._store is None or not any(self._missing(self._store)):
            yield
            return
        try:
            with self._store.writing({key for _, keys, _ in self._parts for key in keys}):
                yield
                if self._failure:
                    raise OSError(self._failure)
        except OSError as error:
            self._store = None
            _no_copy(str(error))

    def add(self, number: int, row: int, image: tf.Tensor) -> None:
        """Keeps what is wanted of a decoded image of part `number`, if it is not there; from any thread."""
        if self._store is None or self._failure:
            return
        part, keys, with_rest = self._parts[number]
        if _has(self._store.entries, keys[row], with_rest):
            return
        square, rest = _pixels_of(part.size, part.resize, part.crop_side)(image)
        with self._lock:
            try:
                self._store.add(keys[row], square.numpy(), rest.numpy() if with_rest else _NO_PIXELS)
            except OSError as error:
                self._failure = self._failure or str(error)

    def complete(self) -> None:
        """Decodes what is missing, within the block of `writing`."""
        missing = [] if self._store is None else self._missing(self._store)
        todo = [(number, row) for number, rows in enumerate(missing) for row in rows]
        bar = tqdm(total=len(todo), desc="decoding and shrinking each image", delay=_DELAY, leave=False, disable=None)
        # Threads: TensorFlow holds no lock of Python's while it decodes.
        with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(lambda place: self._decode(*place), todo):
                bar.update()

    def copies(self) -> list[Copy | None]:
        """The copy of each part, after the block of `writing`; None: there is none."""
        if self._store is None:
            return [None for _ in self._parts]
        try:
            read, entries, nothing = self._store.reader(), self._store.entries, Entry(-1, 0, 0)
        except OSError as error:
            _no_copy(str(error))
            return [None for _ in self._parts]
        print(f"photographs are read from a decoded copy in {self._store.place}")
        found = [np.array([entries.get(key, nothing) for key in keys], np.int64).reshape(-1, 3) for _, keys, _ in self._parts]
        return [Copy(read, at[:, 0], at[:, 1:], part.size) for at, (part, *_) in zip(found, self._parts, strict=True)]

    def _decode(self, number: int, row: int) -> None:
        photographs = self._parts[number][0]
        # What cannot be decoded is an error, or left out, elsewhere.
        with contextlib.suppress(tf.errors.OpError, OSError):
            encoded = photographs.read(row)
            if not too_large(encoded):
                self.add(number, row, decoded_once(encoded, as_shown=photographs.as_shown))

    def _missing(self, store: InFile | InMemory) -> list[list[int]]:
        """Rows of each part."""
        return [
            [row for row, key in enumerate(keys) if not _has(store.entries, key, with_rest)]
            for _, keys, with_rest in self._parts
        ]

    def _store_for(self, where: str) -> InFile | InMemory | None:
        """The place that was asked for, if there is room in it."""
        folder, refused = own_folder(), []
        if where != MEMORY and folder is not None:
            store = InFile(folder / f"r2d2_tf-pixels-{self._view()}.bin", 3 * self._parts[0][0].size ** 2)
            there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
            free, needed = shutil.disk_usage(there).free, self._bytes_of(self._missing(store))
            if needed <= _MOST * free:
                return store
            refused.append(f"{size_text(needed)} are more than half of the {size_text(free)} that are free in {folder}")
        if where != FILE:
            memory = InMemory()
            (free, whose), needed = available_memory(), self._bytes_of(self._missing(memory))
            if needed <= _MOST * free:
                return memory
            refused.append(f"{size_text(needed)} are more than half of the {size_text(free)} of memory available {whose}")
        _no_copy(", and ".join(refused) or "there is no home folder")
        return None

    def _view(self) -> str:
        """16 hexadecimal digits that tell which folder of photographs it is, and how they are seen."""
        first = self._parts[0][0]
        places = [str(part.cache.place.absolute()) for part, *_ in self._parts if part.cache is not None]
        view = (_FORMAT, tf.__version__, *places[:1], first.size, first.resize, first.crop_side, first.as_shown)
        return hashlib.sha256(repr(view).encode()).hexdigest()[:16]

    def _bytes_of(self, missing: Sequence[Sequence[int]]) -> int:
        """About how much the pixels take, by the headers of some."""
        return sum(
            int(len(rows) * np.mean([_bytes_of_one(part, row, with_rest) for row in rows[:: len(rows) // _SAMPLE + 1]]))
            for rows, (part, _, with_rest) in zip(missing, self._parts, strict=True)
            if rows
        )


def keys_of(photographs: Photographs) -> list[bytes]:
    """What tells each image from others, and from what it was before its file changed."""
    about: dict[int, str] = {}
    for number in np.unique(photographs.file_of_row).tolist():
        path = photographs.files[number]
        with contextlib.suppress(OSError):
            found = path.stat()
            about[number] = f"{path.absolute()}\0{found.st_size}\0{found.st_mtime_ns}"
    rows = zip(*(column.tolist() for column in (photographs.file_of_row, photographs.offset, photographs.length)), strict=True)
    names = (f"{about.get(file, '')}\0{offset}\0{length}" for file, offset, length in rows)
    return [hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=KEY_BYTES).digest() for name in names]


def _has(entries: dict[bytes, Entry], key: bytes, with_rest: bool) -> bool:
    return key in entries and (not with_rest or entries[key].height > 0)


@functools.cache
def _pixels_of(size: int, resize: int, side: int) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Function of a decoded image that gives its central square and what crops are cut out of."""

    def pixels(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return central_crop(image, resize, size), shrunk(image, side)

    return tf.function(pixels, input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)])


def _bytes_of_one(part: Photographs, row: int, with_rest: bool) -> int:
    square = 3 * part.size**2
    if not with_rest:
        return square
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(part.read(row))) as image:
                shorter, longer = sorted(image.size)
        # What Pillow does not know, or is damaged.
        except Exception:
            return square
    side = min(shorter, part.crop_side)
    return square + 3 * side * (side * longer // shorter)


def _no_copy(reason: str) -> None:
    how = f"name a folder with room in the environment variable {FOLDER_VARIABLE}"
    warn(one_line(f"no decoded copy of the photographs is kept, and each is decoded in every epoch: {reason}; {how}"))
