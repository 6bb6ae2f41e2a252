"""Networks of six convolutions, small enough to train on a CPU. They are of no paper."""

from collections.abc import Sequence

import keras
from keras import layers

from r2d2_tf.backbones.layers import LayerMaker, conv, dense


def conv_small(image_shape: tuple[int, int, int], num_classes: int, batch_norm: LayerMaker) -> keras.Model:
    """Two 3x3 convolutions at each of 16, 32 and 64 channels, on a half, a quarter and an eighth of the image's side.

    72,954 parameters and 2.5 million multiply-adds at 32x32x3 and 10 classes.
    """
    return _build(image_shape, num_classes, batch_norm, (16, 32, 64), "conv_small")


def conv_medium(image_shape: tuple[int, int, int], num_classes: int, batch_norm: LayerMaker) -> keras.Model:
    """The same with four times the channels: 1,148,874 parameters and 38 million multiply-adds."""
    return _build(image_shape, num_classes, batch_norm, (64, 128, 256), "conv_medium")


def _build(
    image_shape: tuple[int, int, int], num_classes: int, batch_norm: LayerMaker, widths: Sequence[int], name: str
) -> keras.Model:
    body = []
    for filters in widths:
        for strides in (2, 1):
            body += [conv(filters, 3, strides=strides, padding="same"), batch_norm(), layers.ReLU()]
    body.append(layers.GlobalAveragePooling2D())
    return keras.Sequential([keras.Input(image_shape), *body, dense(num_classes)], name=name)
