"""What a pretrained network wants of its pixels, as layers in front of it."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from r2d2_tf.backbones.layers import Normalization

COLORS = 3
"""Channels that pretrained networks are made for."""


@keras.saving.register_keras_serializable(package="r2d2_tf")
class ChannelOrder(keras.layers.Layer):
    """Takes channels of `[batch, height, width, channels]` in another order, or several times.

    Args:
        order: for each channel that goes out, the number of the one that came.
    """

    def __init__(self, order: list[int], **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.order = list(order)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """`[batch, height, width, len(order)]`."""
        return tf.gather(images, self.order, axis=-1)

    def get_config(self) -> dict[str, object]:
        """For saving."""
        return {**super().get_config(), "order": self.order}


Preprocess = Callable[[np.ndarray], np.ndarray]
"""Such as `keras.applications.resnet.preprocess_input`."""


def layers_for(preprocess: Preprocess, channels: int) -> list[keras.layers.Layer]:
    """Layers that do to pixels 0..255 what `preprocess` does; grey is repeated as red, green and blue.

    Args:
        preprocess: of the network; it takes colors alone.
        channels: of the images: 1, grey, or 3, red, green and blue.

    Raises:
        ValueError: for another number of channels.
    """
    if channels not in (1, COLORS):
        raise ValueError(f"the network takes grey or color images, not {channels} channels: choose another --backbone")
    order, scale, offset = _as_numbers(preprocess)
    order = [min(channel, channels - 1) for channel in order]
    layers: list[keras.layers.Layer] = []
    if order != list(range(channels)):
        layers.append(ChannelOrder(order, name="channels"))
    if scale != [1.0] * COLORS or offset != [0.0] * COLORS:
        layers.append(Normalization(scale, offset, name="normalize"))
    return layers


def _as_numbers(preprocess: Preprocess) -> tuple[list[int], list[float], list[float]]:
    """`preprocess`, found by trying four colors: the channel that each is made of, and a factor and a summand each."""
    # In float64, and a copy, as it writes over what it gets.
    black, *bright = (preprocess(color.reshape(1, 1, 1, COLORS).copy()).ravel() for color in _COLORS)
    slopes = np.array([color - black for color in bright]) / 255.0
    order = np.abs(slopes).argmax(0)
    return order.tolist(), slopes[order, np.arange(COLORS)].tolist(), black.tolist()


_COLORS = np.concatenate([np.zeros((1, COLORS)), 255.0 * np.eye(COLORS)])
"""Black, and each channel alone at its brightest."""
