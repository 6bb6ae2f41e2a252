"""Batches of (images, rows). Order and augmentation are functions of (seed, stage, epoch, step)."""

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from r2d2_tf.augment import augment
from r2d2_tf.datasets import ImageData
from r2d2_tf.parts import WHOLE, Part
from r2d2_tf.photographs import Photographs
from r2d2_tf.stages import Stage

Images: TypeAlias = np.ndarray | tf.Tensor | Photographs
_NO_ROW = -1


def sharing_images(data: ImageData) -> ImageData:
    """The data with arrays of images as tensors, which all pipelines share; of an array each would make its own copy."""
    return dataclasses.replace(data, train_images=_pixels(data.train_images), test_images=_pixels(data.test_images))


def _pixels(images: Images) -> tf.Tensor | Photographs:
    # On the host, where tf.data reads them; a tensor is returned as it is, without a copy.
    with tf.device("CPU"):
        return images if isinstance(images, Photographs) else tf.convert_to_tensor(images)


def epoch_rows(stage: Stage, labeled_rows: np.ndarray, unlabeled_rows: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """The rows of every batch of one epoch.

    Args:
        stage: which images it uses, and how they are put together.
        labeled_rows: rows with a given label.
        unlabeled_rows: the others.
        seed: of the run.
        epoch: of the stage, from 0.

    Returns:
        `[steps, batch]` int64; a short last batch is filled up with -1.
    """
    steps = stage.steps_per_epoch(len(labeled_rows), len(unlabeled_rows))
    # tf.random.experimental.index_shuffle would give any batch without the others, but uses 8 bits of its
    # seed: of 1,000 epochs only 256 differed.
    shuffle = np.random.default_rng([seed, 1, stage.number, epoch])
    if stage.labeled_per_batch is None:
        pool = np.concatenate([labeled_rows, unlabeled_rows]) if stage.use_unlabeled else labeled_rows
        rows = np.full(steps * stage.batch_size, _NO_ROW, np.int64)
        rows[: len(pool)] = shuffle.permutation(pool)[: len(rows)]
        return rows.reshape(steps, stage.batch_size)
    unlabeled_per_batch = stage.batch_size - stage.labeled_per_batch
    unlabeled = shuffle.permutation(unlabeled_rows)[: steps * unlabeled_per_batch].reshape(steps, unlabeled_per_batch)
    count = steps * stage.labeled_per_batch
    labeled = _endless(labeled_rows, epoch * count, count, [seed, 2, stage.number]).reshape(steps, -1)
    # Spread the labeled images over the batch, so that every replica gets its share of them.
    mixed = np.concatenate([labeled, unlabeled], axis=1)
    return mixed[:, _interleaved(stage.labeled_per_batch, unlabeled_per_batch)]


def _endless(rows: np.ndarray, start: int, count: int, key: list[int]) -> np.ndarray:
    """Elements `start` to `start + count` of an endless stream of fresh permutations of `rows`."""
    first, last = start // len(rows), (start + count - 1) // len(rows)
    passes = [np.random.default_rng([*key, number]).permutation(rows) for number in range(first, last + 1)]
    return np.concatenate(passes)[start - first * len(rows) :][:count]


def _interleaved(num_first: int, num_second: int) -> np.ndarray:
    """Order in which `num_first` and then `num_second` elements are evenly mixed."""
    place = np.concatenate([(np.arange(n) + 0.5) / n for n in (num_first, num_second)])
    return np.argsort(place, kind="stable")


def training_batches(
    images: Images,
    labeled_rows: np.ndarray,
    unlabeled_rows: np.ndarray,
    stage: Stage,
    *,
    seed: int,
    first_epoch: int = 0,
    first_step: int = 0,
    parallel: bool = True,
    part: Part = WHOLE,
) -> tf.data.Dataset:
    """All batches of a stage, epoch after epoch, from a step of an epoch on: (augmented images, rows).

    Not `parallel` where operations are to be deterministic: TensorFlow would make it so itself, and complain on the terminal.
    Of each batch only `part` is read, and it is what it would be in the whole batch.
    """
    cropped = _random_crops(images, stage.augmentation.crop_scale)
    steps = stage.steps_per_epoch(len(labeled_rows), len(unlabeled_rows))

    def rows_of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        def draw(epoch_number: np.ndarray) -> np.ndarray:
            return epoch_rows(stage, labeled_rows, unlabeled_rows, seed=seed, epoch=int(epoch_number))

        rows = tf.ensure_shape(tf.numpy_function(draw, [epoch], tf.int64), [steps, stage.batch_size])
        step = epoch * steps + tf.range(steps, dtype=tf.int64)
        done = tf.where(epoch == first_epoch, first_step, 0)
        return tf.data.Dataset.from_tensor_slices((step[done:], rows[done:]))

    def batch(step: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows = tf.boolean_mask(rows, rows != _NO_ROW)
        key = tf.random.fold_in(tf.constant([seed, stage.number], tf.int32), tf.cast(step, tf.int32))
        count = tf.shape(rows)[0]
        first, end = part.bounds(count)
        own = rows[first:end]
        images = cropped(own, key, first, count)
        return augment(images, stage.augmentation, key, first=first, batch=count), own

    epochs = tf.data.Dataset.range(first_epoch, stage.epochs)
    return epochs.flat_map(rows_of_epoch).map(batch, num_parallel_calls=_calls(parallel)).prefetch(tf.data.AUTOTUNE)


def _random_crops(images: Images, scale: float) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
    """Function of (rows, seed, first, batch) that gives training images: a random crop of each photograph, any other whole."""
    if isinstance(images, Photographs):
        return lambda rows, seed, first, batch: images.random(rows, scale, tf.random.fold_in(seed, 0), first=first, batch=batch)
    pixels = _pixels(images)
    return lambda rows, seed, first, batch: tf.gather(pixels, rows)


def plain_images(images: Images) -> Callable[[tf.Tensor], tf.Tensor]:
    """Function of rows that gives images without augmentation: the center of each photograph, any other image whole."""
    if isinstance(images, Photographs):
        return images.central
    pixels = _pixels(images)
    return lambda rows: tf.gather(pixels, rows)


def _calls(parallel: bool) -> int | None:
    return tf.data.AUTOTUNE if parallel else None


def prediction_batches(
    images: Images, rows: np.ndarray, batch_size: int, *, parallel: bool = True, part: Part = WHOLE
) -> tf.data.Dataset:
    """One pass over `rows`, unaugmented: (images, rows); of each batch of `batch_size` only `part` is read."""
    plain = plain_images(images)

    def batch(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        first, end = part.bounds(tf.shape(rows)[0])
        return plain(rows[first:end]), rows[first:end]

    batches = tf.data.Dataset.from_tensor_slices(tf.constant(rows)).batch(batch_size)
    return batches.map(batch, num_parallel_calls=_calls(parallel)).prefetch(tf.data.AUTOTUNE)


def evaluation_batches(
    images: Images, labels: np.ndarray, batch_size: int, *, parallel: bool = True, part: Part = WHOLE
) -> tf.data.Dataset:
    """One pass over test images: (images, true classes); of each batch only `part` is read."""
    known = tf.constant(labels)
    batches = prediction_batches(images, np.arange(len(labels)), batch_size, parallel=parallel, part=part)
    return batches.map(lambda pixels, rows: (pixels, tf.gather(known, rows)))
