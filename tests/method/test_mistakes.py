"""Mistakes of who uses the model in a `fit` of their own: each works, or is told in one line."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import IMAGE_SHAPE, NUM_CLASSES, batches_of, make_model, make_strategy, table_values, tiny_images, tiny_labels

from r2d2_tf.method.model import R2D2Model
from r2d2_tf.method.pseudo_labels import PseudoLabelTable

COUNT, LABELED = 24, 6
IMAGES, ROWS = tiny_images(COUNT), np.arange(COUNT)


def layers(*last):
    return keras.Sequential([keras.Input(IMAGE_SHAPE), keras.layers.Flatten(), *last])


def table(count=COUNT, labeled=LABELED):
    return PseudoLabelTable(tiny_labels(count, labeled), NUM_CLASSES)


def said(function, *arguments, **options):
    """What a mistake is answered by: one line."""
    with pytest.raises(ValueError, match=r".") as error:
        function(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


class OwnNetwork(keras.Model):
    """Of somebody's own class: it takes images alone, and its output has no shape before it is called."""

    def __init__(self, units=NUM_CLASSES, activation=None):
        super().__init__()
        self.flatten, self.dense = keras.layers.Flatten(), keras.layers.Dense(units, activation)

    def call(self, images, training=False):
        return self.dense(self.flatten(images))


DENSE, SOFTMAX = keras.layers.Dense, keras.layers.Softmax


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (lambda: layers(DENSE(NUM_CLASSES, "softmax")), "ends in a softmax"),
        (lambda: layers(DENSE(NUM_CLASSES), SOFTMAX()), "ends in a softmax"),
        (lambda: layers(DENSE(NUM_CLASSES), keras.layers.Activation("sigmoid")), "ends in a sigmoid"),
        (lambda: layers(layers_within()), "ends in a softmax"),
        (lambda: layers(DENSE(4)), r"output is (None, 4), and the table's rows have 3 classes"),
        (lambda: keras.Sequential([keras.Input(IMAGE_SHAPE), DENSE(3)]), "output is (None, 2, 2, 3)"),
        (lambda: keras.Sequential([keras.layers.Flatten(), DENSE(3)]), "has no weights yet: begin it with keras.Input"),
    ],
    ids=["softmax", "layer", "sigmoid", "within", "width", "rank", "unbuilt"],
)
def test_a_network_that_gives_no_logits_of_the_tables_classes_is_refused(network, words):
    assert words in said(R2D2Model, network(), table())


def layers_within():
    return keras.Sequential([keras.Input((4,)), DENSE(NUM_CLASSES, "softmax"), keras.layers.Activation("linear")])


def test_relu_before_the_last_layer_and_linear_layers_behind_it_are_right():
    R2D2Model(layers(DENSE(4, "softmax"), DENSE(NUM_CLASSES), keras.layers.Activation("linear", dtype="float32")), table())


def test_a_class_loss_that_is_none_is_told_with_those_that_are_and_a_name_is_enough():
    words = said(R2D2Model, layers(DENSE(NUM_CLASSES)), table(), class_loss="reverse-kl")
    assert (
        words == "class_loss ('reverse-kl') must be reverse_kl, forward_kl, squared_l2, or a function of (log_p, log_pseudo_p)"
    )
    assert R2D2Model(layers(DENSE(NUM_CLASSES)), table(), class_loss="forward_kl").get_config()["class_loss"] == "forward_kl"


def test_a_class_loss_may_be_set_by_its_name_and_what_is_none_is_told():
    model = R2D2Model(layers(DENSE(NUM_CLASSES)), table())
    model.class_loss = "forward_kl"
    assert model.get_config()["class_loss"] == "forward_kl"
    with pytest.raises(ValueError, match=r"class_loss \(\['l2'\]\) must be"):
        model.class_loss = ["l2"]


def test_a_class_loss_that_gives_a_mean_is_told_and_so_is_a_fit_before_a_stage_is_set():
    model = R2D2Model(layers(DENSE(NUM_CLASSES)), table(), class_loss=keras.losses.KLDivergence())
    assert "no stage is set: model.set_stage(" in said(model.fit, IMAGES, ROWS, verbose=0)
    model.set_stage(use_unlabeled=True, learn_pseudo_labels=True, optimizer="sgd")
    assert "class_loss gives the shape (): it must give one number an image" in said(model.fit, IMAGES, ROWS, verbose=0)


