"""Augmentation of whole batches, vectorised and stateless: the same seed gives the same batch.

Images are `[batch, height, width, channels]`; seeds are int tensors of shape `[2]`, as
`tf.random.stateless_uniform` takes them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tensorflow as tf

from r2d2_tf.data.image_data import SYMMETRIC


@dataclass(frozen=True)
class Augmentation:
    """What is done to a training batch: translate by up to `translate` pixels, flip, `rand_augment`, cut out.

    `border` is what enters there, one of image_data.BORDERS.
    `cutout` is the side of the square, 0 for none; `fill` is its value, one a channel, in pixel units. `crop_scale` is
    for photographs alone: the smallest share of an image's area in a random-resized crop (`photographs.random_crop`).
    `operations` is the number of OPERATIONS that each image gets, one after the other, and `magnitude` (0..1) their strength.
    """

    translate: int = 0
    border: str = SYMMETRIC
    flip: bool = False
    cutout: int = 0
    fill: tuple[float, ...] = ()
    crop_scale: float = 1.0
    operations: int = 0
    magnitude: float = 0.0


def augment(
    images: tf.Tensor,
    augmentation: Augmentation,
    seed: tf.Tensor,
    *,
    first: int | tf.Tensor = 0,
    batch: int | tf.Tensor | None = None,
) -> tf.Tensor:
    """Applies `augmentation` with fresh random numbers for each image; the input's type, or float32 after operations or cutout.

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
        images = translate(images, shifts[own], augmentation.border)
    if augmentation.flip:
        images = flip(images, tf.random.stateless_uniform([batch], seeds[1])[own] < 0.5)
    for number in range(augmentation.operations):
        # Not of the seeds above, which stay what they are without operations, nor of 0, which photographs are cropped by.
        own_seeds = tf.unstack(tf.random.split(tf.random.fold_in(seed, 1 + number), 2), num=2)
        kinds = tf.random.stateless_uniform([batch], own_seeds[0], 0, len(OPERATIONS), tf.int32)
        towards = tf.where(tf.random.stateless_uniform([batch], own_seeds[1]) < 0.5, -1.0, 1.0)
        images = rand_augment(images, kinds[own], augmentation.magnitude * towards[own])
    if augmentation.cutout:
        sides = tf.cast(tf.shape(images)[1:3], tf.float32)
        centers = tf.cast(tf.random.stateless_uniform([batch, 2], seeds[2])[own] * sides, tf.int32)
        images = cutout(images, centers, augmentation.cutout, augmentation.fill)
    return images


def translate(images: tf.Tensor, shifts: tf.Tensor, border: str = SYMMETRIC) -> tf.Tensor:
    """Moves each image by whole pixels; what enters at a border mirrors what is there.

    Args:
        images: any type.
        shifts: `[batch, 2]` int32, (dx, dy), each smaller than the side; positive moves right and down.
        border: one of image_data.BORDERS.
    """
    height, width = tf.shape(images)[1], tf.shape(images)[2]
    columns = _mirrored(tf.range(width)[None, :] - shifts[:, :1], width, border)
    rows = _mirrored(tf.range(height)[None, :] - shifts[:, 1:], height, border)
    moved = tf.gather(images, rows, axis=1, batch_dims=1)
    # Gathering columns pixel by pixel from the moved rows: two cheap gathers, no padded copy.
    return tf.gather(moved, tf.repeat(columns[:, None, :], height, axis=1), axis=2, batch_dims=2)


def _mirrored(index: tf.Tensor, size: tf.Tensor, border: str) -> tf.Tensor:
    repeated = int(border == SYMMETRIC)
    index = tf.where(index < 0, -repeated - index, index)
    return tf.where(index >= size, 2 * (size - 1) + repeated - index, index)


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


def rand_augment(images: tf.Tensor, kinds: tf.Tensor, levels: tf.Tensor) -> tf.Tensor:
    """Does one of OPERATIONS to each image, as RandAugment (Cubuk et al. 2020); `[batch, height, width, channels]` float32.

    Keras' layer RandAugment draws from a state, and once a batch; here each image has its own, as the caller drew it.
    Equalizing and sharpening are left out: a histogram and a convolution an image would cost as much as all the others.

    Args:
        images: any type, in 0..255, and so is the result.
        kinds: place of each image's operation in OPERATIONS, `[batch]` int32.
        levels: how strong it is, -1..1, and in which direction where it has one, `[batch]` float32.
    """
    places = tf.dynamic_partition(tf.range(tf.shape(images)[0]), kinds, len(OPERATIONS))
    changed = [
        operation(tf.cast(tf.gather(images, place), tf.float32), tf.gather(levels, place)[:, None, None, None])
        for place, operation in zip(places, OPERATIONS.values(), strict=True)
    ]
    return tf.ensure_shape(tf.clip_by_value(tf.dynamic_stitch(places, changed), 0.0, 255.0), images.shape)


