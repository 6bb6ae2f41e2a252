"""Computes features of images: each view of an image once, the rest is kept from before."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from r2d2_tf.data import augment
from r2d2_tf.data.photographs import NO_ROW, PARALLEL, Photographs
from r2d2_tf.training import pipeline
from r2d2_tf.training.features.features import CENTRAL, MIRRORED, Features, Views, keys_of
from r2d2_tf.training.features.store import Append, FeatureStore

BATCH = 64
"""Images that the body sees at once."""
_DELAY, _PATIENCE = 1, 0.5
"""Seconds before a progress bar is shown, and between two looks at whether another process is done."""
Images: TypeAlias = np.ndarray | tf.Tensor | Photographs
Forward: TypeAlias = Callable[[tf.Tensor], tf.Tensor]


def forward_of(body: keras.Model) -> Forward:
    """The body in evaluation, compiled: pixels `[batch, *image_shape]` uint8 to features `[batch, width]` float32."""

    def forward(pixels: tf.Tensor) -> tf.Tensor:
        return tf.cast(body(pixels, training=False), tf.float32)

    # jit_compile: XLA's convolutions take longer on a CPU.
    pixels = tf.TensorSpec([None, *body.input_shape[1:]], tf.uint8)
    return tf.function(forward, input_signature=[pixels], jit_compile=False)


class FeatureComputer:
    """Gives the features of images in views, from a file or, where it has them not, from the network's body.

    Args:
        body: pixels to features.
        views: of training images.
        store: where features are kept.
        check: called again and again: what it raises ends the computation, which a later one goes on with.

    Attributes:
        seconds_a_view: that the last computation took; 0 before there was one.
    """

    def __init__(self, body: keras.Model, views: Views, store: FeatureStore, check: Callable[[], object]) -> None:
        self.seconds_a_view = 0.0
        self.views, self.store, self.check = views, store, check
        self.forward = forward_of(body)

    def features(self, parts: Sequence[tuple[Images, Sequence[str]]]) -> list[Features]:
        """The features of each part: images, and the names of the views that are wanted of them.

        Raises:
            ValueError: if a feature is not finite.
            OSError: if the file cannot be written.
        """
        keys = [keys_of(images, names) for images, names in parts]
        if self.missing(keys):
            self._compute(parts, keys)
        numbers = self.store.records()["features"]
        return [Features(numbers, self.store.places(own)) for own in keys]

    def missing(self, keys: Sequence[np.ndarray]) -> int:
        """How many views have not been computed yet."""
        return sum(len(np.unique(own[self.store.places(own) < 0])) for own in keys)

    def _compute(self, parts: Sequence[tuple[Images, Sequence[str]]], keys: Sequence[np.ndarray]) -> None:
        began, count = time.perf_counter(), self.missing(keys)
        self.store.check_room(count)
        with (
            self.store.growing(self._wait) as append,
            # disable=None: no bar where the output is a file.
            tqdm(total=count, desc="computing features", unit=" views", delay=_DELAY, leave=False, disable=None) as bar,
        ):
            for (images, names), own in zip(parts, keys, strict=True):
                wanted = _first_of_each(own, self.store.places(own) < 0)
                for done in self._computed(images, names, own, wanted, append):
                    bar.update(done)
                    self.check()
        self.seconds_a_view = (time.perf_counter() - began) / count

    def _wait(self) -> None:
        self.check()
        time.sleep(_PATIENCE)

    def _computed(
        self, images: Images, names: Sequence[str], keys: np.ndarray, wanted: np.ndarray, append: Append
    ) -> Iterator[int]:
        """Appends the features of the views that are `wanted`, `[rows, views]`; gives how many, batch by batch."""
        plain = [number for number, name in enumerate(names) if name in (CENTRAL, MIRRORED)]
        rows = np.flatnonzero(wanted[:, plain].any(1))
        for pixels, those in pipeline.prediction_batches(images, rows, BATCH) if len(rows) else ():
            for view in plain:
                # One picture, decoded once, and its mirror image.
                seen = pixels if names[view] == CENTRAL else tf.reverse(pixels, [2])
                yield self._append(seen, those.numpy(), view, keys, wanted, append)
        for view in sorted({*range(len(names))} - {*plain}):
            rows = np.flatnonzero(wanted[:, view])
            for pixels, those in _random_views(images, rows, keys[:, view], self.views) if len(rows) else ():
                yield self._append(pixels, those.numpy(), view, keys, wanted, append)

    def _append(
        self, pixels: tf.Tensor, rows: np.ndarray, view: int, keys: np.ndarray, wanted: np.ndarray, append: Append
    ) -> int:
        new = np.flatnonzero(wanted[rows, view])
        if not len(new):
            return 0
        features = self.forward(pixels).numpy()[new]
        if not np.isfinite(features).all():
            raise ValueError("the network gives features that are not finite (NaN or infinite): change --weights")
        append(keys[rows[new], view], features)
        return len(new)


def _first_of_each(keys: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Of the views that are `missing`, one of those that are alike: `[rows, views]` bool."""
    places = np.flatnonzero(missing)
    _, first = np.unique(keys.ravel()[places], return_index=True)
    wanted = np.zeros(missing.size, bool)
    wanted[places[first]] = True
    return wanted.reshape(missing.shape)


def _random_views(images: Images, rows: np.ndarray, keys: np.ndarray, views: Views) -> tf.data.Dataset:
    """Batches (pixels, rows) of one random view of each row, which its key, `[images]` uint64, alone decides."""
    flips = (keys[rows] >> np.uint64(63)).astype(bool) & views.flip
    if isinstance(images, Photographs):
        seeds = np.stack([keys[rows] & np.uint64(0x7FFFFFFF), keys[rows] >> np.uint64(33)], 1).astype(np.int32)
        filled = -(-len(rows) // BATCH) * BATCH
        columns = [_filled(rows, filled, NO_ROW), _filled(seeds, filled, 0), _filled(flips, filled, False)]
        batches = tf.data.Dataset.from_tensor_slices(tuple(column.reshape(-1, BATCH, *column.shape[1:]) for column in columns))
        return pipeline.read_ahead(images.random_batches(batches, BATCH, views.crop_scale).map(_flipped, **PARALLEL))
    reach = 2 * views.translate + 1
    shifts = np.stack([keys[rows] % np.uint64(reach), (keys[rows] >> np.uint64(32)) % np.uint64(reach)], 1)
    plain = pipeline.plain_images(images)
    batches = tf.data.Dataset.from_tensor_slices((rows, shifts.astype(np.int32) - views.translate, flips)).batch(BATCH)

    def moved(rows: tf.Tensor, shifts: tf.Tensor, flips: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return augment.flip(augment.translate(plain(rows), shifts, views.border), flips), rows

    return pipeline.read_ahead(batches.map(moved, **PARALLEL))


def _filled(values: np.ndarray, length: int, filler: object) -> np.ndarray:
    padded = np.full((length, *values.shape[1:]), filler, values.dtype)
    padded[: len(values)] = values
    return padded


def _flipped(pixels: tf.Tensor, rows: tf.Tensor, flips: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return pipeline.without_fillers(augment.flip(pixels, flips), rows)
