"""A network of six convolutions, small enough to train on a CPU. It is of no paper."""

import keras
from keras import layers

from r2d2_tf.backbones.layers import batch_norm, conv, dense


def conv_small(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Two 3x3 convolutions at each of 16, 32 and 64 channels. 72,954 parameters and 10 MMAC at 32x32x3 and 10 classes."""
    body = []
    for filters in (16, 32, 64):
        for _ in range(2):
            body += [conv(filters, 3, padding="same"), batch_norm(), layers.ReLU()]
        body.append(layers.MaxPooling2D())
    body[-1] = layers.GlobalAveragePooling2D()
    return keras.Sequential([keras.Input(image_shape), *body, dense(num_classes)], name="conv_small")
