import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import (
    NUM_CLASSES,
    batches_of,
    make_model,
    make_strategy,
    softmax,
    table_values,
    tiny_images,
    tiny_labels,
)

from r2d2_tf.config.config import Config
from r2d2_tf.data.image_data import UNLABELED
from r2d2_tf.method import finite
from r2d2_tf.method.losses import CLASS_LOSSES
from r2d2_tf.method.model import R2D2Model
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.training.stages import plan

COUNT, LABELED = 12, 4
# Replicas share out a batch whatever the loss: one of them stands for all.
WAYS = [*((1, name) for name in CLASS_LOSSES), (2, "reverse_kl")]
ROWS = np.random.default_rng(1).normal(size=(COUNT, NUM_CLASSES))


def weights_of(model):
    return [w.numpy() for w in model.trainable_variables]


def logits_of(model, images):
    kernel, bias = weights_of(model)
    return images.reshape(len(images), -1) @ kernel + bias


def fit(model, images, batch_size, rows=None, **options):
    """One epoch, unless `options` ask for more, Keras' own way; returns the last one's logs."""
    order = np.arange(len(images)) if rows is None else rows
    history = model.fit(batches_of(images, order, batch_size), shuffle=False, verbose=0, **options)
    return {name: values[-1] for name, values in history.history.items()}


def row_gradients(name, p, q):
    if name == "reverse_kl":
        return 0.1 * (q - p)
    if name == "forward_kl":
        ratio = np.log(q) - np.log(p)
        return 0.1 * q * (ratio - (q * ratio).sum(1, keepdims=True))
    return 0.2 * q * (q - p - (q * (q - p)).sum(1, keepdims=True))


@pytest.mark.parametrize(("replicas", "name"), WAYS)
def test_a_step_moves_unlabeled_rows_by_eq_7_and_no_others(replicas, name):
    images = tiny_images(COUNT)
    model = make_model(make_strategy(replicas), tiny_labels(COUNT, LABELED), class_loss=name, rows=ROWS)
    before, p = table_values(model.table), softmax(logits_of(model, images))
    fit(model, images, COUNT)
    expected = before - 4000 / 512 * row_gradients(name, p, softmax(before))
    expected[:LABELED] = before[:LABELED]
    np.testing.assert_allclose(table_values(model.table), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(table_values(model.table)[:LABELED], before[:LABELED])


def test_labeled_rows_that_are_learned_move_by_pencils_gradient_and_the_network_as_before(strategy):
    images, labels = tiny_images(COUNT), tiny_labels(COUNT, LABELED)
    model, clamped = (make_model(strategy, labels, rows=ROWS) for _ in range(2))
    model.table.labeled_step, model.compatibility = 0.5, 0.4
    before, p = table_values(model.table), softmax(logits_of(model, images))
    q = softmax(before)
    for one in (model, clamped):
        fit(one, images, COUNT)
    of_label = 0.4 * (q[:LABELED] - np.eye(NUM_CLASSES)[labels[:LABELED]])
    expected = before - 4000 / 512 * row_gradients("reverse_kl", p, q)
    expected[:LABELED] = before[:LABELED] - 0.5 * 4000 / 512 * (row_gradients("reverse_kl", p, q)[:LABELED] + of_label)
    np.testing.assert_allclose(table_values(model.table), expected, rtol=1e-5, atol=1e-5)
    for weight, same in zip(weights_of(model), weights_of(clamped), strict=True):
        np.testing.assert_allclose(weight, same, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("pseudo_label_lr", [4000.0, 64_000.0])
def test_a_wrong_label_is_given_up_for_good_and_its_row_settles_between_label_and_prediction(pseudo_label_lr):
    config = Config(learn_labeled_rows=True, pseudo_label_lr=pseudo_label_lr)
    images, labels = tiny_images(COUNT), np.zeros(COUNT, int)
    model = make_model(tf.distribute.get_strategy(), labels, learning_rate=1e-30, pseudo_label_lr=pseudo_label_lr)
    # A network that stands still and is sure of class 1, whatever it sees.
    model.backbone.layers[-1].set_weights([np.zeros((images[0].size, NUM_CLASSES)), np.array([0.0, 12.0, 0.0])])
    # Each labeled row is seen twice an epoch of unlabeled ones.
    model.compatibility = config.compatibility
    model.table.labeled_step = plan(config, spec_of(config))[1].labeled_step(64_000, 384_000)
    given = []

    def note(epoch, logs):
        given.append(softmax(table_values(model.table))[:, 0])

    tiled, rows = np.tile(images, (3, 1, 1, 1)), np.tile(np.arange(COUNT), 3)
    fit(model, tiled, COUNT, rows, epochs=50, callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=note)])
    expected = config.compatibility / (config.alpha + config.compatibility)
    np.testing.assert_allclose(given[-20:], np.full((20, COUNT), expected), atol=0.01)
    assert np.diff(given, axis=0).max() < 0.001
    assert expected < 0.5


