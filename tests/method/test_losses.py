"""Oracles are the formulas that the paper prints (eq. 2, 6, 14, 15); the source leaves gradients to autodiff."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import softmax

from r2d2_tf.method.losses import CLASS_LOSSES, compatibility, prediction_entropy, r2d2_loss

ALPHA, BETA = 0.1, 0.03


@pytest.fixture
def logits():
    generator = np.random.default_rng(0)
    return generator.normal(size=(5, 4)), generator.normal(size=(5, 4))


def eq_6(p, q):
    return ALPHA * (q - p)


def eq_14(p, q):
    ratio = np.log(q) - np.log(p)
    return ALPHA * q * (ratio - (q * ratio).sum(1, keepdims=True))


def eq_15(p, q):
    return 2 * ALPHA * q * (q - p - (q * (q - p)).sum(1, keepdims=True))


ROW_GRADIENTS = {"reverse_kl": eq_6, "forward_kl": eq_14, "squared_l2": eq_15}


def values_of(name, logits, pseudo_logits):
    log_p, log_q = tf.nn.log_softmax(logits), tf.nn.log_softmax(pseudo_logits)
    return r2d2_loss(CLASS_LOSSES[name](log_p, log_q), prediction_entropy(log_p), alpha=ALPHA, beta=BETA)


def test_every_class_loss_has_an_oracle():
    assert set(ROW_GRADIENTS) == set(CLASS_LOSSES)


@pytest.mark.parametrize("name", CLASS_LOSSES)
def test_the_row_gradient_is_the_papers(name, logits):
    prediction, pseudo = (tf.constant(values) for values in logits)
    with tf.GradientTape() as tape:
        tape.watch(pseudo)
        loss = tf.reduce_sum(values_of(name, prediction, pseudo))
    expected = ROW_GRADIENTS[name](softmax(logits[0]), softmax(logits[1]))
    np.testing.assert_allclose(tape.gradient(loss, pseudo), expected, atol=1e-12)


def test_the_loss_is_eq_2(logits):
    p, q = softmax(logits[0]), softmax(logits[1])
    expected = ALPHA * (p * (np.log(p) - np.log(q))).sum(1) - BETA * (p * np.log(p)).sum(1)
    np.testing.assert_allclose(values_of("reverse_kl", *logits), expected)


def test_the_networks_gradient_is_eq_5(logits):
    prediction, pseudo = (tf.constant(values) for values in logits)
    with tf.GradientTape() as tape:
        tape.watch(prediction)
        losses = values_of("reverse_kl", prediction, pseudo)
        total = tf.reduce_sum(losses)
    p, q = softmax(logits[0]), softmax(logits[1])
    expected = ((ALPHA - BETA) * np.log(p) - ALPHA * np.log(q) - losses.numpy()[:, None]) * p
    np.testing.assert_allclose(tape.gradient(total, prediction), expected, atol=1e-12)


@pytest.mark.parametrize("name", CLASS_LOSSES)
def test_a_class_loss_is_zero_where_the_distributions_agree_and_positive_elsewhere(name, logits):
    log_p, log_q = (tf.nn.log_softmax(values) for values in logits)
    np.testing.assert_allclose(CLASS_LOSSES[name](log_p, log_p), np.zeros(5), atol=1e-12)
    assert (CLASS_LOSSES[name](log_p, log_q).numpy() > 0).all()


@pytest.mark.parametrize("name", CLASS_LOSSES)
def test_a_certain_prediction_gives_finite_numbers(name):
    certain, flat = tf.constant([[200.0, 0.0, -200.0]]), tf.zeros([1, 3])
    for prediction, pseudo in ((certain, flat), (flat, certain)):
        assert np.isfinite(values_of(name, prediction, pseudo).numpy()).all()


def test_pencils_loss_is_minus_the_logarithm_of_the_given_class_and_0_without_one(logits):
    pseudo_logits = tf.constant(logits[1])
    q = softmax(logits[1])
    given = np.array([3, -1, 0, -1, 2])
    with tf.GradientTape() as tape:
        tape.watch(pseudo_logits)
        losses = compatibility(tf.nn.log_softmax(pseudo_logits), tf.constant(given))
    has_label = given >= 0
    np.testing.assert_allclose(losses, np.where(has_label, -np.log(q[range(5), given]), 0), rtol=1e-6)
    expected = (q - np.eye(4)[given]) * has_label[:, None]
    np.testing.assert_allclose(tape.gradient(losses, pseudo_logits), expected, atol=1e-7)
