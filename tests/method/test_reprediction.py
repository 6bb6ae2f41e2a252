import re
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import NUM_CLASSES, batches_of, make_model, make_strategy, table_values, tiny_images, tiny_labels

from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from r2d2_tf.method.reprediction import Reprediction, when_settled

COUNT, LABELED = 12, 6


class Watch(keras.callbacks.Callback):
    """Keeps the table and the learning rate with which each epoch's only step begins, and the predictions for all images."""

    def __init__(self):
        super().__init__()
        self.tables, self.rates, self.predictions = [], [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.tables.append(table_values(self.model.table))
        self.rates.append(float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))
        kernel, bias = (weight.numpy() for weight in self.model.trainable_variables)
        self.predictions.append(tiny_images(COUNT).reshape(COUNT, -1) @ kernel + bias)


def watch_fit(*arguments, replicas=1, model=None, epochs=3, initial_epoch=0, **hooks):
    """Fits a plain model with a Reprediction; rows move by it alone."""
    if model is None:
        rows = np.random.default_rng(3).normal(size=(COUNT, NUM_CLASSES))
        model = make_model(make_strategy(replicas), tiny_labels(COUNT, LABELED), rows=rows, pseudo_label_lr=0.0)
    watch, unlabeled = Watch(), np.arange(LABELED, COUNT)
    batches = batches_of(tiny_images(COUNT)[LABELED:], unlabeled, 4)
    model.fit(
        batches_of(tiny_images(COUNT), np.arange(COUNT), COUNT),
        epochs=epochs,
        initial_epoch=initial_epoch,
        callbacks=[Reprediction(batches, *arguments, **hooks), watch],
        shuffle=False,
        verbose=0,
    )
    return watch


def predicted_epochs(watch):
    """The epochs that began with each unlabeled row beside the prediction for its image."""
    return [
        epoch
        for epoch, (table, predictions) in enumerate(zip(watch.tables, watch.predictions, strict=True))
        if np.allclose(table[LABELED:], predictions[LABELED:], rtol=1e-5, atol=1e-6)
    ]


@pytest.mark.parametrize("replicas", [1, 2])
def test_predictions_replace_the_unlabeled_rows_before_the_epochs_named_and_rates_fall_with_them(replicas):
    watch = watch_fit((0, 2), (0.3, 0.3, 0.1), replicas=replicas)
    assert predicted_epochs(watch) == [0, 2]
    np.testing.assert_array_equal(watch.tables[0], watch.tables[1])
    np.testing.assert_array_equal(watch.tables[0][:LABELED], watch.tables[2][:LABELED])
    assert watch.rates == pytest.approx([0.3, 0.3, 0.1])


def test_epochs_and_rates_may_be_functions_of_the_epoch():
    asked = []

    def odd(epoch, model):
        asked.append((epoch, model.table.num_rows))
        return epoch % 2 == 1

    watch = watch_fit(odd, lambda epoch: 0.1 / (1 + epoch))
    assert predicted_epochs(watch) == [1]
    assert asked == [(0, COUNT), (1, COUNT), (2, COUNT)]
    assert watch.rates == pytest.approx([0.1, 0.05, 0.1 / 3])


def test_without_rates_the_optimizers_own_stays():
    assert watch_fit(()).rates == pytest.approx([0.1, 0.1, 0.1])


def test_fit_may_begin_at_any_epoch_and_one_that_goes_on_is_not_predicted_twice():
    watch = watch_fit((0, 1), (0.3, 0.2, 0.1), initial_epoch=1)
    assert predicted_epochs(watch) == [0], "the first that was trained is epoch 1"
    assert watch.rates == pytest.approx([0.2, 0.1])
    model = make_model(make_strategy(1), tiny_labels(COUNT, LABELED), pseudo_label_lr=0.0)
    model.resumes_epoch = True
    watch = watch_fit((0, 1), (0.3, 0.2, 0.1), model=model)
    assert predicted_epochs(watch) == [1]
    assert watch.rates == pytest.approx([0.3, 0.2, 0.1]), "an epoch that goes on has its own rate"


def test_who_asks_is_told_before_and_after_a_prediction():
    told = []
    watch = watch_fit((1,), before=lambda *found: told.append(found), after=lambda *found: told.append(found))
    changes = (watch.tables[0].argmax(1) != watch.tables[1].argmax(1)).sum()
    assert told == [(1,), (1, changes)]
    assert changes > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((3,), r"epochs (3) is one number"), (((0,), 0.1), "learning_rates (0.1) is one number"),
     (((0,), (0.1, 0.1)), "learning_rates has 2 rates, and epoch 2 (from 0) has none")],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_in_a_line(arguments, said):
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        watch_fit(*arguments)
    assert "\n" not in str(error.value)


def test_one_pair_in_place_of_batches_is_refused():
    with pytest.raises(ValueError, match=r"batches is one pair: give many, .* \[\(images, rows\)\]"):
        Reprediction((np.zeros((2, 4, 4, 1), np.uint8), np.arange(2)), (0,))


def move(table, rows):
    """Gives each of `rows` another largest class."""
    classes = (table.largest_classes(rows) + 1) % NUM_CLASSES
    table.repredict(tf.constant(rows, tf.int64), tf.one_hot(classes, NUM_CLASSES))


def test_rows_have_settled_when_few_enough_changed_class_since_the_epoch_before_began():
    model = make_model(make_strategy(1), tiny_labels(COUNT, LABELED))
    settled = when_settled(2 / 6)
    assert settled(0, model), "the rows hold nothing yet"
    model.table.mark_classes()
    for moved, expected in (([6, 7, 8], False), ([6, 7], True), ([], True)):
        seldom = when_settled(2 / 6, every=3)
        move(model.table, np.array(moved, int))
        assert [seldom(epoch, model) for epoch in (3, 4, 5)] == [expected, False, False]
        assert settled(1, model) == expected
        model.table.mark_classes()


def test_a_condition_is_asked_of_what_the_last_epoch_changed_its_prediction_left_out():
    model = make_model(make_strategy(1), tiny_labels(COUNT, LABELED), pseudo_label_lr=0.0)
    callback = Reprediction(batches_of(tiny_images(COUNT)[LABELED:], np.arange(LABELED, COUNT), 4), when_settled(0.2))
    callback.set_model(model)
    seen = []
    callback.after = lambda epoch, changes: seen.append(epoch)
    for epoch, moved in enumerate(([6, 7], [], [8, 9, 10], [11])):
        callback.on_epoch_begin(epoch)
        move(model.table, np.array(moved, int))
    callback.on_epoch_begin(4)
    assert seen == [0, 2, 4]


def test_a_table_that_is_read_from_a_checkpoint_settles_as_the_one_that_was_written(tmp_path):
    table, other = (PseudoLabelTable(tiny_labels(COUNT, LABELED), NUM_CLASSES) for _ in range(2))
    for expected in (None, 0.5):
        with zipfile.ZipFile(tmp_path / "table.npz", "w") as archive:
            table.write(archive)
        with zipfile.ZipFile(tmp_path / "table.npz") as archive:
            other.read(archive)
        assert other.share_changed() == expected
        table.mark_classes()
        other.mark_classes()
        move(table, np.array([6, 8, 10]))
