"""Features of images in place of their pixels, several views each; and the views that there are."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from r2d2_tf.data import looking
from r2d2_tf.data.image_data import SYMMETRIC
from r2d2_tf.data.photographs import Photographs

CENTRAL, MIRRORED = "central", "mirrored"


@dataclass(frozen=True)
class Features:
    """What the body of a network makes of images, read when it is needed.

    Attributes:
        numbers: features, `[records, width]` float32; may lie in a file.
        places: of each image's views among them, `[rows, views]`; view 0 is what evaluation sees.
    """

    numbers: np.ndarray
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    @property
    def width(self) -> int:
        return self.numbers.shape[1]

    def central(self, rows: tf.Tensor) -> tf.Tensor:
        """View 0: `[batch]` to `[batch, width]` float32."""
        return self._of(rows, tf.zeros_like(rows))

    def drawn(self, rows: tf.Tensor, seed: tf.Tensor, *, first: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        """A random view of each row of a stretch of a batch: the one that it would have within the whole.

        Args:
            rows: of the stretch.
            seed: of the batch, `[2]`.
            first: place of the stretch in the batch.
            batch: images in the batch.
        """
        views = tf.random.stateless_uniform([batch], seed, 0, self.places.shape[1], tf.int64)
        return self._of(rows, views[first : first + tf.shape(rows)[0]])

    def _of(self, rows: tf.Tensor, views: tf.Tensor) -> tf.Tensor:
        def gather(rows: np.ndarray, views: np.ndarray) -> np.ndarray:
            return self.numbers[self.places[rows, views]]

        # stateful=False: what has no state may run in parallel where operations are to be deterministic.
        features = tf.numpy_function(gather, [rows, views], tf.float32, stateful=False)
        return tf.ensure_shape(features, [None, self.width])


@dataclass(frozen=True)
class Views:
    """The views in which a training image's features are computed: as evaluation sees it, mirrored, and at random.

    Attributes:
        count: of all of them.
        flip: whether mirror images are of the same class.
        translate: most pixels that a random view of an image of a fixed size is moved.
        border: what enters there, one of image_data.BORDERS.
        crop_scale: smallest share of the area in a random view of a photograph.
    """

    count: int
    flip: bool
    translate: int
    crop_scale: float
    border: str = SYMMETRIC

    def names(self, images: np.ndarray | tf.Tensor | Photographs) -> list[str]:
        """Each says all that a view depends on beside the image."""
        # Features of before there was another border keep their name.
        how = f"translate {self.translate}{f', {self.border}' if self.border != SYMMETRIC else ''}"
        if isinstance(images, Photographs):
            how = f"crop {self.crop_scale:g} of {images.crop_side}"
        plain = [CENTRAL, MIRRORED] if self.flip else [CENTRAL]
        rest = [f"random {number}, {how}, flip {self.flip}" for number in range(self.count - len(plain))]
        return [*plain, *rest][: self.count]


def keys_of(images: np.ndarray | tf.Tensor | Photographs, views: Sequence[str]) -> np.ndarray:
    """A number of 64 bits for each image in each view, `[images, views]` uint64: a hash of what is seen."""
    salts = np.array([_hash(name.encode()) for name in views], np.uint64)
    return _digests(images)[:, None] ^ salts


def _digests(images: np.ndarray | tf.Tensor | Photographs) -> np.ndarray:
    if isinstance(images, Photographs):
        return looking.digests_of(images)
    pixels = np.ascontiguousarray(images)
    return np.array([_hash(image.data) for image in pixels], np.uint64) ^ np.uint64(_hash(repr(pixels.shape[1:]).encode()))


def _hash(content: bytes | memoryview) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")
