"""The last layer of a network, to be trained by itself on the features that the rest, its body, gives."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from r2d2_tf.backbones.layers import dense, features_of, head_of
from r2d2_tf.system.messages import mistake

_LEAST_DEVIATION = 0.01
"""Of a feature, as a share of the median one: those that hardly vary are not blown up."""


class Standardization(layers.Layer):
    """(features - mean) / deviation of `[batch, width]`, with numbers of each feature that are not trained."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the two; to begin with they change nothing."""
        width = input_shape[-1]
        self.mean = self.add_weight(shape=(width,), initializer="zeros", trainable=False, name="mean")
        self.deviation = self.add_weight(shape=(width,), initializer="ones", trainable=False, name="deviation")

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """`[batch, width]`."""
        return (features - self.mean) / self.deviation


class Head:
    """A network parted in two: the body, pixels to features, and a head, which is trained in the place of its own last layer.

    The head standardizes the features, leaves some out, and has a dense layer of its own. `fold` puts all of that into the
    network's last layer: so what is saved is a network like any other, and has no more layers.

    Make it in the strategy's scope.

    Attributes:
        network: pixels to logits.
        body: pixels to features; its layers are the network's.
        model: features to logits.
    """

    def __init__(self, network: keras.Model, dropout: float) -> None:
        self.network, self.body = network, features_of(network)
        self._standardization = Standardization(name="standardization", dtype="float32")
        self._dense = dense(network.output_shape[-1], name="head")
        features = keras.Input(self.body.output_shape[1:], name="features")
        kept = layers.Dropout(dropout, name="dropout")(self._standardization(features))
        self.model = keras.Model(features, self._dense(kept), name="head_on_features")

    def whole(self) -> keras.Model:
        """Body and head as one network, pixels to logits, which shares its layers with them."""
        pixels = keras.Input(self.network.input_shape[1:], name="pixels")
        return keras.Model(pixels, self.model(self.body(pixels)), name=f"{self.network.name}_with_head")

    def standardize(self, mean: np.ndarray, deviation: np.ndarray) -> None:
        """Has the head take features of such a mean and standard deviation, `[width]`; call it in the strategy's scope."""
        self._standardization.set_weights([mean, np.maximum(deviation, _LEAST_DEVIATION * np.median(deviation) + 1e-12)])

    def fold(self) -> None:
        """Gives the network's last layer the head's weights; call it in the strategy's scope."""
        kernel, bias, mean, deviation = self._weights()
        kernel = kernel / deviation[:, None]
        head_of(self.network).set_weights([kernel, bias - mean @ kernel])

    def unfold(self) -> None:
        """Gives the head the weights of the network's last layer; call it in the strategy's scope."""
        *_, mean, deviation = self._weights()
        kernel, bias = (weight.astype(np.float64) for weight in head_of(self.network).get_weights())
        self._dense.set_weights([kernel * deviation[:, None], bias + mean @ kernel])

    def _weights(self) -> list[np.ndarray]:
        weights = [*self._dense.get_weights(), *self._standardization.get_weights()]
        return [weight.astype(np.float64) for weight in weights]


def check_has_head(network: keras.Model, name: str) -> None:
    """Raises ValueError unless a network that `backbones.build` made ends in a dense layer, whose weights `fold` can set."""
    head = head_of(network)
    # What computes in 16 bits is cast in the end.
    last = next(layer for layer in reversed(network.layers) if not isinstance(layer, layers.Activation))
    is_last = last is head or (isinstance(last, keras.Model) and head in last.layers and last.outputs[0] is head.output)
    is_plain = type(head) is layers.Dense and head.use_bias and head.activation is keras.activations.linear
    if not is_plain or not is_last or len(head.input.shape) != 2:
        raise mistake(
            f"backbone ({name}) does not end in a plain dense layer, whose features a head could learn from: choose another, "
            "or leave --trainable out"
        )
