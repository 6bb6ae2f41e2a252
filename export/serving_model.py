"""ServingModel: what is exported. Encoded or decoded images in; logits, probabilities and the names of classes out."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from r2d2_tf.photographs import central_crop, decode


@dataclass(frozen=True)
class ServingModel:
    """A network with all that stands before and behind it when it serves.

    Normalising is the network's own first layer, so it takes pixels; training, evaluation and every export share it.

    Attributes:
        network: uint8 `[batch, height, width, channels]` to logits `[batch, classes]`; see `in_float32`.
        class_names: in the order of the logits.
        representative: images of the training set, `[images, height, width, channels]` uint8, by which 8-bit formats choose
            their scales; empty if none is written.
        resize_shorter_side: photographs are resized so, in pixels, and their central square is cut out; None: encoded
            images have the network's own size.
    """

    network: keras.Model
    class_names: Sequence[str]
    representative: np.ndarray
    resize_shorter_side: int | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        height, width, channels = self.network.input_shape[1:]
        return height, width, channels

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """`[batch, classes]` float32 of `[batch, *image_shape]` uint8."""
        return self.network(images, training=False)

    def probabilities(self, images: tf.Tensor) -> tf.Tensor:
        """`[batch, classes]` float32 of `[batch, *image_shape]` uint8."""
        return tf.nn.softmax(self.logits(images))

    def classify(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """`probabilities` `[batch, classes]` float32; `class_index` int64 and `class_name` string of the largest, `[batch]`."""
        probabilities = self.probabilities(images)
        index = tf.argmax(probabilities, axis=1)
        return {"probabilities": probabilities, "class_index": index, "class_name": tf.gather([*self.class_names], index)}

    def classify_bytes(self, encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        """As `classify`, of encoded images (JPEG, PNG), `[batch]` string."""
        of_one = tf.TensorSpec(self.image_shape, tf.uint8)
        return self.classify(tf.map_fn(self._pixels, encoded, fn_output_signature=of_one))

    def _pixels(self, encoded: tf.Tensor) -> tf.Tensor:
        image = decode(encoded)
        height, width, channels = self.image_shape
        if self.resize_shorter_side is not None:
            return central_crop(image, self.resize_shorter_side, height)
        came = tf.shape(image)
        takes = f"the model takes {width}x{height} pixels (width x height); an image came of"
        tf.debugging.Assert(tf.reduce_all(came[:2] == [height, width]), [takes, came[1], "x", came[0]])
        return tf.ensure_shape(_grey(image) if channels == 1 else image, self.image_shape)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Probabilities `[images, classes]` of `[images, *image_shape]` uint8: what exports are held against."""
        return self._traced(tf.constant(images)).numpy()

    @functools.cached_property
    def _traced(self) -> Callable[[tf.Tensor], tf.Tensor]:
        images = tf.TensorSpec([None, *self.image_shape], tf.uint8)
        return tf.function(self.probabilities, [images], jit_compile=False)


def _grey(image: tf.Tensor) -> tf.Tensor:
    """ITU-R 601-2 luma in Pillow's integers, so that `export.inference` sees the same pixels; of a grey image itself."""
    weighted = tf.tensordot(tf.cast(image, tf.int32), tf.constant([19595, 38470, 7471]), 1)
    return tf.cast((weighted + 0x8000) // 0x10000, tf.uint8)[..., None]


def in_float32(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Turns a network to compute in float32, as its weights are: TensorFlow Lite has no convolutions in 16 bits. Returns it."""
    layer.dtype_policy = "float32"
    for part in getattr(layer, "layers", ()):
        in_float32(part)
    return layer