def test_what_is_no_table_or_is_made_within_the_strategy_is_refused():
    assert "make one of the labels" in said(R2D2Model, layers(DENSE(NUM_CLASSES)), tiny_labels(COUNT, LABELED))
    with make_strategy(2).scope():
        assert "outside the strategy's scope" in said(table)


CLASSES = np.arange(COUNT) % NUM_CLASSES


@pytest.mark.parametrize(
    ("batches", "words"),
    [
        (batches_of(IMAGES, CLASSES, 8), "have rows 0 to 2 alone, again and again, as classes would be: give fit the number"),
        (batches_of(IMAGES, CLASSES, 8).map(lambda x, y: (x, tf.one_hot(y, 3))), "rows are float32 of shape (8, 3)"),
        (batches_of(IMAGES, CLASSES, 8).map(lambda x, y: (x, y[:, None])), "rows are int64 of shape (8, 1)"),
        (batches_of(IMAGES, CLASSES, 8).map(lambda x, y: x), "fit takes batches of images and the number of each one's row"),
        (batches_of(IMAGES, ROWS + 5, 8), f"row 24 is none of the table's, 0 to {COUNT - 1}"),
        (batches_of(IMAGES, ROWS - 1, 8), f"row -1 is none of the table's, 0 to {COUNT - 1}"),
    ],
    ids=["classes", "onehot", "column", "images", "too_large", "minus_1"],
)
def test_what_is_no_row_in_a_fit_is_told_and_which_number_is_wanted(batches, words):
    model = make_model(make_strategy(1), tiny_labels(COUNT, LABELED))
    model.run_eagerly = True
    assert words in said(model.fit, batches, verbose=0, shuffle=False)


def test_classes_are_told_from_rows_on_two_replicas_and_before_many_steps_are_taken():
    model = make_model(make_strategy(2), tiny_labels(COUNT, LABELED))
    batches = batches_of(np.tile(IMAGES, (9, 1, 1, 1)), np.tile(CLASSES, 9), 8)
    assert "as classes would be" in said(model.fit, batches, verbose=0, shuffle=False)
    assert keras.ops.convert_to_numpy(model.optimizer.iterations) <= 2


@pytest.mark.parametrize(
    ("rows", "labeled", "size"),
    [
        (np.arange(COUNT).repeat(2), LABELED, 4),
        (np.tile(np.arange(3), 8), LABELED, 3),
        (np.tile(np.arange(3), 8), 3, 8),
        (np.tile(np.arange(LABELED), 8), LABELED, 12),
    ],
    ids=["two_views_of_each", "few_images_again_and_again", "one_label_a_class", "labeled_images_again_and_again"],
)
def test_rows_that_come_again_and_begin_at_0_are_no_classes(rows, labeled, size):
    model = make_model(make_strategy(1), tiny_labels(COUNT, labeled))
    model.run_eagerly = True
    model.fit(batches_of(IMAGES[rows], rows, size), verbose=0, shuffle=False)


@pytest.mark.parametrize("kind", [np.int32, np.uint8])
def test_rows_may_be_whole_numbers_of_any_kind_that_can_number_the_table(kind):
    large = PseudoLabelTable(np.arange(300) % NUM_CLASSES, NUM_CLASSES)
    for own, refused in ((table(), False), (large, kind == np.uint8)):
        model = R2D2Model(layers(DENSE(NUM_CLASSES)), own)
        model.compile("sgd", run_eagerly=True)
        model.use_unlabeled = True
        if refused:
            assert "rows are uint8" in said(model.fit, IMAGES, ROWS.astype(kind), verbose=0)
        else:
            model.fit(IMAGES, ROWS.astype(kind), verbose=0)


def test_a_network_of_ones_own_class_trains_and_its_softmax_and_width_are_told_at_the_first_batches():
    for arguments, words in (((), ""), ((NUM_CLASSES, "softmax"), "they add up to 1"), ((4,), "output is (8, 4)")):
        network = OwnNetwork(*arguments)
        network(IMAGES[:1])
        model = R2D2Model(network, table())
        model.set_stage(use_unlabeled=True, learn_pseudo_labels=True, optimizer="sgd")
        model.run_eagerly = True
        if words:
            assert words in said(model.fit, IMAGES, ROWS, 8, verbose=0)
        else:
            model.fit(IMAGES, ROWS, 8, verbose=0)
            assert model.predict(IMAGES, verbose=0).shape == (COUNT, NUM_CLASSES)


