"""Makes a network ready for 8 bits, so that TensorFlow Lite's own rounding loses less."""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np

from r2d2_tf.backbones.layers import Normalization

_LEVELS = 127
"""Of TensorFlow Lite's 8-bit weights, on either side of zero."""
_LAYERS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


def normalizing_at_once(network: keras.Model) -> keras.Model:
    """The same network, its layers shared, that normalizes pixels by a convolution of 1x1 pixels.

    By a product and then a sum, as in training, pixels would be rounded to 8 bits twice, by up to a level each time: on smooth
    images that is as much as their edges. A convolution keeps 32 bits until its end.

    Args:
        network: as `backbones.build` makes it: layers in a row.
    """
    pixels = images = keras.Input(network.input_shape[1:], name="pixels")
    for layer in network.layers[1:]:
        images = _convolution(layer, images.shape[1:])(images) if isinstance(layer, Normalization) else layer(images)
    return keras.Model(pixels, images)


def _convolution(layer: Normalization, shape: tuple[int, ...]) -> keras.layers.Layer:
    convolution = keras.layers.DepthwiseConv2D(1, name=layer.name)
    convolution.build((None, *shape))
    convolution.set_weights([np.reshape(layer.scale, (1, 1, -1, 1)), np.asarray(layer.offset)])
    return convolution


@contextlib.contextmanager
def rounded_kernels(network: keras.Model) -> Iterator[None]:
    """Within the block, the kernels of `network` are what 8 bits can hold, a scale a channel: the converter finds them so.

    It would round each weight to the nearest, and the errors of a filter would add up wherever its input is even, as in the
    sky: one of few weights, that finds edges, would answer there too. See `rounded`.
    """
    # One with weight normalization has no kernel of its own.
    layers = [layer for layer in network._flatten_layers() if isinstance(layer, _LAYERS)]
    before = [(layer, layer.kernel.numpy()) for layer in layers if isinstance(layer.kernel, keras.Variable)]
    for layer, weights in before:
        filters = weights.shape[-1] * (weights.shape[-2] if isinstance(layer, keras.layers.DepthwiseConv2D) else 1)
        layer.kernel.assign(rounded(weights.reshape(-1, filters)).reshape(weights.shape))
    try:
        yield
    finally:
        for layer, weights in before:
            layer.kernel.assign(weights)


def rounded(filters: np.ndarray) -> np.ndarray:
    """`[weights, filters]` on 8 bits, a scale a filter, by its largest weight: nearest, but that each filter keeps its sum.

    The sum keeps to half a level: as many weights as it takes go to their second nearest level, those first that lie about as
    near to it.
    """
    largest = np.abs(filters).max(0)
    exact = filters * (_LEVELS / np.where(largest, largest, 1.0))
    levels = np.round(exact)
    lacking = np.round((exact - levels).sum(0))
    gain = (exact - levels) * np.sign(lacking)
    # The largest stays, as the scale is its.
    gain[np.abs(levels) == _LEVELS] = -1.0
    place = np.argsort(np.argsort(-gain, 0), 0)
    levels += np.sign(lacking) * (place < np.abs(lacking))
    return levels * (largest / _LEVELS)
