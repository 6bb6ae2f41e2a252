"""ServingModel: what is exported. Encoded or decoded images in; logits, probabilities and the names of classes out."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from export.image_size import size_of
from r2d2_tf.data.decoding import MOST_LENGTHS, MOST_PIXELS, central_crop, decode


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
        as_shown: encoded images are decoded as a viewer shows them; see `decode`.
    """

    network: keras.Model
    class_names: Sequence[str]
    representative: np.ndarray
    resize_shorter_side: int | None = None
    as_shown: bool = True

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
        # One at a time: ten large ones at once take ten times the memory.
        return self.classify(tf.map_fn(self._pixels, encoded, fn_output_signature=of_one, parallel_iterations=1))

    def _pixels(self, encoded: tf.Tensor) -> tf.Tensor:
        height, width, channels = self.image_shape
        # A small file may hold an image that fills the memory: it is refused before it is decoded.
        with tf.control_dependencies([self._size_is_allowed(size_of(encoded))]):
            image = decode(tf.identity(encoded), as_shown=self.as_shown)
        if self.resize_shorter_side is not None:
            return central_crop(image, self.resize_shorter_side, height)
        # A picture that is turned has its sides the other way round.
        fits = tf.debugging.Assert(tf.reduce_all(tf.shape(image)[:2] == [height, width]), [self._takes()])
        with tf.control_dependencies([fits]):
            image = tf.ensure_shape(tf.identity(image), [height, width, 3])
        return _grey(image) if channels == 1 else image

    def _size_is_allowed(self, size: tf.Tensor) -> tf.Operation:
        came = tf.strings.format("an image came of {}x{} pixels", [size[1], size[0]])
        if self.resize_shorter_side is None:
            height, width, _ = self.image_shape
            allowed, takes = tf.reduce_all(tf.sort(size) == sorted((height, width))), self._takes()
        else:
            long, short = tf.reduce_max(size), tf.reduce_min(size)
            # The product of two numbers of 32 bits may be too large for 64.
            allowed = (long <= MOST_PIXELS) & (long * short <= MOST_PIXELS) & (long <= MOST_LENGTHS * short)
            takes = f"; it may have {MOST_PIXELS:,} in all, and one side be {MOST_LENGTHS} times the other"
        # What is no image at all is told by the decoder.
        return tf.debugging.Assert(allowed | tf.reduce_all(size == 0), [tf.strings.join([came, takes])])

    def _takes(self) -> str:
        return f"; the model takes {self.image_shape[1]}x{self.image_shape[0]}"

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
