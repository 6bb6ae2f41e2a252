"""EfficientNet-Lite 0 to 2 (Liu 2020): EfficientNet (Tan and Le 2019) for small devices: ReLU6, no squeeze and excitation."""

import math
import re

import keras
import numpy as np
from keras import layers

from r2d2_tf.backbones.layers import LayerMaker, conv, dense, depthwise_conv

_BLOCKS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Groups of blocks of Lite0: how many, kernel size, strides of the first, times as wide within, width."""
_DROP_BLOCK = 0.2
"""Share of images for which a block at the very end would be left out in training; less in proportion before it."""


def preprocess_input(pixels: np.ndarray) -> np.ndarray:
    """From pixels 0..255 to what ImageNet's weights were trained on."""
    return (pixels - 127.0) / 128.0


def torch_name(layer: str) -> str:
    """What a layer that is named here as in `blocks_3_expand_conv` is named in PyTorch: `_blocks.3._expand_conv`."""
    return re.sub(r"^_blocks_(\d+)_", r"_blocks.\1._", f"_{layer}")


def efficientnet_lite0(image_shape: tuple[int, int, int], num_classes: int, batch_norm: LayerMaker) -> keras.Model:
    """4,652,008 parameters at 1000 classes; 224 pixels."""
    return _build(image_shape, num_classes, batch_norm, "efficientnet_lite0", width=1.0, depth=1.0, dropout=0.2)


def efficientnet_lite1(image_shape: tuple[int, int, int], num_classes: int, batch_norm: LayerMaker) -> keras.Model:
    """The same, deeper; 240 pixels."""
    return _build(image_shape, num_classes, batch_norm, "efficientnet_lite1", width=1.0, depth=1.1, dropout=0.2)


def efficientnet_lite2(image_shape: tuple[int, int, int], num_classes: int, batch_norm: LayerMaker) -> keras.Model:
    """The same, deeper and wider; 260 pixels."""
    return _build(image_shape, num_classes, batch_norm, "efficientnet_lite2", width=1.1, depth=1.2, dropout=0.3)


def _build(
    image_shape: tuple[int, int, int],
    num_classes: int,
    batch_norm: LayerMaker,
    name: str,
    *,
    width: float,
    depth: float,
    dropout: float,
) -> keras.Model:
    """Layers are named for `torch_name`. Stem and head are as wide, and first and last group as long, in all three."""

    def normalized(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        return batch_norm(momentum=0.99, epsilon=1e-3, name=name)(x)

    def block(
        x: keras.KerasTensor, at: str, kernel_size: int, strides: int, wider: int, filters: int, drop: float
    ) -> keras.KerasTensor:
        y, within = x, wider * x.shape[-1]
        if wider > 1:
            y = layers.ReLU(6.0)(normalized(conv(within, 1, name=f"{at}_expand_conv")(y), f"{at}_bn0"))
        y = depthwise_conv(kernel_size, strides=strides, name=f"{at}_depthwise_conv")(y)
        y = layers.ReLU(6.0)(normalized(y, f"{at}_bn1"))
        y = normalized(conv(filters, 1, name=f"{at}_project_conv")(y), f"{at}_bn2")
        if strides > 1 or x.shape[-1] != filters:
            return y
        return layers.add([layers.Dropout(drop, noise_shape=(None, 1, 1, 1))(y), x])

    images = keras.Input(image_shape)
    x = layers.ReLU(6.0)(normalized(conv(32, 3, strides=2, padding="same", name="conv_stem")(images), "bn0"))
    blocks = _blocks(width, depth)
    for number, sizes in enumerate(blocks):
        x = block(x, f"blocks_{number}", *sizes, drop=_DROP_BLOCK * number / len(blocks))
    x = layers.ReLU(6.0)(normalized(conv(1280, 1, name="conv_head")(x), "bn1"))
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(images, dense(num_classes, name="fc")(x), name=name)


def _blocks(width: float, depth: float) -> list[tuple[int, int, int, int]]:
    """Of each block: kernel size, strides, times as wide within, width."""
    blocks = []
    for group, (count, kernel_size, strides, wider, filters) in enumerate(_BLOCKS):
        repeats = count if group in (0, len(_BLOCKS) - 1) else math.ceil(depth * count)
        blocks += [
            (kernel_size, strides if first else 1, wider, _rounded(width * filters))
            for first in [True] + [False] * (repeats - 1)
        ]
    return blocks


def _rounded(filters: float) -> int:
    """The multiple of 8 that is nearest, or the next one if that would take over a tenth away."""
    nearest = int(filters + 4) // 8 * 8
    return nearest if nearest >= 0.9 * filters else nearest + 8
