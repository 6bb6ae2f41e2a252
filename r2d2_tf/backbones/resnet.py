"""Residual networks: ResNet-18 (He et al. 2016), WRN-28-2 and WRN-16-2 (Zagoruyko and Komodakis 2016)."""

import keras
from keras import layers

from r2d2_tf.backbones.layers import LayerMaker, conv, dense


def resnet18(image_shape: tuple[int, int, int], num_classes: int, batch_norm: LayerMaker) -> keras.Model:
    """ResNet-18 for photographs. 11,689,512 parameters at 224x224x3 and 1000 classes."""
    images = keras.Input(image_shape)
    x = layers.ZeroPadding2D(3)(images)
    x = layers.ReLU()(batch_norm()(conv(64, 7, strides=2)(x)))
    x = layers.MaxPooling2D(3, strides=2)(layers.ZeroPadding2D(1)(x))
    for width, strides in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        x = _basic_block(x, width, strides, batch_norm)
    return keras.Model(images, dense(num_classes)(layers.GlobalAveragePooling2D()(x)), name="resnet18")


def _conv3(x: keras.KerasTensor, width: int, strides: int) -> keras.KerasTensor:
    # Padded by hand: with strides, Keras' "same" pads below and right only, the original all around.
    return conv(width, 3, strides=strides)(layers.ZeroPadding2D(1)(x))


def _basic_block(x: keras.KerasTensor, width: int, strides: int, batch_norm: LayerMaker) -> keras.KerasTensor:
    skip = x
    if strides != 1 or x.shape[-1] != width:
        skip = batch_norm()(conv(width, 1, strides=strides)(x))
    y = layers.ReLU()(batch_norm()(_conv3(x, width, strides)))
    y = batch_norm()(_conv3(y, width, 1))
    return layers.ReLU()(layers.add([y, skip]))


def wrn_28_2(image_shape: tuple[int, int, int], num_classes: int, batch_norm: LayerMaker) -> keras.Model:
    """Wide ResNet with 28 layers, twice as wide, leaky ReLU 0.1. 1,467,610 parameters at 32x32x3 and 10 classes."""
    return _wide_resnet(image_shape, num_classes, batch_norm, 4, "wrn_28_2")


def wrn_16_2(image_shape: tuple[int, int, int], num_classes: int, batch_norm: LayerMaker) -> keras.Model:
    """The same with 16 layers: 691,674 parameters at 32x32x3 and 10 classes."""
    return _wide_resnet(image_shape, num_classes, batch_norm, 2, "wrn_16_2")


def _wide_resnet(
    image_shape: tuple[int, int, int], num_classes: int, batch_norm: LayerMaker, blocks: int, name: str
) -> keras.Model:
    images = keras.Input(image_shape)
    x = _conv3(images, 16, 1)
    for width, strides in ((32, 1), (64, 2), (128, 2)):
        for block in range(blocks):
            x = _preactivated_block(x, width, strides if block == 0 else 1, batch_norm)
    x = layers.LeakyReLU(0.1)(batch_norm()(x))
    return keras.Model(images, dense(num_classes)(layers.GlobalAveragePooling2D()(x)), name=name)


def _preactivated_block(x: keras.KerasTensor, width: int, strides: int, batch_norm: LayerMaker) -> keras.KerasTensor:
    activated = layers.LeakyReLU(0.1)(batch_norm()(x))
    y = layers.LeakyReLU(0.1)(batch_norm()(_conv3(activated, width, strides)))
    y = _conv3(y, width, 1)
    skip = x if x.shape[-1] == width else conv(width, 1, strides=strides)(activated)
    return layers.add([y, skip])