def _auto_contrast(images: tf.Tensor, levels: tf.Tensor) -> tf.Tensor:
    lowest, highest = (reduce(images, (1, 2), keepdims=True) for reduce in (tf.reduce_min, tf.reduce_max))
    return tf.where(highest > lowest, tf.math.divide_no_nan(images - lowest, highest - lowest) * 255.0, images)


def _blend(images: tf.Tensor, others: tf.Tensor, levels: tf.Tensor) -> tf.Tensor:
    """Between 0.1 and 1.9 of the way from `others` to `images`."""
    return others + (1.0 + 0.9 * levels) * (images - others)


def _grey(images: tf.Tensor) -> tf.Tensor:
    """Of three channels the luma that televisions show, else the mean: `[batch, height, width, 1]`."""
    weights = [0.299, 0.587, 0.114] if images.shape[-1] == 3 else [1.0 / images.shape[-1]] * images.shape[-1]
    return tf.reduce_sum(images * tf.constant(weights), -1, keepdims=True)


def _contrast(images: tf.Tensor, levels: tf.Tensor) -> tf.Tensor:
    return _blend(images, tf.reduce_mean(_grey(images), (1, 2), keepdims=True), levels)


def _posterize(images: tf.Tensor, levels: tf.Tensor) -> tf.Tensor:
    step = 2.0 ** tf.round(4.0 * tf.abs(levels))
    return tf.floor(images / step) * step


def _solarize(images: tf.Tensor, levels: tf.Tensor) -> tf.Tensor:
    return tf.where(images < 256.0 * (1.0 - tf.abs(levels)), images, 255.0 - images)


def _affine(
    images: tf.Tensor, levels: tf.Tensor, matrix: Callable[[tf.Tensor], list[tf.Tensor]], shift: tuple[float, float] = (0, 0)
) -> tf.Tensor:
    """Images whose pixel at p, counted from the center, is theirs at `matrix` * p + level * `shift` * side.

    Args:
        images: `[batch, height, width, channels]` float32; what lies beyond a border mirrors what is there.
        levels: `[batch, 1, 1, 1]`.
        matrix: its four numbers, row by row, of the levels, `[batch]`.
        shift: right and down, as shares of width and height.
    """
    levels = tf.reshape(levels, [-1])
    sides = tf.cast(tf.shape(images)[2:0:-1], tf.float32)
    center_x, center_y = tf.unstack((sides - 1.0) / 2.0)
    (a, b, c, d), (move_x, move_y) = (
        matrix(levels),
        (levels * side * by for side, by in zip(tf.unstack(sides), shift, strict=True)),
    )
    right = center_x - a * center_x - b * center_y + move_x
    down = center_y - c * center_x - d * center_y + move_y
    nothing = tf.zeros_like(levels)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([a, b, right, c, d, down, nothing, nothing], 1),
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )


def _rotation(levels: tf.Tensor) -> list[tf.Tensor]:
    cosine, sine = tf.cos(levels * math.radians(30.0)), tf.sin(levels * math.radians(30.0))
    return [cosine, -sine, sine, cosine]


def _shear(levels: tf.Tensor) -> list[tf.Tensor]:
    """Along lines; what goes along columns is transposed."""
    one = tf.ones_like(levels)
    return [one, 0.3 * levels, 0.0 * one, one]


def _unmoved(levels: tf.Tensor) -> list[tf.Tensor]:
    one = tf.ones_like(levels)
    return [one, 0.0 * one, 0.0 * one, one]


OPERATIONS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "identity": lambda images, levels: images,
    "auto_contrast": _auto_contrast,
    "brightness": lambda images, levels: _blend(images, tf.zeros_like(images), levels),
    "color": lambda images, levels: _blend(images, _grey(images), levels),
    "contrast": _contrast,
    "posterize": _posterize,
    "solarize": _solarize,
    "rotate": lambda images, levels: _affine(images, levels, _rotation),
    "shear_x": lambda images, levels: _affine(images, levels, _shear),
    "shear_y": lambda images, levels: _affine(images, levels, lambda levels: _shear(levels)[::-1]),
    "translate_x": lambda images, levels: _affine(images, levels, _unmoved, (0.3, 0.0)),
    "translate_y": lambda images, levels: _affine(images, levels, _unmoved, (0.0, 0.3)),
}
"""What `rand_augment` may do: functions of images `[n, height, width, channels]` float32 and their levels `[n, 1, 1, 1]`.

At level 1: 0.9 brighter, more colorful or of more contrast (at -1 that much less), four bits, inverted, 30 degrees, a slope of
0.3, 0.3 of the side.
"""
