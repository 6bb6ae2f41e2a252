"""Photographs of any size: where their bytes are, decoding, and the crops for training and evaluation.

One piece of code decodes and resizes for training, reprediction and evaluation, so that they cannot disagree.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from r2d2_tf.data.cache import FileCache
from r2d2_tf.data.decoding import central_crop, decode, decoded_random_crop

NO_ROW = -1
"""Stands for an image that is not there, in a batch that is filled up."""

# A fixed number: with tf.data's own tuning the end of an iterator waits, for half a minute at times, for the thread that tunes.
# Whatever ends first, the order stays.
PARALLEL = {"num_parallel_calls": os.cpu_count() or 1, "deterministic": True}
"""How the input's work on single images or batches is spread over the processors."""
_READ_TOGETHER = 16
"""Images that are read by one call of Python's: fewer calls wait less for its lock, more wait longer for a slow disk."""


@dataclass(frozen=True)
class Photographs:
    """Encoded images (see `decode`), read when they are needed: each is a stretch of bytes in a file.

    Attributes:
        files: that hold them.
        file_of_row: index into `files`, `[rows]`.
        offset: where the bytes begin, `[rows]`.
        length: how many there are, `[rows]`.
        size: side of the square that a network sees, in pixels.
        resize: length of the shorter side before the central square is cut out in evaluation, in pixels.
        as_shown: see `decode`.
        as_stored: whether all of them look as they are stored, for which there is a quicker decoder.
        is_noisy: whether the decoder may warn of some of them.
        cache: of `files`, where these are all of their photographs; None: nothing is kept of them.
    """

    files: Sequence[Path]
    file_of_row: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    size: int
    resize: int
    as_shown: bool = True
    as_stored: bool = field(default=False, compare=False)
    is_noisy: bool = field(default=False, compare=False)
    cache: FileCache | None = None

    def __len__(self) -> int:
        return len(self.offset)

    @property
    def _turns(self) -> bool:
        return self.as_shown and not self.as_stored

    def __getitem__(self, rows: np.ndarray | slice) -> "Photographs":
        """Some of the images."""
        own = {name: getattr(self, name)[rows] for name in ("file_of_row", "offset", "length")}
        return replace(self, cache=None, **own)

    def read(self, row: int) -> bytes:
        """The encoded image of a row."""
        # Opened anew each time: a set may have more files than a process may hold open.
        with self.files[self.file_of_row[row]].open("rb", buffering=0) as file:
            return os.pread(file.fileno(), int(self.length[row]), int(self.offset[row]))

    def central(self, rows: tf.Tensor) -> tf.Tensor:
        """The centers of a few images, all in one tensor: `[batch]` to `[batch, size, size, 3]` uint8."""
        encoded = self._read_rows(tf.cast(rows, tf.int64))
        of_one = tf.TensorSpec([self.size, self.size, 3], tf.uint8)
        return tf.map_fn(self._center, encoded, fn_output_signature=of_one)

    def central_batches(self, batches: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Resizes to `resize` and cuts out the center.

        Args:
            batches: of rows, `[batch]` int64. All are of one length, which rows of NO_ROW fill up.
            batch_size: that length.

        Returns:
            Batches (images `[batch, size, size, 3]` uint8, rows), those of NO_ROW blank.
        """

        def center(encoded: tf.Tensor, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return self._unless_filler(row, lambda: self._center(encoded)), row

        return self._encoded(batches.map(lambda rows: (rows,))).map(center, **PARALLEL).batch(batch_size)

    def random_batches(self, batches: tf.data.Dataset, batch_size: int, scale: float) -> tf.data.Dataset:
        """A random-resized crop of each image, a function of its own seed.

        Args:
            batches: (rows `[batch]` int64, seeds `[batch, 2]` int32, keys `[batch, ...]`). All are of one length, which rows
                of NO_ROW fill up.
            batch_size: that length.
            scale: smallest share (0..1) of an image's area.

        Returns:
            Batches (images `[batch, size, size, 3]` uint8, rows, keys), those of NO_ROW blank.
        """

        def crop(encoded: tf.Tensor, row: tf.Tensor, seed: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, ...]:
            image = self._unless_filler(row, lambda: self._random(encoded, scale, seed))
            return image, row, key

        return self._encoded(batches).map(crop, **PARALLEL).batch(batch_size)

    def _center(self, encoded: tf.Tensor) -> tf.Tensor:
        return central_crop(decode(encoded, as_shown=self._turns), self.resize, self.size)

    def _random(self, encoded: tf.Tensor, scale: float, seed: tf.Tensor) -> tf.Tensor:
        return decoded_random_crop(encoded, scale, self.size, seed, as_shown=self._turns)

    def _unless_filler(self, row: tf.Tensor, make: Callable[[], tf.Tensor]) -> tf.Tensor:
        return tf.cond(row == NO_ROW, lambda: tf.zeros([self.size, self.size, 3], tf.uint8), make)

    def _encoded(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Batches (rows, ...) to single images (encoded, row, ...)."""
        groups = batches.unbatch().batch(_READ_TOGETHER)
        return groups.map(lambda rows, *more: (self._read_rows(rows), rows, *more), **PARALLEL).unbatch()

    def _read_rows(self, rows: tf.Tensor) -> tf.Tensor:
        def read(numbers: np.ndarray) -> np.ndarray:
            return np.array([b"" if row == NO_ROW else self.read(row) for row in numbers], object)

        # stateful=False: what has no state may run in parallel where operations are to be deterministic.
        return tf.ensure_shape(tf.numpy_function(read, [rows], tf.string, stateful=False), rows.shape)