def test_a_rows_step_does_not_depend_on_the_batch(strategy):
    images = tiny_images(COUNT)
    tables = []
    for batch_size in (12, 4):
        # A network that stands still: rows then depend on nothing but their own image.
        model = make_model(strategy, tiny_labels(COUNT, LABELED), rows=ROWS, learning_rate=1e-30)
        fit(model, images, batch_size)
        tables.append(table_values(model.table))
    np.testing.assert_allclose(*tables, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("replicas", "name"), WAYS)
def test_the_sum_of_a_row_stays(replicas, name):
    images = tiny_images(COUNT)
    model = make_model(make_strategy(replicas), tiny_labels(COUNT, LABELED), rows=ROWS, class_loss=name)
    before = table_values(model.table)
    fit(model, images, 4, epochs=5)
    after = table_values(model.table)
    assert np.abs(after - before)[LABELED:].max() > 0.1
    np.testing.assert_allclose(after.sum(1), before.sum(1), atol=1e-5)


def test_the_network_descends_the_mean_loss_with_coupled_l2(strategy):
    images = tiny_images(COUNT)
    model = make_model(strategy, tiny_labels(COUNT, LABELED), rows=ROWS, weight_decay=0.5, learning_rate=0.1)
    kernel, bias = weights_of(model)
    p, q = softmax(logits_of(model, images)), softmax(table_values(model.table))
    losses = (0.1 * p * (np.log(p) - np.log(q)) - 0.03 * p * np.log(p)).sum(1)
    at_logits = ((0.1 - 0.03) * np.log(p) - 0.1 * np.log(q) - losses[:, None]) * p / COUNT
    fit(model, images, COUNT)
    new_kernel, new_bias = weights_of(model)
    at_kernel = images.reshape(COUNT, -1).T @ at_logits
    np.testing.assert_allclose(new_kernel, kernel - 0.1 * (at_kernel + 0.5 * kernel), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(new_bias, bias - 0.1 * (at_logits.sum(0) + 0.5 * bias), rtol=1e-4, atol=1e-6)


def test_without_learning_the_loss_is_cross_entropy_against_the_rows_argmax_and_the_table_stays(strategy):
    images = tiny_images(COUNT)
    model = make_model(strategy, tiny_labels(COUNT, LABELED), rows=ROWS, learn_pseudo_labels=False)
    before = table_values(model.table)
    p = softmax(logits_of(model, images))
    kernel, _ = weights_of(model)
    logs = fit(model, images, COUNT)
    targets = before.argmax(1)
    assert targets[:LABELED].tolist() == [0, 1, 2, 0]
    assert logs["loss"] == pytest.approx(-np.log(p[np.arange(COUNT), targets]).mean(), rel=1e-5)
    gradient = images.reshape(COUNT, -1).T @ ((p - np.eye(NUM_CLASSES)[targets]) / COUNT)
    np.testing.assert_allclose(weights_of(model)[0], kernel - 0.1 * gradient, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(table_values(model.table), before)


def test_doubtful_rows_weigh_less_in_a_mean_over_the_images_of_all_replicas(strategy):
    images = tiny_images(COUNT)
    rows = np.concatenate([ROWS[:-2], np.zeros([1, NUM_CLASSES]), 20 * np.eye(NUM_CLASSES)[1:2]])
    model = make_model(strategy, tiny_labels(COUNT, LABELED), rows=rows, learn_pseudo_labels=False)
    model.weighs_certainty = True
    table, p, (kernel, _) = table_values(model.table), softmax(logits_of(model, images)), weights_of(model)
    q, targets = softmax(table), np.eye(NUM_CLASSES)[table.argmax(1)]
    weights = 1 + (q * np.log(q)).sum(1) / np.log(NUM_CLASSES)
    weights[:LABELED] = 1
    assert weights[-2:] == pytest.approx([0, 1], abs=1e-6)
    logs = fit(model, images, COUNT)
    assert logs["loss"] == pytest.approx(np.average(-(targets * np.log(p)).sum(1), weights=weights), rel=1e-5)
    gradient = images.reshape(COUNT, -1).T @ ((p - targets) * weights[:, None] / weights.sum())
    np.testing.assert_allclose(weights_of(model)[0], kernel - 0.1 * gradient, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(table_values(model.table), table)


def test_a_batch_of_rows_of_which_nothing_is_known_teaches_nothing():
    model = make_model(make_strategy(1), np.array([0, -1, -1]), rows=np.zeros([3, NUM_CLASSES]), learn_pseudo_labels=False)
    model.weighs_certainty = True
    before = weights_of(model)
    model.fit(batches_of(tiny_images(3)[1:], np.array([1, 2]), 2), shuffle=False, verbose=0)
    np.testing.assert_array_equal(weights_of(model)[0], before[0])


def test_an_uneven_last_batch_is_averaged_over_its_own_images(strategy):
    # 5 images in batches of 4: the last holds one image, so that the second replica gets none.
    images = tiny_images(5)
    model = make_model(strategy, np.array([0, 1, 2, 0, 1]), use_unlabeled=False, learn_pseudo_labels=False)
    expected = make_model(make_strategy(1), np.array([0, 1, 2, 0, 1]), use_unlabeled=False, learn_pseudo_labels=False)
    logs = fit(model, images, 4)
    for part in (slice(0, 4), slice(4, 5)):
        p = softmax(logits_of(expected, images[part]))
        error = (p - np.eye(NUM_CLASSES)[np.array([0, 1, 2, 0, 1])[part]]) / len(p)
        for weight, gradient in zip(
            expected.trainable_variables, (images[part].reshape(len(p), -1).T @ error, error.sum(0)), strict=True
        ):
            weight.assign_sub(0.1 * gradient)
    for weight, other in zip(weights_of(model), weights_of(expected), strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-5, atol=1e-6)
    assert np.isfinite(logs["loss"])


def test_a_convolution_may_get_a_batch_with_fewer_images_than_replicas(strategy):
    images = tiny_images(5)
    model = make_model(strategy, tiny_labels(5, 3), hidden=(keras.layers.Conv2D(8, 2),))
    before = weights_of(model)
    model.repredict(batches_of(images, np.arange(5), 4))
    assert np.isfinite(fit(model, images, 4)["loss"])
    assert len(model.evaluate_images(batches_of(images, np.arange(5), 4), np.zeros(5))[0]) == 5
    assert all(np.isfinite(new).all() and (new != old).any() for old, new in zip(before, weights_of(model), strict=True))


def test_metrics_are_means_over_the_images_of_all_replicas(strategy):
    images = tiny_images(10)
    rows = np.random.default_rng(2).normal(size=(10, NUM_CLASSES))
    model = make_model(strategy, tiny_labels(10, LABELED), rows=rows, learning_rate=1e-30, pseudo_label_lr=0.0)
    p, q = softmax(logits_of(model, images)), softmax(table_values(model.table))
    logs = fit(model, images, 4)
    class_loss, entropy = (p * (np.log(p) - np.log(q))).sum(1).mean(), -(p * np.log(p)).sum(1).mean()
    assert logs["class_loss"] == pytest.approx(class_loss, rel=1e-5)
    assert logs["entropy"] == pytest.approx(entropy, rel=1e-5)
    assert logs["loss"] == pytest.approx(0.1 * class_loss + 0.03 * entropy, rel=1e-5)
    assert logs["largest_prediction"] == pytest.approx(p[LABELED:].max(1).mean(), rel=1e-5)
    assert logs["largest_pseudo_label"] == pytest.approx(q[LABELED:].max(1).mean(), rel=1e-5)
    np.testing.assert_array_equal(logs["predicted_classes"], np.bincount(p[LABELED:].argmax(1), minlength=NUM_CLASSES))


def test_repredicting_writes_the_networks_logits_into_unlabeled_rows_only(strategy):
    images = tiny_images(COUNT)
    model = make_model(strategy, tiny_labels(COUNT, LABELED), rows=ROWS)
    before = table_values(model.table)
    changed = model.repredict(batches_of(images, np.arange(COUNT), 5))
    after, expected = table_values(model.table), logits_of(model, images)
    np.testing.assert_array_equal(after[:LABELED], before[:LABELED])
    np.testing.assert_allclose(after[LABELED:], expected[LABELED:], rtol=1e-5, atol=1e-6)
    assert changed == (before.argmax(1) != after.argmax(1)).sum() > 0


def test_repredicting_uses_the_network_in_evaluation_mode(strategy):
    images = tiny_images(COUNT)
    model = make_model(strategy, tiny_labels(COUNT, LABELED), hidden=(keras.layers.Dropout(0.9),))
    expected = logits_of(model, images)
    model.repredict(batches_of(images, np.arange(COUNT), COUNT))
    np.testing.assert_allclose(table_values(model.table)[LABELED:], expected[LABELED:], rtol=1e-5, atol=1e-6)


def test_each_image_is_predicted_at_its_own_place_whichever_replica_has_it(strategy):
    images = tiny_images(7)
    model = make_model(strategy, tiny_labels(7, 3))
    classes = np.array([0, 1, 2, 0, 1, 2, 0])
    order = np.array([3, 0, 6, 1, 5, 2, 4])
    predicted, top5_errors = model.evaluate_images(batches_of(images[order], order, 4), classes)
    np.testing.assert_array_equal(predicted, logits_of(model, images).argmax(1))
    assert top5_errors == 0, "with three classes"
    # Of another number of images, as where labels are held out.
    fewer, _ = model.evaluate_images(batches_of(images[:3], np.arange(3), 2), classes[:3])
    np.testing.assert_array_equal(fewer, predicted[:3])


@keras.saving.register_keras_serializable(package="tests")
class BadGradient(keras.layers.Layer):
    """Passes its input on, and NaN back."""

    def call(self, inputs):
        return inputs + tf.sqrt(0.0 * inputs)


@pytest.mark.parametrize(
    ("where", "named"),
    [("image", "the loss"), ("row", "a pseudo-logit"), ("gradient", "the gradient of .*kernel")],
)
def test_what_is_not_finite_stops_the_step_before_weights_or_table_change_and_is_named(where, named, strategy):
    images, rows = tiny_images(COUNT), ROWS.copy()
    hidden = (keras.layers.Flatten(), keras.layers.Dense(2), BadGradient()) if where == "gradient" else ()
    if where == "image":
        images[3] = np.nan
    if where == "row":
        rows[LABELED] = np.inf
    model = make_model(strategy, tiny_labels(COUNT, LABELED), rows=rows, hidden=hidden)
    before, weights = table_values(model.table), weights_of(model)
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        fit(model, images, COUNT)
    assert re.fullmatch(named, finite.name_of(error.value))
    for old, new in zip(weights, weights_of(model), strict=True):
        np.testing.assert_array_equal(old, new)
    if strategy.num_replicas_in_sync == 1:
        np.testing.assert_array_equal(table_values(model.table), before)


def test_other_errors_are_not_taken_for_numbers_that_are_not_finite():
    assert finite.name_of(tf.errors.InvalidArgumentError(None, None, "shapes do not fit")) is None


def test_the_table_is_outside_the_strategy_and_exists_once():
    model = make_model(make_strategy(2), tiny_labels(COUNT, LABELED))
    assert not isinstance(model.table.variable, tf.distribute.DistributedValues)
    assert len({id(v) for v in model.variables if "pseudo" in v.name}) == 0


def test_keras_still_has_the_private_hook_that_is_overridden():
    assert callable(getattr(keras.Model, "_maybe_symbolic_build", None))


def test_the_true_class_counts_where_it_is_among_the_five_likeliest(strategy):
    logits = np.random.default_rng(0).normal(size=(7, 10)).astype(np.float32)
    classes = np.argsort(-logits)[np.arange(7), [0, 4, 5, 9, 0, 4, 5]]
    table = PseudoLabelTable(np.array([UNLABELED] * 7), 10)
    with strategy.scope():
        backbone = keras.Sequential([keras.Input((1, 1, 10)), keras.layers.Flatten()])
        options = {"alpha": 0.1, "beta": 0.03, "pseudo_label_lr": 1.0}
        model = R2D2Model(backbone, table, class_loss=CLASS_LOSSES["reverse_kl"], **options)
    predicted, top5_errors = model.evaluate_images(batches_of(logits[:, None, None], np.arange(7), 4), classes)
    assert ((predicted != classes).sum(), top5_errors) == (5, 3)


def evaluated(model, images, classes):
    """The oracle of `evaluate`: mean cross entropy, and error in percent."""
    p = softmax(logits_of(model, images))
    return {
        "loss": pytest.approx(-np.log(p[np.arange(len(p)), classes]).mean(), rel=1e-5),
        "error": pytest.approx(100 * (p.argmax(1) != classes).mean(), rel=1e-5),
    }


@pytest.mark.parametrize("processes_share_rows", [False, True])
def test_keras_evaluates_true_classes_by_cross_entropy_and_error(strategy, processes_share_rows):
    images, classes = tiny_images(7), np.array([0, 1, 2, 0, 1, 2, 0])
    model = make_model(strategy, tiny_labels(7, 3))
    # Then a step returns values of rank 1.
    model.shares_rows = processes_share_rows
    expected = evaluated(model, images, classes)
    # The last batch, of one image, leaves a replica without any.
    assert model.evaluate(images, classes, 3, verbose=0, return_dict=True) == expected
    assert model.evaluate(batches_of(images, classes, 4), verbose=0) == [expected["loss"], expected["error"]]


def test_labels_may_be_a_column_and_minus_1_does_not_count():
    images, classes = tiny_images(7), np.array([0, 1, 2, -1, 1, 2, -1])
    model = make_model(make_strategy(1), tiny_labels(7, 3))
    expected = evaluated(model, images[classes >= 0], classes[classes >= 0])
    assert model.evaluate(images, classes[:, None].astype(np.int32), verbose=0, return_dict=True) == expected


def test_fit_validates_and_what_it_measures_of_training_stays(strategy):
    images, classes = tiny_images(COUNT), tiny_labels(COUNT, COUNT)
    model, other = (make_model(strategy, tiny_labels(COUNT, LABELED), rows=ROWS) for _ in range(2))
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs):
            seen.append((float(logs["loss"]), float(self.model.get_metrics_result()["loss"])))

    batches = batches_of(images, np.arange(COUNT), 5)
    options = {"validation_data": (images, classes), "callbacks": [Watch()], "shuffle": False, "verbose": 0}
    history = model.fit(batches, **options).history
    assert {name: history[f"val_{name}"][0] for name in ("loss", "error")} == evaluated(model, images, classes)
    expected = pytest.approx(fit(other, images, 5)["loss"], rel=1e-6)
    assert seen == [(expected, expected)]
    for weight, same in zip(weights_of(model), weights_of(other), strict=True):
        np.testing.assert_array_equal(weight, same)


def test_an_evaluation_before_fit_does_not_end_what_an_epoch_that_goes_on_had_measured():
    images = tiny_images(COUNT)
    model = make_model(make_strategy(1), tiny_labels(COUNT, LABELED), rows=ROWS, pseudo_label_lr=0.0, learning_rate=1e-30)
    whole = fit(model, images, 4)
    model.resumes_epoch = True
    model.evaluate(images, np.zeros(COUNT), verbose=0)
    assert fit(model, images, 4)["predicted_classes"].tolist() == (2 * np.array(whole["predicted_classes"])).tolist()


@pytest.mark.parametrize(
    "arguments",
    [(tiny_images(7),), (tiny_images(7), np.eye(3)[[0] * 7]), (tiny_images(7), np.zeros(7), 32, 0, np.ones(7))],
    ids=["no_classes", "onehot", "weights"],
)
def test_what_cannot_be_evaluated_is_refused_in_a_line(arguments):
    model = make_model(make_strategy(1), tiny_labels(7, 3))
    with pytest.raises(ValueError, match="takes images and the number of each one's class") as error:
        model.evaluate(*arguments)
    assert "\n" not in str(error.value)


def test_a_config_makes_the_model_anew_on_a_table():
    model = make_model(make_strategy(1), tiny_labels(7, 3), class_loss="forward_kl", weight_decay=0.3)
    config = json.loads(json.dumps(model.get_config()))
    other = R2D2Model.from_config(config, PseudoLabelTable(tiny_labels(5, 2), NUM_CLASSES))
    assert {**other.get_config(), "backbone": None} == {**config, "backbone": None}
    assert (other.class_loss, other.weight_decay, other.table.num_rows) == (CLASS_LOSSES["forward_kl"], 0.3, 5)
    other.backbone.set_weights(model.backbone.get_weights())
    np.testing.assert_array_equal(other(tiny_images(5)), model(tiny_images(5)))


def test_what_is_not_in_a_config_or_a_file_of_keras_is_told_in_a_line(tmp_path):
    model = make_model(make_strategy(1), tiny_labels(7, 3))
    with pytest.raises(ValueError, match=r"model\.backbone\.save.* and model\.table\.save\('[a-z_.]*', ids\)$"):
        model.save(tmp_path / "model.keras", overwrite=True)
    assert not list(tmp_path.iterdir())
    keras.saving.save_model(model, tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"^a config has no table of pseudo-labels: R2D2Model\.from_config\(config, table\)$"):
        keras.saving.load_model(tmp_path / "model.keras")
    model.class_loss = lambda log_p, log_pseudo_p: 0.0
    with pytest.raises(ValueError, match=r"^class_loss is a function of your own.*reverse_kl, forward_kl, squared_l2$"):
        model.get_config()
