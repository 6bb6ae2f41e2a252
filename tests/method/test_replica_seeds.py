"""What is drawn within a network, on one replica and on two."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import make_strategy

from r2d2_tf.backbones.layers import ShakeShake
from r2d2_tf.method.steps.forward import Forward

IMAGES = np.ones((8, 1, 1, 5), np.float32)


def dropout():
    return keras.Sequential([keras.Input(IMAGES.shape[1:]), keras.layers.Flatten(), keras.layers.Dropout(0.5)])


def shake_shake():
    images = keras.Input(IMAGES.shape[1:])
    mixed = ShakeShake()((images, -images))
    return keras.Model(images, keras.layers.Flatten()(ShakeShake()((mixed, images))))


def drawn(make, replicas, *, training=True):
    """What each replica makes of the same images in two calls, `[replicas, 2, ...]`, and its seeds then."""
    strategy = make_strategy(replicas)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        network = make()
        forward = Forward(network, replicas, IMAGES.shape[-1])

    @tf.function
    def call():
        return strategy.run(lambda: forward(tf.constant(IMAGES), training=training))

    outputs = [[output.numpy() for output in strategy.experimental_local_results(call())] for _ in range(2)]
    states = [seed for seed in network.variables if "seed_generator_state" in seed.path]
    copies = [[copy.numpy() for copy in strategy.experimental_local_results(seed.value)] for seed in states]
    return np.swapaxes(outputs, 0, 1), np.array(copies)


@pytest.mark.parametrize("make", [dropout, shake_shake])
def test_replicas_draw_numbers_of_their_own_and_the_first_those_that_one_alone_draws(make):
    (alone,), states = drawn(make, 1)
    (first, second), copies = drawn(make, 2)
    np.testing.assert_array_equal(first, alone)
    assert len({call.tobytes() for call in (*first, *second)}) == 4
    # So that a checkpoint of two fits one, and one of one fits two.
    np.testing.assert_array_equal(copies, np.repeat(states, 2, axis=1))
    assert (states[:, 0, 1] > 0).all(), "that many were drawn"


def test_nothing_is_drawn_in_evaluation():
    outputs, copies = drawn(dropout, 2, training=False)
    np.testing.assert_array_equal(outputs, np.ones_like(outputs))
    assert not copies[..., 1].any()
