"""Photographs of any size: where their bytes are, decoding, and the crops for training and evaluation.

One piece of code decodes and resizes for training, reprediction and evaluation, so that they cannot disagree.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

_LOG_ASPECT = math.log(4 / 3)


@dataclass(frozen=True)
class Photographs:
    """Encoded images (JPEG, PNG, GIF), read when they are needed: each is a stretch of bytes in a file.

    Attributes:
        files: that hold them.
        file_of_row: index into `files`, `[rows]`.
        offset: where the bytes begin, `[rows]`.
        length: how many there are, `[rows]`.
        size: side of the square that a network sees, in pixels.
        resize: length of the shorter side before the central square is cut out in evaluation, in pixels.
    """

    files: tuple[Path, ...]
    file_of_row: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    size: int
    resize: int

    def __len__(self) -> int:
        return len(self.offset)

    def __getitem__(self, rows: np.ndarray | slice) -> "Photographs":
        """Some of the images."""
        chosen = (self.file_of_row[rows], self.offset[rows], self.length[rows])
        return Photographs(self.files, *chosen, size=self.size, resize=self.resize)

    def read(self, row: int) -> bytes:
        """The encoded image of a row."""
        with self.files[self.file_of_row[row]].open("rb") as file:
            file.seek(self.offset[row])
            return file.read(self.length[row])

    def central(self, rows: tf.Tensor) -> tf.Tensor:
        """Resizes to `resize` and cuts out the center: `[batch]` to `[batch, size, size, 3]` uint8."""
        return self._map(lambda image, _: central_crop(image, self.resize, self.size), rows, tf.zeros([tf.shape(rows)[0]]))

    def random(
        self,
        rows: tf.Tensor,
        scale: float,
        seed: tf.Tensor,
        *,
        first: int | tf.Tensor = 0,
        batch: int | tf.Tensor | None = None,
    ) -> tf.Tensor:
        """A random-resized crop of each: `[n]` to `[n, size, size, 3]` uint8.

        Args:
            rows: `[n]` int64, a batch or a stretch of one, which is then cropped as it would be within the whole.
            scale: smallest share (0..1) of an image's area.
            seed: of the batch, `[2]` int32.
            first: place of the stretch in the batch.
            batch: images in the batch; None: `rows` is all of it.
        """
        count = tf.shape(rows)[0]
        seeds = tf.random.split(seed, count if batch is None else batch)[first : first + count]
        return self._map(lambda image, own: random_crop(image, scale, self.size, own), rows, seeds)

    def _map(self, crop: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], rows: tf.Tensor, extra: tf.Tensor) -> tf.Tensor:
        def one(arguments: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            row, own = arguments
            encoded = tf.ensure_shape(tf.numpy_function(self.read, [row], tf.string), [])
            return crop(decode(encoded), own)

        return tf.map_fn(one, (rows, extra), fn_output_signature=tf.TensorSpec([self.size, self.size, 3], tf.uint8))


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes one JPEG, PNG or GIF, a grey one too: `[height, width, 3]` uint8."""
    # The default of TensorFlow may be the fast, inexact DCT, with which no other decoder agrees. The operation
    # reads PNG and GIF too.
    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def central_crop(image: tf.Tensor, resize: int, size: int) -> tf.Tensor:
    """Resizes one image, its shorter side to `resize`, and cuts out the central square of `size` pixels."""
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    shorter = tf.minimum(height, width)
    new_height, new_width = resize * height // shorter, resize * width // shorter
    resized = _resize(image, (new_height, new_width))
    top, left = (new_height - size + 1) // 2, (new_width - size + 1) // 2
    return tf.ensure_shape(resized[top : top + size, left : left + size], [size, size, 3])


def random_crop(image: tf.Tensor, scale: float, size: int, seed: tf.Tensor) -> tf.Tensor:
    """Cuts out a random rectangle and resizes it to a square of `size` pixels (Szegedy et al. 2015).

    Its share of the area is uniform in `scale`..1, the logarithm of its width / height in that of 3/4..4/3. Of ten draws
    the first that fits into the image; the central square if none does.
    """
    height, width = tf.cast(tf.shape(image)[0], tf.float32), tf.cast(tf.shape(image)[1], tf.float32)
    area_seed, shape_seed, place_seed = tf.unstack(tf.random.split(seed, 3), num=3)
    area = height * width * tf.random.stateless_uniform([10], area_seed, scale, 1.0)
    aspect = tf.exp(tf.random.stateless_uniform([10], shape_seed, -_LOG_ASPECT, _LOG_ASPECT))
    widths, heights = tf.round(tf.sqrt(area * aspect)), tf.round(tf.sqrt(area / aspect))
    fits = (widths <= width) & (heights <= height) & (widths >= 1) & (heights >= 1)
    first, shorter = tf.argmax(fits), tf.minimum(height, width)
    crop_height = tf.where(tf.reduce_any(fits), heights[first], shorter)
    crop_width = tf.where(tf.reduce_any(fits), widths[first], shorter)
    place = tf.where(tf.reduce_any(fits), tf.random.stateless_uniform([2], place_seed), 0.5)
    top = tf.cast(place[0] * (height - crop_height + 1), tf.int32)
    left = tf.cast(place[1] * (width - crop_width + 1), tf.int32)
    crop = image[top : top + tf.cast(crop_height, tf.int32), left : left + tf.cast(crop_width, tf.int32)]
    return _resize(crop, (size, size))


def _resize(image: tf.Tensor, shape: tuple[tf.Tensor | int, tf.Tensor | int]) -> tf.Tensor:
    # Antialiasing: without it a strong reduction picks single pixels. It is what Pillow does, too.
    resized = tf.image.resize(image, shape, method="bilinear", antialias=True)
    return tf.cast(tf.round(tf.clip_by_value(resized, 0.0, 255.0)), tf.uint8)
