"""The optimizer of the network's weights: SGD, the body at a share of the head's learning rate where that is wanted."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from r2d2_tf.backbones.layers import head_of


def sgd(network: keras.Model, learning_rate: float, *, momentum: float, body_share: float = 1.0) -> keras.optimizers.SGD:
    """Nesterov's SGD for a network's weights in their order; all but the head's learn at `body_share` of the rate."""
    if body_share == 1.0:
        return keras.optimizers.SGD(learning_rate, momentum=momentum, nesterov=True)
    of_head = {id(weight) for weight in head_of(network).trainable_weights}
    shares = [1.0 if id(weight) in of_head else body_share for weight in network.trainable_weights]
    return SharedRateSGD(learning_rate, momentum=momentum, shares=shares)


class SharedRateSGD(keras.optimizers.SGD):
    """Nesterov's SGD with a share of the learning rate for each weight that it is built for, in their order.

    A share of the gradient, L2 included, is a share of the rate: momentum is a sum of gradients.
    """

    def __init__(self, learning_rate: float, *, momentum: float, shares: Sequence[float]) -> None:
        super().__init__(learning_rate, momentum=momentum, nesterov=True)
        self.shares = list(shares)

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        """Of one weight."""
        # Keras' own update finds a weight's momentum so, too.
        super().update_step(gradient * self.shares[self._get_variable_index(variable)], variable, learning_rate)
