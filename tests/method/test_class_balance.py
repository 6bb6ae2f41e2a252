"""Predictions that are shifted to the labels' shares of the classes."""

import keras
import numpy as np
import pytest
from conftest import batches_of, make_model, softmax, table_values, tiny_images
from scipy.optimize import root

from r2d2_tf.method import pseudo_labels
from r2d2_tf.method.class_balance import CLOSE, balance, class_shift
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from r2d2_tf.method.reprediction import Reprediction

LOGITS = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32) * 3 + [1.0, 0.0, -1.0]
SHARES = np.array([0.2, 0.3, 0.5])


def test_the_shift_is_the_one_that_gives_the_mean_prediction_the_shares():
    shift = class_shift(lambda: np.split(LOGITS, 4), SHARES)
    np.testing.assert_allclose(softmax(LOGITS + shift).mean(0), SHARES, atol=2 * CLOSE)
    exact = root(lambda two: (softmax(LOGITS + np.array([*two, 0.0])).mean(0) - SHARES)[:2], [0.0, 0.0]).x
    np.testing.assert_allclose(shift, np.array([*exact, 0.0]) - exact.sum() / 3, atol=0.05)
    assert shift.sum() == pytest.approx(0.0, abs=1e-6)


def test_predictions_that_have_the_shares_are_left_alone():
    assert class_shift(lambda: [LOGITS], softmax(LOGITS).mean(0)).tolist() == [0.0, 0.0, 0.0]


def test_predictions_that_are_too_sure_to_be_moved_are_given_up_on():
    sure = np.float32([[1e4, 0.0], [1e4, 0.0]])
    assert np.isfinite(class_shift(lambda: [sure], np.array([0.5, 0.5]))).all()


def test_unlabeled_rows_are_shifted_chunk_by_chunk_and_labeled_rows_are_not(monkeypatch):
    monkeypatch.setattr(pseudo_labels, "_CHUNK_BYTES", 7 * 12)
    labels = np.array([0, 0, 1, 1, 1, 2, 2, 2, 2, 2] + [-1] * 200)
    table = PseudoLabelTable(labels, 3)
    table.repredict(np.arange(10, 210), LOGITS)
    balance(table)
    rows, shift = table_values(table), class_shift(lambda: [LOGITS], SHARES)
    np.testing.assert_allclose(rows[10:], LOGITS + shift, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(rows[:10], 10 * np.eye(3)[labels[:10]])
    np.testing.assert_allclose(table.predicted_sums(np.arange(10, 210)), rows[10:].sum(1), rtol=1e-5, atol=1e-5)


def test_a_table_of_labels_alone_has_nothing_to_balance():
    balance(PseudoLabelTable(np.array([0, 1]), 2))


def test_reprediction_balances_and_counts_the_rows_that_changed_in_the_end(strategy):
    count, labels = 40, np.array([0, 1, 2, 2] + [-1] * 36)
    model = make_model(strategy, labels, learning_rate=0.0)
    told, batches = [], batches_of(tiny_images(count), np.arange(count), 16)
    before = table_values(model.table).argmax(1)
    callback = Reprediction(batches, [0], after=lambda epoch, changes: told.append(changes), balances_classes=True)
    model.learn_pseudo_labels = False
    model.fit(batches, epochs=1, callbacks=[callback], shuffle=False, verbose=0)
    rows = table_values(model.table)
    np.testing.assert_allclose(softmax(rows[4:]).mean(0), [0.25, 0.25, 0.5], atol=2 * CLOSE)
    shift = rows[4:] - keras.ops.convert_to_numpy(model.backbone(tiny_images(count)[4:]))
    np.testing.assert_allclose(shift, np.tile(shift[:1], [36, 1]), atol=1e-5)
    assert told == [np.count_nonzero(rows.argmax(1) != before)]
