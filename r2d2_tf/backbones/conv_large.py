"""ConvLarge, the 13-layer network of Laine and Aila (2017), in two flavors."""

from collections.abc import Callable

import keras
from keras import layers

from r2d2_tf.backbones.layers import (
    LayerMaker,
    WeightNormConv2D,
    WeightNormDense,
    authors_head,
    bias_initializer,
    conv,
    conv_initializer,
    dense_initializer,
)

ConvMaker = Callable[[int, int, str], layers.Layer]
FEATURES = 128


def conv_large(image_shape: tuple[int, int, int], num_classes: int, batch_norm: LayerMaker) -> keras.Model:
    """Plain convolutions without bias. 3,121,802 parameters at 32x32x3 and 10 classes."""
    return _build(
        image_shape,
        lambda filters, size, padding: conv(filters, size, padding=padding),
        authors_head(num_classes, FEATURES),
        batch_norm,
        "conv_large",
    )


def conv_large_weight_norm(image_shape: tuple[int, int, int], num_classes: int, batch_norm: LayerMaker) -> keras.Model:
    """Weight-normalised convolutions and head, with biases. 3,125,908 parameters at 32x32x3 and 10 classes."""

    def weight_norm_conv(filters: int, size: int, padding: str) -> layers.Layer:
        return WeightNormConv2D(filters, size, padding=padding, kernel_initializer=conv_initializer())

    head = WeightNormDense(num_classes, kernel_initializer=dense_initializer(), bias_initializer=bias_initializer(FEATURES))
    return _build(image_shape, weight_norm_conv, head, batch_norm, "conv_large_weight_norm")


def _build(
    image_shape: tuple[int, int, int], make_conv: ConvMaker, head: layers.Layer, batch_norm: LayerMaker, name: str
) -> keras.Model:
    def block(filters: int, size: int, padding: str) -> list[layers.Layer]:
        return [make_conv(filters, size, padding), batch_norm(), layers.LeakyReLU(0.1)]

    body = [
        *[layer for _ in range(3) for layer in block(128, 3, "same")],
        layers.MaxPooling2D(),
        layers.Dropout(0.5),
        *[layer for _ in range(3) for layer in block(256, 3, "same")],
        layers.MaxPooling2D(),
        layers.Dropout(0.5),
        *block(512, 3, "valid"),
        *block(256, 1, "valid"),
        *block(FEATURES, 1, "valid"),
        layers.GlobalAveragePooling2D(),
    ]
    return keras.Sequential([keras.Input(image_shape), *body, head], name=name)
