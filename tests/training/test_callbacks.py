import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import NUM_CLASSES, batches_of, make_model, make_strategy, softmax, table_values, tiny_images, tiny_labels

from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.data.image_data import UNLABELED
from r2d2_tf.method.class_balance import labeled_shares
from r2d2_tf.method.losses import CLASS_LOSSES
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from r2d2_tf.runs.predictions import PredictionHistory
from r2d2_tf.runs.run_state import RunState
from r2d2_tf.system.interrupts import RunInterrupted
from r2d2_tf.training.callbacks.checkpointing import RunCheckpoint
from r2d2_tf.training.callbacks.collapse import CollapseGuard, RunStopped, is_collapsed
from r2d2_tf.training.callbacks.diagnostics import Diagnostics, table_statistics
from r2d2_tf.training.callbacks.recording import recorded_reprediction
from r2d2_tf.training.stages import plan

COUNT, LABELED = 12, 6
STAGE = dataclasses.replace(plan(Config(), DATASETS["mnist5k"])[1], learning_rates=(0.3, 0.3, 0.1), prediction_epochs=(0, 2))


def fit(model, epochs, callbacks):
    batches = batches_of(tiny_images(COUNT), np.arange(COUNT), COUNT)
    return model.fit(batches, epochs=epochs, callbacks=callbacks, shuffle=False, verbose=0).history


def test_the_change_of_classes_is_logged_in_the_epochs_that_began_with_a_prediction():
    model = make_model(make_strategy(1), tiny_labels(COUNT, LABELED))
    history = PredictionHistory(np.arange(LABELED, COUNT))
    batches = batches_of(tiny_images(COUNT), np.arange(COUNT), 4)
    callbacks = recorded_reprediction(STAGE, batches, history, RunState(2))
    for callback in callbacks:
        callback.set_model(model)
    seen = []
    for epoch in range(3):
        logs = {}
        for callback in callbacks:
            callback.on_epoch_begin(epoch)
        callbacks[0].on_epoch_end(epoch, logs)
        seen.append((logs["predicted"], "argmax_changes" in logs))
    assert seen == [(1, False), (0, False), (1, True)], "the first prediction changes nothing that was there"