def test_a_switch_that_is_set_is_in_the_next_step_whether_the_model_is_compiled_anew_or_not():
    model = make_model(make_strategy(1), tiny_labels(COUNT, LABELED), learn_pseudo_labels=False)
    batches, before = batches_of(IMAGES, ROWS, 8), table_values(model.table)
    model.fit(batches, verbose=0, shuffle=False)
    np.testing.assert_array_equal(table_values(model.table), before)
    model.learn_pseudo_labels = True
    optimizer, function = model.optimizer, model.train_function
    model.fit(batches, verbose=0, shuffle=False)
    assert (table_values(model.table)[LABELED:] != before[LABELED:]).all()
    assert model.optimizer is optimizer
    # To what it was: nothing is traced anew.
    function = model.train_function
    model.learn_pseudo_labels, model.alpha = True, 0.1
    assert model.train_function is function
    model.alpha = 0.2
    assert model.train_function is not function


def test_rows_of_which_nothing_is_known_are_not_learned_as_class_0():
    model = R2D2Model(layers(DENSE(NUM_CLASSES)), table())
    model.compile("sgd", run_eagerly=True)
    assert f"row {LABELED} has no label and no prediction yet" in said(model.fit, IMAGES, ROWS, COUNT, verbose=0, shuffle=False)
    model.fit(IMAGES[:LABELED], ROWS[:LABELED], verbose=0)
    model.repredict(batches_of(IMAGES, ROWS, 8))
    model.fit(IMAGES, ROWS, verbose=0)


def test_single_batches_are_trained_and_tested_on():
    model = R2D2Model(layers(DENSE(NUM_CLASSES)), table())
    model.set_stage(use_unlabeled=True, learn_pseudo_labels=True, optimizer="sgd")
    model.run_eagerly = True
    model.train_on_batch(IMAGES, ROWS)
    assert model.test_on_batch(IMAGES, CLASSES, return_dict=True).keys() == {"loss", "error"}


def test_a_stage_is_set_with_its_switches_and_a_new_optimizer():
    model = R2D2Model(layers(DENSE(NUM_CLASSES)), table())
    for use_unlabeled, learn in ((False, False), (True, True), (True, False)):
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        model.set_stage(use_unlabeled=use_unlabeled, learn_pseudo_labels=learn, optimizer=optimizer)
        assert (model.use_unlabeled, model.learn_pseudo_labels, model.optimizer) == (use_unlabeled, learn, optimizer)
    model.set_stage(use_unlabeled=False, learn_pseudo_labels=False)
    assert model.optimizer is optimizer


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": "categorical_crossentropy"}, "the model has its own loss"),
        ({"metrics": ["accuracy"]}, "the model has its own loss"),
        ({"jit_compile": True}, "leave it out"),
    ],
    ids=["loss", "metrics", "xla"],
)
def test_what_compile_would_have_passed_over_in_silence_is_refused(options, words):
    assert words in said(R2D2Model(layers(DENSE(NUM_CLASSES)), table()).compile, "sgd", **options)


def test_a_share_to_validate_on_and_classes_that_are_none_are_refused():
    model = make_model(make_strategy(1), tiny_labels(COUNT, LABELED))
    model.run_eagerly = True
    assert "validation_data=(images, classes)" in said(model.fit, IMAGES, ROWS, validation_split=0.2)
    assert said(model.evaluate, IMAGES, ROWS, verbose=0).startswith("an image's class is 23: classes run from 0 to 2")
    assert "an image's class is -2" in said(model.evaluate, IMAGES, np.full(COUNT, -2), verbose=0)
    model.use_unlabeled = True
    assert "an image's class is 23" in said(model.fit, IMAGES, ROWS, validation_data=(IMAGES, ROWS), verbose=0)
    assert "row 24 is none" in said(model.repredict, batches_of(IMAGES, ROWS + 7, 8))


def test_a_network_is_saved_and_read_by_keras_and_the_model_says_how(tmp_path):
    model = make_model(make_strategy(1), tiny_labels(COUNT, LABELED))
    assert "model.backbone.save('network.keras')" in said(model.save, tmp_path / "model.keras")
    model.backbone.save(tmp_path / "network.keras")
    network = keras.models.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(network.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0))
