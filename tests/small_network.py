"""A network for runs in which it is not the point; in a process that a test starts, PYTHONPATH leads to it."""

import keras

from r2d2_tf.backbones.layers import conv, dense


def strided(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """A convolution and a linear layer; of images of 28x28 pixels, 8x6x6 features."""
    layers = [keras.Input(image_shape), conv(8, 5, strides=4), keras.layers.ReLU(), keras.layers.Flatten(), dense(num_classes)]
    return keras.Sequential(layers, name="strided")
