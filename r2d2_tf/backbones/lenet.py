"""LeNet (LeCun et al. 1998) in its usual modern form: two convolutions, ReLU, max pooling, 500 units."""

import keras
from keras import layers

from r2d2_tf.backbones.layers import LayerMaker, conv, dense


def lenet(image_shape: tuple[int, int, int], num_classes: int, batch_norm: LayerMaker) -> keras.Model:
    """LeNet. 431,080 parameters at 28x28x1 and 10 classes. It has no batch normalisation."""
    return keras.Sequential([keras.Input(image_shape), *_body(), dense(num_classes)], name="lenet")


def lenet_2d(image_shape: tuple[int, int, int], num_classes: int, batch_norm: LayerMaker) -> keras.Model:
    """LeNet whose last feature, in the layer `feature`, has two dimensions and can be drawn (fig. 2 of the paper)."""
    feature = layers.Dense(2, name="feature", kernel_initializer="glorot_uniform")
    return keras.Sequential([keras.Input(image_shape), *_body(), feature, dense(num_classes)], name="lenet_2d")


def _body() -> list[layers.Layer]:
    return [
        conv(20, 5, use_bias=True),
        layers.ReLU(),
        layers.MaxPooling2D(),
        conv(50, 5, use_bias=True),
        layers.ReLU(),
        layers.MaxPooling2D(),
        layers.Flatten(),
        dense(500),
        layers.ReLU(),
    ]
