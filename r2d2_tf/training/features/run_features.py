"""The features of a run's images: which, where they are kept, and how long they take."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from r2d2_tf.config.config import Config
from r2d2_tf.data import cache
from r2d2_tf.data.image_data import ImageData
from r2d2_tf.data.photographs import Photographs
from r2d2_tf.system import provenance
from r2d2_tf.training import pipeline
from r2d2_tf.training.callbacks.collapse import RunStopped
from r2d2_tf.training.features.computing import BATCH, FeatureComputer
from r2d2_tf.training.features.features import CENTRAL, Features, Views, keys_of
from r2d2_tf.training.features.store import FeatureStore

_CHUNK = 4096
"""Rows whose features are summed up at once."""
_PARTS = ("train_images", "test_images")


class RunFeatures:
    """Features of the training images in all views, and of the test images, and of those held out, as they are.

    Args:
        config: of the run.
        data: its images.
        body: pixels to features.
        check: see FeatureComputer.
    """

    def __init__(self, config: Config, data: ImageData, body: keras.Model, check: Callable[[], object]) -> None:
        self.config, self.data, self.body, self.check = config, data, body, check

    @property
    def _width(self) -> int:
        return self.body.output_shape[-1]

    @property
    def text(self) -> str:
        """What is computed, for people."""
        views, folder = self.config.feature_views, cache.own_folder()
        kept = f", kept for later runs in {folder}" if folder else ""
        return (
            f"{self._width:,} of {len(self.data.train_images):,} training images{f' in {views} views' * (views > 1)} and of "
            f"{len(self.data.test_images):,} test images{kept}"
        )

    def fingerprint(self) -> str:
        """16 hexadecimal digits of the weights that they depend on."""
        return provenance.digest_of(self.body.get_weights())

    def computed(self) -> tuple[ImageData, np.ndarray, np.ndarray]:
        """The run's data, features in the place of images; those that are not kept from before take their time.

        And mean and standard deviation of each feature over the training images in all views, `[width]`.

        Raises:
            RunStopped: if they are not finite.
            OSError: if they cannot be written.
        """
        try:
            found = self._computer.features(self._parts())
        except ValueError as error:
            raise RunStopped(str(error), rate_matters=False) from error
        return self._with(found), *moments(found[0])

    def missing(self) -> int:
        """How many images and views have not been computed yet; writes nothing."""
        return self._computer.missing([keys_of(images, names) for images, names in self._parts()])

    def seconds_a_view(self) -> float:
        """That one took to be computed; where all were kept from before, a batch of them is computed to be timed."""
        if not self._computer.seconds_a_view:
            self.try_batches(1)
            began = time.perf_counter()
            images = self.try_batches(1)
            self._computer.seconds_a_view = (time.perf_counter() - began) / images
        return self._computer.seconds_a_view

    def try_batches(self, count: int) -> int:
        """Computes the features of so many batches and forgets them; returns how many images they had."""
        rows = np.arange(count * BATCH) % len(self.data.train_images)
        for pixels, _ in pipeline.prediction_batches(self.data.train_images, rows, BATCH):
            self._computer.forward(pixels)
        return len(rows)

    def stand_in(self) -> ImageData:
        """The run's data with numbers in the place of features, for who times their training."""
        numbers = np.random.default_rng(0).normal(size=(BATCH, self._width)).astype(np.float32)
        counts = (len(getattr(self.data, name)) for name in _PARTS)
        return self._with([Features(numbers, np.arange(count)[:, None] % BATCH) for count in counts])

    def _with(self, features: list[Features]) -> ImageData:
        images: dict[str, Any] = dict(zip(_PARTS, features, strict=False))
        if (held_out := self.data.held_out) is not None and len(features) > len(_PARTS):
            own: Any = features[-1]
            held_out = dataclasses.replace(held_out, data=dataclasses.replace(held_out.data, train_images=own))
        return dataclasses.replace(self.data, **images, held_out=held_out)

    def _parts(self) -> list[tuple[np.ndarray | tf.Tensor | Photographs, list[str]]]:
        apart = [] if self.data.held_out is None else [(self.data.held_out.data.train_images, [CENTRAL])]
        own = (self.data.train_images, self._views.names(self.data.train_images))
        return [own, (self.data.test_images, [CENTRAL]), *apart]

    @property
    def _views(self) -> Views:
        config = self.config
        return Views(
            config.feature_views,
            flip=config.flip,
            translate=config.translate,
            crop_scale=config.crop_scale,
            border=config.translate_border,
        )

    @functools.cached_property
    def _computer(self) -> FeatureComputer:
        store = FeatureStore(cache.own_folder(), self._name_of_store(), self._width)
        return FeatureComputer(self.body, self._views, store, self.check)

    def _name_of_store(self) -> str:
        """A file's name, of all that features depend on beside an image and its view."""
        images = self.data.train_images
        seen = [images.size, images.resize] if isinstance(images, Photographs) else []
        layers = [layer for layer in self.body._flatten_layers() if not isinstance(layer, keras.Model)]
        # Keras counts in their names what a process has made.
        described = [(type(layer).__name__, layer.get_config() | {"name": ""}) for layer in layers]
        how = provenance.digest_of([np.frombuffer(repr((described, seen, tf.__version__)).encode(), np.uint8)])
        return f"r2d2_tf-features-{self.fingerprint()}-{how}.bin"


def moments(features: Features) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature over all images and views, `[width]` float64."""
    places = features.places.ravel()
    chunks = [places[start : start + _CHUNK] for start in range(0, len(places), _CHUNK)]
    mean = sum(features.numbers[chunk].sum(0, np.float64) for chunk in chunks) / len(places)
    squares = sum(np.square(features.numbers[chunk] - mean).sum(0) for chunk in chunks)
    return mean, np.sqrt(squares / len(places))
