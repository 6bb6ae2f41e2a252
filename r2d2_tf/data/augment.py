"""Augmentation of whole batches, vectorised and stateless: the same seed gives the same batch.

Images are `[batch, height, width, channels]`; seeds are int tensors of shape `[2]`, as
`tf.random.stateless_uniform` takes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class Augmentation:
    """What is done to a training batch: reflect-translate by up to `translate` pixels, flip, cut out.

    `cutout` is the side of the square, 0 for none; `fill` is its value, one a channel, in pixel units. `crop_scale` is
    for photographs alone: the smallest share of an image's area in a random-resized crop (`photographs.random_crop`).
    """

    translate: int = 0
    flip: bool = False
    cutout: int = 0
    fill: tuple[float, ...] = ()
    crop_scale: float = 1.0


def augment(
    images: tf.Tensor,
    augmentation: Augmentation,
    seed: tf.Tensor,
    *,
    first: int | tf.Tensor = 0,
    batch: int | tf.Tensor | None = None,
) -> tf.Tensor:
    """Applies `augmentation` with fresh random numbers for each image; float32 where it cuts out, else the input's type.

    Args:
        images: a batch, or a stretch of one, which is then augmented as it would be within the whole.
        augmentation: what is done.
        seed: of the batch.
        first: place of the stretch in the batch.
        batch: images in the batch; None: `images` is all of it.
    """
    count = tf.shape(images)[0]
    batch = count if batch is None else batch
    own = slice(first, first + count)
    seeds = tf.unstack(tf.random.split(seed, 3), num=3)
    if augmentation.translate:
        reach = augmentation.translate
        shifts = tf.random.stateless_uniform([batch, 2], seeds[0], -reach, reach + 1, tf.int32)
        images = translate(images, shifts[own])
    if augmentation.flip:
        images = flip(images, tf.random.stateless_uniform([batch], seeds[1])[own] < 0.5)
    if augmentation.cutout:
        sides = tf.cast(tf.shape(images)[1:3], tf.float32)
        centers = tf.cast(tf.random.stateless_uniform([batch, 2], seeds[2])[own] * sides, tf.int32)
        images = cutout(images, centers, augmentation.cutout, augmentation.fill)
    return images


def translate(images: tf.Tensor, shifts: tf.Tensor) -> tf.Tensor:
    """Moves each image by whole pixels; what enters at a border mirrors what is there (d c b a | a b c d).

    Args:
        images: any type.
        shifts: `[batch, 2]` int32, (dx, dy), each smaller than the side; positive moves right and down.
    """
    height, width = tf.shape(images)[1], tf.shape(images)[2]
    columns = _mirrored(tf.range(width)[None, :] - shifts[:, :1], width)
    rows = _mirrored(tf.range(height)[None, :] - shifts[:, 1:], height)
    moved = tf.gather(images, rows, axis=1, batch_dims=1)
    # Gathering columns pixel by pixel from the moved rows: two cheap gathers, no padded copy.
    return tf.gather(moved, tf.repeat(columns[:, None, :], height, axis=1), axis=2, batch_dims=2)


def _mirrored(index: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    index = tf.where(index < 0, -1 - index, index)
    return tf.where(index >= size, 2 * size - 1 - index, index)


def flip(images: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Mirrors left and right the images where `mask` (`[batch]` bool) is true."""
    # tf.where would broadcast the mask to every pixel, which takes ten times longer than what is done here.
    places = tf.dynamic_partition(tf.range(tf.shape(images)[0]), tf.cast(mask, tf.int32), 2)
    kept, turned = (tf.gather(images, place) for place in places)
    # TensorFlow reverses fast what has three dimensions.
    lines = tf.reshape(turned, [-1, tf.shape(images)[2], images.shape[3]])
    turned = tf.reshape(tf.reverse(lines, axis=[1]), tf.shape(turned))
    return tf.ensure_shape(tf.dynamic_stitch(places, [kept, turned]), images.shape)


def cutout(images: tf.Tensor, centers: tf.Tensor, size: int, fill: Sequence[float]) -> tf.Tensor:
    """Fills a square of side `size` (even) around each center; it may hang over the border.

    Args:
        images: any type; the result is float32.
        centers: `[batch, 2]` int32, (y, x); the square covers `center - size/2` to `center + size/2 - 1`.
        size: side of the square in pixels.
        fill: value of the square, one number a channel.
    """
    height, width = tf.shape(images)[1], tf.shape(images)[2]
    inside_y = _within(tf.range(height)[None, :], centers[:, :1], size)
    inside_x = _within(tf.range(width)[None, :], centers[:, 1:], size)
    inside = inside_y[:, :, None] & inside_x[:, None, :]
    return tf.where(inside[..., None], tf.constant(fill, tf.float32), tf.cast(images, tf.float32))


def _within(position: tf.Tensor, center: tf.Tensor, size: int) -> tf.Tensor:
    return (position >= center - size // 2) & (position < center + size // 2)
