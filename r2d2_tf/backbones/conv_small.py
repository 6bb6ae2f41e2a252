"""A network of six convolutions, small enough to train on a CPU. It is of no paper."""

import keras
from keras import layers

from r2d2_tf.backbones.layers import LayerMaker, conv, dense


def conv_small(image_shape: tuple[int, int, int], num_classes: int, batch_norm: LayerMaker) -> keras.Model:
    """Two 3x3 convolutions at each of 16, 32 and 64 channels, on a half, a quarter and an eighth of the image's side.

    72,954 parameters and 2.5 million multiply-adds at 32x32x3 and 10 classes.
    """
    body = []
    for filters in (16, 32, 64):
        for strides in (2, 1):
            body += [conv(filters, 3, strides=strides, padding="same"), batch_norm(), layers.ReLU()]
    body.append(layers.GlobalAveragePooling2D())
    return keras.Sequential([keras.Input(image_shape), *body, dense(num_classes)], name="conv_small")
