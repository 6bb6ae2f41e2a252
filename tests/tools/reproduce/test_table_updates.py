"""Lee's pseudo-labels and temporal ensembling: their updates against formulas of the papers, and the command."""

import itertools

import keras
import numpy as np
import pytest
import small_network
from conftest import IMAGE_SHAPE, NUM_CLASSES, batches_of, make_strategy, softmax, table_values, tiny_images, tiny_labels

from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from tools.reproduce import baselines, table_updates

COUNT, LABELED, RATE = 12, 4, 0.1
IMAGES, LABELS = tiny_images(COUNT), tiny_labels(COUNT, LABELED)
ONEHOT = np.eye(NUM_CLASSES)
REPLICAS = pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.slow)])


def made(kind, strategy, **options):
    table = PseudoLabelTable(LABELS, NUM_CLASSES)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        network = keras.Sequential([keras.Input(IMAGE_SHAPE), keras.layers.Flatten(), keras.layers.Dense(NUM_CLASSES)])
        model = kind(network, table, **options)
        model.compile(keras.optimizers.SGD(RATE))
    return model


def weights_of(model):
    return [weight.numpy() for weight in model.trainable_variables]


def trained(model, epochs):
    """Kernel and bias before each epoch of a single batch, and the unlabeled rows after it."""
    weights, rows = [], []
    for _ in range(epochs):
        weights.append(weights_of(model))
        model.fit(batches_of(IMAGES, np.arange(COUNT), COUNT), verbose=0, shuffle=False)
        rows.append(table_values(model.table))
        np.testing.assert_array_equal(rows[-1][:LABELED], 10 * ONEHOT[LABELS[:LABELED]])
    return [*weights, weights_of(model)], [values[LABELED:] for values in rows]


def check_steps(weights, error_of):
    """The steps of a linear network, `error_of` of a step's number and its predictions being dL/d(logits)."""
    flat = IMAGES.reshape(COUNT, -1)
    for step, ((kernel, bias), (new_kernel, new_bias)) in enumerate(itertools.pairwise(weights)):
        error = error_of(step, softmax(flat @ kernel + bias))
        np.testing.assert_allclose(new_kernel, kernel - RATE * flat.T @ error, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(new_bias, bias - RATE * error.sum(0), rtol=1e-4, atol=1e-6)


@REPLICAS
def test_lee_trains_on_the_likeliest_class_of_each_step_and_keeps_the_predictions_in_the_rows(replicas):
    model = made(table_updates.LeePseudoLabels, make_strategy(replicas), weight=table_updates.lee_ramp(3.0, 1, 3))
    weights, rows = trained(model, epochs=4)

    def error_of(step, p):
        given, own = p[:LABELED] - ONEHOT[LABELS[:LABELED]], p[LABELED:] - ONEHOT[p[LABELED:].argmax(1)]
        return np.concatenate([given / LABELED, (0.0, 0.0, 1.5, 3.0)[step] * own / (COUNT - LABELED)])

    check_steps(weights, error_of)
    for (kernel, bias), values in zip(weights, rows, strict=False):
        p = softmax(IMAGES.reshape(COUNT, -1) @ kernel + bias)[LABELED:]
        np.testing.assert_allclose(np.exp(values), p, rtol=1e-4)


@REPLICAS
def test_temporal_ensembling_is_drawn_to_the_corrected_average_of_earlier_predictions(replicas):
    weight = table_updates.gaussian_ramp(2.0, 1, 2)
    model = made(table_updates.TemporalEnsembling, make_strategy(replicas), weight=weight, momentum=0.6)
    weights, rows = trained(model, epochs=4)
    total, averages = np.zeros((COUNT - LABELED, NUM_CLASSES)), [np.full((COUNT - LABELED, NUM_CLASSES), 1 / NUM_CLASSES)]
    for visits, (kernel, bias) in enumerate(weights[:-1], start=1):
        total = 0.6 * total + 0.4 * softmax(IMAGES.reshape(COUNT, -1) @ kernel + bias)[LABELED:]
        averages.append(total / (1 - 0.6**visits))
        np.testing.assert_allclose(softmax(rows[visits - 1]), averages[-1], rtol=1e-4)

    def error_of(step, p):
        given, own = p[:LABELED] - ONEHOT[LABELS[:LABELED]], p[LABELED:]
        slope = 2 * (own - averages[step]) / NUM_CLASSES
        drawn = own * (slope - (own * slope).sum(1, keepdims=True))
        return np.concatenate([given, (0.0, 2 * np.exp(-5 / 4), 2.0, 2.0)[step] * drawn]) / COUNT

    check_steps(weights, error_of)


FLAGS = [
    f"--backbone={small_network.__name__}:strided",
    "--supervised_epochs=1",
    "--rounds=1:0.01",
    "--finetune_epochs=0",
    "--batch_size=64",
    "--max_steps=2",
]


@pytest.mark.slow
def test_the_command_trains_both_after_one_stage_1_and_prints_their_errors(tmp_path, capsys):
    assert baselines.main([*FLAGS, "--seeds=1", "--epochs=2", f"--runs={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    lines = [line.split("|") for line in printed.splitlines() if line.startswith("| ")][1:]
    assert [line[1].strip() for line in lines] == list(baselines.NAMES.values())
    assert len({line[3] for line in lines}) == 1
    assert all(0 < float(line[4]) < 100 for line in lines)
    assert len([folder for folder in tmp_path.iterdir() if folder.is_dir()]) == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [(["--methods=lee,mean_teacher"], "must be of lee, ensembling"), (["--rounds="], "give the experiment --rounds")],
)
def test_what_the_command_cannot_do_is_told_in_a_line(flags, words, tmp_path, capsys):
    assert baselines.main([*FLAGS, *flags, f"--runs={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_several_seeds_have_their_mean_and_spread():
    outcomes = [baselines.Outcome("lee", seed, 12.0, error) for seed, error in ((0, 5.0), (1, 6.0))]
    lines = [[cell.strip() for cell in line.split("|")[1:4]] for line in baselines.as_tables(outcomes).splitlines()]
    assert lines[-2:] == [["mean", "12.00", "5.50"], ["standard deviation", "0.00", "0.71"]]
