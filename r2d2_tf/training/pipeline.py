"""Batches of (images, rows). Order and augmentation are functions of (seed, stage, epoch, step)."""

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from r2d2_tf.config.config import Config
from r2d2_tf.data.augment import augment
from r2d2_tf.data.image_data import HeldOut, ImageData
from r2d2_tf.data.photographs import NO_ROW, PARALLEL, Photographs
from r2d2_tf.distributed.sharding import WHOLE, Shard
from r2d2_tf.distributed.workers import Batches, Workers
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from r2d2_tf.training.features.features import Features
from r2d2_tf.training.stages import Stage

_AHEAD = 4
"""Batches that wait to be trained on: enough for a step that is quicker than the one before, little in memory."""
Images: TypeAlias = np.ndarray | tf.Tensor | Photographs | Features


def sharing_images(data: ImageData) -> ImageData:
    """The data with arrays of images as tensors, which all pipelines share; of an array each would make its own copy."""
    shared = dataclasses.replace(data, train_images=_pixels(data.train_images), test_images=_pixels(data.test_images))
    if (held_out := data.held_out) is not None:
        own = dataclasses.replace(
            held_out.data, train_images=_pixels(held_out.data.train_images), test_images=shared.test_images
        )
        held_out = dataclasses.replace(held_out, data=own)
    return dataclasses.replace(shared, held_out=held_out)


def _pixels(images: np.ndarray | tf.Tensor | Photographs) -> tf.Tensor | Photographs:
    # On the host, where tf.data reads them; a tensor is returned as it is, without a copy.
    with tf.device("CPU"):
        return images if isinstance(images, Photographs) else tf.convert_to_tensor(images)