@pytest.mark.parametrize("class_loss", ["reverse_kl", "forward_kl"])
@pytest.mark.parametrize("replicas", [1, 2])
def test_the_history_holds_each_row_beside_the_prediction_that_replaced_it(replicas, class_loss, tmp_path):
    rows = np.random.default_rng(2).normal(size=(COUNT, NUM_CLASSES)).astype(np.float32)
    model = make_model(make_strategy(replicas), tiny_labels(COUNT, LABELED), class_loss=class_loss, rows=rows)
    unlabeled = np.arange(LABELED, COUNT)
    history = PredictionHistory(unlabeled)
    stage = dataclasses.replace(STAGE, prediction_epochs=(0, 1), learning_rates=(0.3, 0.3))
    batches = batches_of(tiny_images(COUNT)[LABELED:], unlabeled, 4)
    callbacks = keras.callbacks.CallbackList(recorded_reprediction(stage, batches, history, RunState(2)), model=model)
    callbacks.on_train_begin()
    for epoch in range(2):
        callbacks.on_epoch_begin(epoch)
        model.table.descend(tf.constant(unlabeled), tf.random.stateless_normal([6, NUM_CLASSES], [epoch, 0]), 64.0)
    before = table_values(model.table)[LABELED:]
    callbacks.on_train_end()
    np.testing.assert_array_equal(table_values(model.table)[LABELED:], before)
    history.save(tmp_path / "predictions.npz")
    with np.load(tmp_path / "predictions.npz") as saved:
        assert saved["epoch"].tolist() == [0, 1, 2]
        assert saved["replaced"].tolist() == [True, True, False]
        np.testing.assert_array_equal(saved["rows"], unlabeled)
        assert (saved["pseudo_label_class"][0] == -1).all()
        assert np.isnan(saved["pseudo_label_probability"][0]).all()
        last = {name: saved[name][2] for name in saved.files if name != "rows"}
    images = tiny_images(COUNT)[LABELED:].reshape(COUNT - LABELED, -1)
    kernel, bias = model.backbone.get_weights()
    p, q = softmax(images @ kernel + bias), softmax(before)
    n = p.argmax(1)
    first, second = (p, q) if class_loss == "reverse_kl" else (q, p)
    np.testing.assert_array_equal(last["predicted_class"], n)
    np.testing.assert_array_equal(last["pseudo_label_class"], q.argmax(1))
    np.testing.assert_allclose(last["predicted_probability"], p.max(1), rtol=1e-5)
    np.testing.assert_allclose(last["pseudo_label_probability"], q[np.arange(len(q)), n], rtol=1e-5)
    np.testing.assert_allclose(last["class_loss"], (first * np.log(first / second)).sum(1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(last["entropy"], -(p * np.log(p)).sum(1), rtol=1e-4)


def test_no_checkpoint_is_written_while_rows_are_replaced_and_an_epoch_that_goes_on_keeps_what_was_found():
    model = make_model(make_strategy(1), tiny_labels(COUNT, LABELED))
    state, seen = RunState(2), []
    model.between_batches = lambda: seen.append(state.consistent)
    batches = batches_of(tiny_images(COUNT), np.arange(COUNT), COUNT)
    callbacks = recorded_reprediction(STAGE, batches, PredictionHistory(model.table.unlabeled_rows), state)
    fit(model, 1, callbacks)
    # The second pass is the comparison at the end; RunCheckpoint would have set it true again.
    assert seen == [False, False]
    state.step, model.resumes_epoch, found = 1, True, state.argmax_changes
    fit(model, 1, callbacks)
    assert (state.argmax_changes, len(seen)) == (found, 3), "no second prediction"
    assert found > 0


def test_statistics_describe_the_unlabeled_rows_alone():
    table = PseudoLabelTable(np.array([0, UNLABELED, UNLABELED]), 3)
    table.repredict(tf.constant([1, 2], tf.int64), tf.math.log([[0.8, 0.1, 0.1], [0.4, 0.3, 0.3]]))
    statistics = table_statistics(table, np.array([2, 0, 1]))
    assert statistics["table_largest_probability"] == pytest.approx(0.6)
    assert statistics["flat_rows"] == 0.5
    assert statistics["pseudo_label_error"] == 50.0
    assert statistics["row_sum_drift"] == 0.0
    assert "pseudo_label_error" not in table_statistics(table, None)


@pytest.mark.parametrize("name", CLASS_LOSSES)
def test_the_drift_of_row_sums_is_rounding_for_every_class_loss(name):
    model = make_model(make_strategy(1), tiny_labels(COUNT, LABELED), class_loss=name)
    model.repredict(batches_of(tiny_images(COUNT), np.arange(COUNT), COUNT))
    fit(model, 20, [])
    assert table_statistics(model.table, None)["row_sum_drift"] < 1e-4


def test_the_drift_of_row_sums_shows_a_row_that_was_moved_by_other_means():
    table = PseudoLabelTable(np.array([0, UNLABELED]), 3)
    table.descend(tf.constant([1], tf.int64), tf.constant([[1.0, 0.0, 0.0]]), 512.0)
    assert table_statistics(table, None)["row_sum_drift"] == 1.0


def test_the_distance_of_histograms_is_to_the_labeled_images_own():
    table = PseudoLabelTable(np.array([0, 0, 0, 1, UNLABELED]), 2)
    logs = {"predicted_classes": np.array([75.0, 25.0])}
    Diagnostics(STAGE, table, None).on_epoch_end(0, logs)
    assert logs["class_histogram_distance"] == 0.0
    logs = {"predicted_classes": np.array([0.0, 9.0])}
    Diagnostics(STAGE, table, None).on_epoch_end(0, logs)
    assert logs["class_histogram_distance"] == 0.75


EVEN = np.full(10, 0.1)
RARE = np.array([0.95, 0.05])


@pytest.mark.parametrize(
    ("counts", "shares", "collapsed"),
    [
        ([1000] + [0] * 9, EVEN, True),
        ([200] * 5 + [0] * 5, EVEN, True),
        ([166] * 6 + [0] * 4, EVEN, True),
        ([880] + [13] * 9, EVEN, True),
        ([550] + [50] * 9, EVEN, False),
        ([300, 20] + [85] * 8, EVEN, False),
        ([125] * 8 + [0] * 2, EVEN, False),
        ([1000, 0], RARE, True),
        ([990, 10], RARE, False),
        ([800, 200], RARE, False),
        ([0, 1000], RARE, True),
        ([1000, 0], np.array([0.5, 0.5]), True),
        ([850, 150], np.array([0.5, 0.5]), False),
    ],
)
def test_a_collapse_is_the_loss_of_classes_that_matter_not_a_drift(counts, shares, collapsed):
    assert is_collapsed(np.array(counts), shares) is collapsed


@pytest.mark.parametrize(
    ("counts", "shares"),
    [
        ([10, 0], [0.95, 0.05]),
        ([3, 0, 0], [0.34, 0.33, 0.33]),
        ([90, 0, 10], [0.9, 0.045, 0.055]),
        ([1] + [0] * 99, [0.01] * 100),
    ],
)
def test_what_may_be_chance_in_few_images_or_rare_classes_is_no_collapse(counts, shares):
    assert not is_collapsed(np.array(counts), np.array(shares))
    assert is_collapsed(np.array(counts) * 1000, np.array(shares))


def test_shares_are_those_of_the_labeled_images():
    assert labeled_shares(np.array([0, 0, 2, UNLABELED]), 3).tolist() == [2 / 3, 0, 1 / 3]


def test_a_collapse_stops_the_run_and_names_the_likely_flag():
    guard = CollapseGuard(STAGE, PseudoLabelTable(tiny_labels(COUNT, LABELED), 3), RunState(2))
    even, collapsed = np.array([10.0, 10.0, 10.0]), np.array([0.0, 30.0, 0.0])
    guard.on_epoch_end(0, {"predicted_classes": even, "evaluated_classes": even})
    for kind in ("unlabeled", "evaluated"):
        logs = {"predicted_classes": even, "evaluated_classes": even}
        logs["predicted_classes" if kind == "unlabeled" else "evaluated_classes"] = collapsed
        with pytest.raises(RunStopped, match=rf"100 % of the {kind} images fall into class 1.*33 %.*lower those of --rounds"):
            guard.on_epoch_end(0, logs)


def test_a_few_evaluated_images_tell_of_no_collapse():
    guard = CollapseGuard(STAGE, PseudoLabelTable(tiny_labels(COUNT, LABELED), 3), RunState(2))
    guard.on_epoch_end(0, {"predicted_classes": np.array([2.0, 2.0, 2.0]), "evaluated_classes": np.array([0.0, 29.0, 0.0])})


def test_a_collapsed_first_prediction_blames_stage_1():
    table = PseudoLabelTable(tiny_labels(40, LABELED), 3)
    with pytest.raises(RunStopped, match=r"stage 1 learned too little.*--supervised_epochs"):
        CollapseGuard(STAGE, table, RunState(2)).on_epoch_begin(0)


def test_a_collapse_asks_first_whether_stage_1_was_poor():
    state = RunState(2, rows=[{"stage": 1, "test_error": 68.2}])
    guard = CollapseGuard(STAGE, PseudoLabelTable(tiny_labels(COUNT, LABELED), 3), state)
    counts = np.array([0.0, 30.0, 0.0])
    with pytest.raises(RunStopped, match=rf"was stage 1 poor\? From {LABELED} labels it came to 68 % .*lower those of"):
        guard.on_epoch_end(0, {"predicted_classes": counts, "evaluated_classes": counts})


def test_stage_1_may_know_nothing():
    stage = plan(Config(), DATASETS["mnist5k"])[0]
    guard = CollapseGuard(stage, PseudoLabelTable(tiny_labels(COUNT, LABELED), 3), RunState(1))
    guard.on_epoch_begin(0)
    guard.on_epoch_end(0, {"predicted_classes": np.array([0.0, 6.0, 0.0])})


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_collapse_is_told_in_the_middle_of_an_epoch_once_enough_is_predicted(replicas):
    model = make_model(make_strategy(replicas), tiny_labels(COUNT, LABELED))
    state, steps = RunState(2), []
    guard = CollapseGuard(dataclasses.replace(STAGE, prediction_epochs=()), model.table, state)

    class Count(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            state.step += 1
            steps.append(batch)

    # All images alike, so that all are predicted to be of one class; 6 unlabeled ones a step.
    batches = batches_of(np.ones_like(tiny_images(COUNT)), np.arange(COUNT), COUNT).repeat(200)
    with pytest.raises(RunStopped, match="of the unlabeled images fall into class"):
        model.fit(batches, callbacks=[guard, Count()], shuffle=False, verbose=0)
    # 64 is the first power of two at which there are 100 predictions a class.
    assert len(steps) == 63


@pytest.fixture
def saved_at(monkeypatch):
    """The places at which a RunCheckpoint saves in epochs of ten steps, as (epoch, step)."""
    clock, saved = [0.0], []
    monkeypatch.setattr("r2d2_tf.training.callbacks.checkpointing.time.monotonic", lambda: clock[0])

    def run(*, seconds_of_epochs, minutes=15.0, seconds_to_save=0.0, predictions=(), ask=lambda save: save):
        state = RunState(2)

        def save():
            saved.append((state.epoch, state.step))
            clock[0] += seconds_to_save

        callback = RunCheckpoint(predictions, 10, state, save, minutes, ask)
        callback.set_model(make_model(make_strategy(1), tiny_labels(COUNT, LABELED)))
        for epoch, seconds in enumerate(seconds_of_epochs):
            for step in range(10):
                clock[0] += seconds / 10
                callback.on_train_batch_end(step)
            callback.on_epoch_end(epoch)
        return saved

    return run


def test_a_cheap_checkpoint_is_written_after_every_epoch(saved_at):
    assert saved_at(seconds_of_epochs=[60] * 3, seconds_to_save=1) == [(1, 0), (2, 0), (3, 0)]


def test_a_dear_checkpoint_is_written_where_it_takes_a_fiftieth_of_the_time(saved_at):
    assert saved_at(seconds_of_epochs=[60] * 6, seconds_to_save=3) == [(1, 0), (4, 0)]


def test_a_checkpoint_is_written_in_the_middle_of_an_epoch_that_is_longer_than_asked_for(saved_at):
    assert saved_at(seconds_of_epochs=[3000], seconds_to_save=30) == [(0, 3), (0, 6), (0, 9)]


def test_a_checkpoint_is_always_written_before_a_prediction(saved_at):
    assert saved_at(seconds_of_epochs=[10] * 4, seconds_to_save=100, predictions=(0, 3)) == [(1, 0), (3, 0)]


def test_a_stop_that_is_asked_for_takes_place_after_the_step(saved_at):
    def stop(save):
        raise RunInterrupted(2)

    with pytest.raises(RunInterrupted):
        saved_at(seconds_of_epochs=[60], ask=stop)


def test_what_all_processes_agree_on_is_done_whatever_this_one_would_do(saved_at):
    assert saved_at(seconds_of_epochs=[60], ask=lambda save: True) == [(0, step) for step in range(1, 11)] + [(1, 0)]
