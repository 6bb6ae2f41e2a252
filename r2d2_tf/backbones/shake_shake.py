"""Shake-Shake-26 (Gastaldi 2017) as R2-D2's authors built it."""

import keras
from keras import initializers, layers

from r2d2_tf.backbones.layers import LayerMaker, ShakeShake, authors_head, bias_initializer, conv


def shake_shake_26_2x96d(image_shape: tuple[int, int, int], num_classes: int, batch_norm: LayerMaker) -> keras.Model:
    """The paper's network for CIFAR-10. 26,193,466 parameters at 32x32x3 and 10 classes."""
    return _build(image_shape, num_classes, batch_norm, 96, "shake_shake_26_2x96d")


def shake_shake_26_2x32d(image_shape: tuple[int, int, int], num_classes: int, batch_norm: LayerMaker) -> keras.Model:
    """The same at a third of the width."""
    return _build(image_shape, num_classes, batch_norm, 32, "shake_shake_26_2x32d")


def _build(
    image_shape: tuple[int, int, int], num_classes: int, batch_norm: LayerMaker, base_width: int, name: str
) -> keras.Model:
    images = keras.Input(image_shape)
    x = conv(16, 3, padding="same")(images)
    for width, strides in ((base_width, 1), (2 * base_width, 2), (4 * base_width, 2)):
        for block in range(4):
            x = _block(x, width, strides if block == 0 else 1, batch_norm)
    return keras.Model(images, authors_head(num_classes, x.shape[-1])(layers.GlobalAveragePooling2D()(x)), name=name)


def _block(x: keras.KerasTensor, width: int, strides: int, batch_norm: LayerMaker) -> keras.KerasTensor:
    mixed = ShakeShake()(tuple(_branch(x, width, strides, batch_norm) for _ in range(2)))
    return layers.add([mixed, _skip(x, width, strides, batch_norm)])


def _branch(x: keras.KerasTensor, width: int, strides: int, batch_norm: LayerMaker) -> keras.KerasTensor:
    y = layers.ZeroPadding2D(1)(layers.ReLU()(x))
    y = layers.ReLU()(batch_norm()(conv(width, 3, strides=strides)(y)))
    return batch_norm()(conv(width, 3, padding="same")(y))


def _skip(x: keras.KerasTensor, width: int, strides: int, batch_norm: LayerMaker) -> keras.KerasTensor:
    if strides == 1:
        return x if x.shape[-1] == width else batch_norm()(conv(width, 1)(x))
    # Every second pixel, and every second pixel one step down and right, each through its own half of a grouped 1x1
    # convolution: written as two, since grouped convolution has been a gap of TensorFlow on CPUs.
    shifted = layers.Cropping2D(((1, 0), (1, 0)))(x)
    halves = [_half(width, x.shape[-1])(layers.ReLU()(layers.MaxPooling2D(1, strides=2)(y))) for y in (x, shifted)]
    return batch_norm()(layers.concatenate(halves))


def _half(width: int, channels: int) -> layers.Layer:
    """Half of a grouped 1x1 convolution from 2 * `channels` to `width`; weights are drawn for the outputs of both halves."""
    both_halves = initializers.VarianceScaling(1.0, "fan_out", "untruncated_normal")
    return layers.Conv2D(width // 2, 1, kernel_initializer=both_halves, bias_initializer=bias_initializer(channels))