def epoch_rows(stage: Stage, labeled_rows: np.ndarray, unlabeled_rows: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """The rows of every batch of one epoch of a stage, counted from 0.

    Returns:
        `[steps, batch]` int64; a short last batch is filled up with -1.
    """
    steps = stage.images.steps_per_epoch(len(labeled_rows), len(unlabeled_rows))
    # tf.random.experimental.index_shuffle would give any batch without the others, but uses 8 bits of its
    # seed: of 1,000 epochs only 256 differed.
    shuffle = np.random.default_rng([seed, 1, stage.number, epoch])
    if stage.images.labeled_per_batch is None:
        pool = np.concatenate([labeled_rows, unlabeled_rows]) if stage.images.use_unlabeled else labeled_rows
        rows = np.full(steps * stage.images.batch_size, NO_ROW, np.int64)
        rows[: len(pool)] = shuffle.permutation(pool)[: len(rows)]
        return rows.reshape(steps, stage.images.batch_size)
    unlabeled_per_batch = stage.images.batch_size - stage.images.labeled_per_batch
    unlabeled = shuffle.permutation(unlabeled_rows)[: steps * unlabeled_per_batch].reshape(steps, unlabeled_per_batch)
    count = steps * stage.images.labeled_per_batch
    labeled = _endless(labeled_rows, epoch * count, count, [seed, 2, stage.number]).reshape(steps, -1)
    # Spread the labeled images over the batch, so that every replica gets its share of them.
    mixed = np.concatenate([labeled, unlabeled], axis=1)
    return mixed[:, _interleaved(stage.images.labeled_per_batch, unlabeled_per_batch)]


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
    shard: Shard = WHOLE,
) -> tf.data.Dataset:
    """All batches of a stage, epoch after epoch, from a step of an epoch on: (augmented images, rows).

    Of each batch only `shard` is read, and it is what it would be in the whole batch.
    """
    steps = stage.images.steps_per_epoch(len(labeled_rows), len(unlabeled_rows))
    size = shard.size_of(stage.images.batch_size)

    def rows_of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        def draw(epoch_number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return shard.of_batches(epoch_rows(stage, labeled_rows, unlabeled_rows, seed=seed, epoch=int(epoch_number)))

        # stateful=False: where operations are to be deterministic, nothing that comes after a state may run in parallel.
        rows, place = tf.numpy_function(draw, [epoch], (tf.int64, tf.int64), stateful=False)
        rows, place = tf.ensure_shape(rows, [steps, size]), tf.ensure_shape(place, [steps, 2])
        step = epoch * steps + tf.range(steps, dtype=tf.int64)
        done = tf.where(epoch == first_epoch, first_step, 0)
        return tf.data.Dataset.from_tensor_slices((rows[done:], tf.concat([step[:, None], place], 1)[done:]))

    def key_of(step: tf.Tensor) -> tf.Tensor:
        return tf.random.fold_in(tf.constant([seed, stage.number], tf.int32), tf.cast(step, tf.int32))

    def augmented(pixels: tf.Tensor, rows: tf.Tensor, where: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        step, first, count = tf.unstack(tf.cast(where, tf.int32))
        return augment(pixels, stage.images.augmentation, key_of(step), first=first, batch=count), rows

    def with_seeds(rows: tf.Tensor, where: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # Each place in a batch has its own seed, whoever decodes it.
        seeds = tf.random.split(tf.random.fold_in(key_of(where[0]), 0), stage.images.batch_size)
        own = tf.gather(seeds, tf.minimum(where[1] + tf.range(size, dtype=tf.int64), stage.images.batch_size - 1))
        return rows, own, tf.tile(where[None], [size, 1])

    def without_fillers_at(pixels: tf.Tensor, rows: tf.Tensor, where: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return *without_fillers(pixels, rows), where[0]

    batches = tf.data.Dataset.range(first_epoch, stage.epochs).flat_map(rows_of_epoch)
    if isinstance(images, Photographs):
        crops = images.random_batches(batches.map(with_seeds), size, stage.images.augmentation.crop_scale)
        return read_ahead(crops.map(without_fillers_at).map(augmented, **PARALLEL))
    whole = plain_images(images)

    def batch(rows: tf.Tensor, where: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows = tf.boolean_mask(rows, rows != NO_ROW)
        if isinstance(images, Features):
            step, first, count = tf.unstack(tf.cast(where, tf.int32))
            return images.drawn(rows, key_of(step), first=first, batch=count), rows
        return augmented(whole(rows), rows, where)

    return read_ahead(batches.map(batch, **PARALLEL))


def read_ahead(batches: tf.data.Dataset) -> tf.data.Dataset:
    """The batches, some of them made while others are trained on; without tf.data's own tuning, see `PARALLEL`.

    Nor are they to be parted by TensorFlow: each process makes its own, and the search for files to part ends in a warning.
    """
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    options.autotune.enabled = False
    return batches.prefetch(_AHEAD).with_options(options)


def without_fillers(pixels: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A batch (images, rows) without those of NO_ROW."""
    there = rows != NO_ROW
    # Only the last batch of an epoch may be short; a copy of each of the others would take a tenth of the time.
    pixels = tf.cond(tf.reduce_all(there), lambda: pixels, lambda: tf.boolean_mask(pixels, there))
    return pixels, tf.boolean_mask(rows, there)


def plain_images(images: Images) -> Callable[[tf.Tensor], tf.Tensor]:
    """Function of rows that gives images without augmentation: the center of each photograph, any other image whole."""
    if isinstance(images, Photographs | Features):
        return images.central
    pixels = _pixels(images)
    return lambda rows: tf.gather(pixels, rows)


def prediction_batches(images: Images, rows: np.ndarray, batch_size: int, *, shard: Shard = WHOLE) -> tf.data.Dataset:
    """One pass over `rows`, unaugmented: (images, rows); of each batch of `batch_size` only `shard` is read."""
    steps = -(-len(rows) // batch_size)
    padded = np.full(steps * batch_size, NO_ROW, np.int64)
    padded[: len(rows)] = rows
    own, _ = shard.of_batches(padded.reshape(steps, batch_size))
    batches = tf.data.Dataset.from_tensor_slices(tf.constant(own))
    if isinstance(images, Photographs):
        batches = read_ahead(images.central_batches(batches, own.shape[1]).map(without_fillers))
        # Single images on the way: TensorFlow no longer knows how many batches there are.
        return batches.apply(tf.data.experimental.assert_cardinality(steps))
    plain = plain_images(images)

    def batch(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows = tf.boolean_mask(rows, rows != NO_ROW)
        return plain(rows), rows

    return read_ahead(batches.map(batch, **PARALLEL))


class RunBatches:
    """Makes the batches of a run; each process reads the images of its own replicas alone."""

    def __init__(self, config: Config, data: ImageData, table: PseudoLabelTable, workers: Workers) -> None:
        self.config, self.data, self.table, self.workers = config, data, table, workers

    def training(self, stage: Stage, *, epoch: int, step: int) -> Batches:
        """(augmented images, rows) of a stage, from a step of an epoch on."""
        images, labeled, unlabeled = self.data.train_images, self.table.labeled_rows, self.table.unlabeled_rows
        return self.workers.batches(
            lambda shard: training_batches(
                images, labeled, unlabeled, stage, seed=self.config.seed, first_epoch=epoch, first_step=step, shard=shard
            )
        )

    def unlabeled(self) -> Batches:
        """(images, rows) of all unlabeled images, unaugmented."""
        return self._unaugmented(self.data.train_images, self.table.unlabeled_rows)

    def test(self) -> Batches:
        """(images, places) of all test images; a place is the image's number among them."""
        return self._unaugmented(self.data.test_images, np.arange(len(self.data.test_labels)))

    def held_out(self, held_out: HeldOut) -> Batches:
        """(images, places) of the images whose labels are held out, as of test images."""
        return self._unaugmented(held_out.data.train_images, np.arange(len(held_out.labels)))

    def _unaugmented(self, images: Images, rows: np.ndarray) -> Batches:
        size = self.config.eval_batch_size
        return self.workers.batches(lambda shard: prediction_batches(images, rows, size, shard=shard))
