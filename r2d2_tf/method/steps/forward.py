"""From images to logits, whatever the network and however many images a replica has."""

import contextlib
import inspect

import keras
import tensorflow as tf

from r2d2_tf.backbones.layers import NUM_IMAGES
from r2d2_tf.method.steps.checks import check_logits
from r2d2_tf.method.steps.replica_seeds import own_numbers


class Forward:
    """Calls a network on a replica's images, which may be none: `[batch, ...]` to logits, `[batch, classes]` float32."""

    def __init__(self, network: keras.Model, num_replicas: int, num_classes: int) -> None:
        self._network, self._num_replicas, self._num_classes = network, num_replicas, num_classes
        # One of somebody's own class may take nothing but images.
        parameters = inspect.signature(network.call).parameters
        takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
        self._arguments = [NUM_IMAGES] if takes_any or NUM_IMAGES in parameters else []

    def __call__(self, images: tf.Tensor, *, training: bool) -> tf.Tensor:
        # Where a last batch has fewer images than there are replicas, a replica gets none, and oneDNN's convolution
        # fails on an empty batch: show it one blank image, whose logits nobody sees. `num_images` keeps the blank out of
        # statistics that replicas share.
        count = tf.shape(images)[0]
        if self._num_replicas == 1:
            # It has at least one image, and a copy of all would cost a small network a hundredth of its step.
            return self._output(images, training, count)
        blank = tf.cast(count == 0, tf.int32)
        padded = tf.pad(images, [[0, blank], *[[0, 0]] * (images.shape.rank - 1)])
        with own_numbers(self._network) if training else contextlib.nullcontext():
            return self._output(padded, training, count)[:count]

    def _output(self, images: tf.Tensor, training: bool, count: tf.Tensor) -> tf.Tensor:
        output = self._network(images, training=training, **dict.fromkeys(self._arguments, count))
        check_logits(output.shape, self._num_classes)
        return tf.cast(output, tf.float32)
