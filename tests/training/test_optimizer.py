import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import make_strategy

from r2d2_tf.training.optimizer import sgd


@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_all_but_the_head_learn_as_with_a_smaller_rate(replicas):
    strategy = make_strategy(replicas)
    gradients = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    ended = []
    for shares in ({"body_share": 0.1}, {}, None):
        with strategy.scope():
            network = keras.Sequential([keras.Input((2,)), *(keras.layers.Dense(2, kernel_initializer="ones") for _ in "12")])
            optimizer = sgd(network, 0.5 if shares is not None else 0.05, momentum=0.9, **(shares or {}))
            optimizer.build(network.trainable_weights)
        for step in gradients / replicas:
            values = [tf.fill(w.shape, v) for v, w in zip(step, network.trainable_weights, strict=True)]
            strategy.run(optimizer.apply, args=(values,))
        ended.append(network.get_weights())
    mixed, fast, slow = ended
    for number, weight in enumerate(mixed):
        np.testing.assert_allclose(weight, (slow if number < 2 else fast)[number], rtol=1e-5)
