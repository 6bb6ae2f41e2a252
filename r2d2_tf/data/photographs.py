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
from r2d2_tf.data.decoders.orientation import UNKNOWN, UPRIGHT
from r2d2_tf.data.decoding import central_crop, decode, decoded_random_crop, random_crop, shrunk
from r2d2_tf.data.pixel_store import Copy

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
        crop_side: length of the shorter side to which larger images are shrunk before crops to train on are cut out, in
            pixels; 0: those are cut out of the image as it is.
        turns: what decoding.turn_of says of each, `[rows]` int8, which spares to search for it; None: it is not known.
        is_noisy: whether the decoder may warn of some of them.
        cache: of `files`, where these are all of their photographs; None: nothing is kept of them.
        copy: their pixels, which are read in place of the files.
        digests: of the decoded pixels, `[rows]` uint64 (see looking.Looks); None: nobody has looked at them.
    """

    files: Sequence[Path]
    file_of_row: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    size: int
    resize: int
    as_shown: bool = True
    crop_side: int = 0
    turns: np.ndarray | None = field(default=None, compare=False)
    is_noisy: bool = field(default=False, compare=False)
    cache: FileCache | None = None
    copy: Copy | None = field(default=None, compare=False)
    digests: np.ndarray | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.offset)

    def __getitem__(self, rows: np.ndarray | slice) -> "Photographs":
        """Some of the images."""
        return replace(
            self,
            file_of_row=self.file_of_row[rows],
            offset=self.offset[rows],
            length=self.length[rows],
            turns=None if self.turns is None else self.turns[rows],
            digests=None if self.digests is None else self.digests[rows],
            cache=None,
            copy=None if self.copy is None else self.copy[rows],
        )

    def read(self, row: int) -> bytes:
        """The encoded image of a row."""
        # Opened anew each time: a set may have more files than a process may hold open.
        with self.files[self.file_of_row[row]].open("rb", buffering=0) as file:
            return os.pread(file.fileno(), int(self.length[row]), int(self.offset[row]))

    def central(self, rows: tf.Tensor) -> tf.Tensor:
        """The centers of a few images, all in one tensor: `[batch]` to `[batch, size, size, 3]` uint8."""
        if self.copy is not None:
            return self._copied_centers(self.copy, tf.cast(rows, tf.int64))
        of_one = tf.TensorSpec([self.size, self.size, 3], tf.uint8)
        return tf.map_fn(lambda read: self._center(*read), self._read_rows(tf.cast(rows, tf.int64)), fn_output_signature=of_one)

    def central_batches(self, batches: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Resizes to `resize` and cuts out the center.

        Args:
            batches: of rows, `[batch]` int64. All are of one length, which rows of NO_ROW fill up.
            batch_size: that length.

        Returns:
            Batches (images `[batch, size, size, 3]` uint8, rows), those of NO_ROW blank.
        """
        if (copy := self.copy) is not None:
            return batches.map(lambda rows: (self._copied_centers(copy, tf.ensure_shape(rows, [batch_size])), rows), **PARALLEL)

        def center(encoded: tf.Tensor, about: tf.Tensor, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return self._unless_filler(row, lambda: self._center(encoded, about)), row

        return self._read(batches.map(lambda rows: (rows,))).map(center, **PARALLEL).batch(batch_size)

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

        def crop(read: tf.Tensor, about: tf.Tensor, row: tf.Tensor, seed: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, ...]:
            image = self._unless_filler(row, lambda: self._random(read, about, scale, seed))
            return image, row, key

        return self._read(batches).map(crop, **PARALLEL).batch(batch_size)

    def _center(self, encoded: tf.Tensor, about: tf.Tensor) -> tf.Tensor:
        return central_crop(self._decoded(encoded, about), self.resize, self.size)

    def _random(self, read: tf.Tensor, about: tf.Tensor, scale: float, seed: tf.Tensor) -> tf.Tensor:
        if self.copy is not None:
            return random_crop(tf.reshape(tf.io.decode_raw(read, tf.uint8), [about[0], about[1], 3]), scale, self.size, seed)
        if self.crop_side:
            return random_crop(shrunk(self._decoded(read, about), self.crop_side), scale, self.size, seed)
        as_shown, turn = self._turned(about)
        return decoded_random_crop(read, scale, self.size, seed, as_shown=as_shown, turn=turn)

    def _decoded(self, encoded: tf.Tensor, about: tf.Tensor) -> tf.Tensor:
        as_shown, turn = self._turned(about)
        return decode(encoded, as_shown=as_shown, turn=turn)

    def _turned(self, about: tf.Tensor) -> tuple[bool, tf.Tensor | None]:
        """`as_shown` and `turn` of `decode`. Where no image is to be turned, there is a quicker decoder for all."""
        if self.turns is None or not self.as_shown:
            return self.as_shown, None
        return bool((self.turns != UPRIGHT).any()), about[0]

    def _unless_filler(self, row: tf.Tensor, make: Callable[[], tf.Tensor]) -> tf.Tensor:
        return tf.cond(row == NO_ROW, lambda: tf.zeros([self.size, self.size, 3], tf.uint8), make)

    def _read(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Batches (rows, ...) to single images (what was read, about it, row, ...)."""
        groups = batches.unbatch().batch(_READ_TOGETHER)
        return groups.map(lambda rows, *more: (*self._read_rows(rows), rows, *more), **PARALLEL).unbatch()

    def _read_rows(self, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Encoded images and their turns, or pixels of the copy with their shapes: strings `[rows]` and `[rows, 2]` int32."""

        def read(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return (
                np.array([b"" if row == NO_ROW else self._bytes(row) for row in numbers], object),
                np.array([(UNKNOWN, 0) if row == NO_ROW else self._about(row) for row in numbers], np.int32),
            )

        # stateful=False: what has no state may run in parallel where operations are to be deterministic.
        found, about = tf.numpy_function(read, [rows], (tf.string, tf.int32), stateful=False)
        return tf.ensure_shape(found, rows.shape), tf.ensure_shape(about, [*rows.shape, 2])

    def _bytes(self, row: int) -> bytes:
        return self.read(row) if self.copy is None else self.copy.whole(row).tobytes()

    def _about(self, row: int) -> tuple[int, int]:
        if self.copy is not None:
            return tuple(self.copy.shape[row].tolist())
        return (UNKNOWN if self.turns is None else int(self.turns[row])), 0

    def _copied_centers(self, copy: Copy, rows: tf.Tensor) -> tf.Tensor:
        """`central` of the copy; those of NO_ROW are blank."""
        shape = (self.size, self.size, 3)

        def read(numbers: np.ndarray) -> np.ndarray:
            centers = np.zeros((len(numbers), *shape), np.uint8)
            for place in np.flatnonzero(numbers != NO_ROW):
                centers[place] = copy.center(numbers[place])
            return centers

        return tf.ensure_shape(tf.numpy_function(read, [rows], tf.uint8, stateful=False), [*rows.shape, *shape])
