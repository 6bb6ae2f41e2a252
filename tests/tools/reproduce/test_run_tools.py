import dataclasses
import json

import numpy as np
import pytest
from conftest import SHORT, SUMMARY

from r2d2_tf import backbones, train
from r2d2_tf.config.config import Config
from r2d2_tf.runs import run_directory
from tools.reproduce import feature_plot, theorem_check

ALPHA, BETA = 0.1, 0.03


def converge(p):
    """The row at which eq. 2 is smallest for a fixed prediction is the prediction itself; moves toward it lower the loss."""
    return np.exp(-(BETA * entropy(p)) / ALPHA) * p.max() ** (1 - BETA / ALPHA)


def entropy(p):
    return float(-(p * np.log(p)).sum())


def history(**changes):
    p = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]])
    q = np.array([[0.6, 0.3, 0.1], [0.9, 0.05, 0.05]])
    one = {
        "pseudo_label_probability": q.max(1),
        "predicted_probability": p.max(1),
        "class_loss": (p * np.log(p / q)).sum(1),
        "entropy": -(p * np.log(p)).sum(1),
    }
    unknown = {"pseudo_label_probability": np.full(2, np.nan), "class_loss": np.full(2, np.nan)}
    entries = [one | unknown, one, one]
    stacked = {name: np.array([entry[name] for entry in entries]) for name in one}
    return {"stage": np.array([2, 2, 2]), "epoch": np.array([0, 4, 8]), "replaced": np.array([True, True, False])} | stacked


def test_rows_are_measured_before_and_after_each_prediction_but_not_before_the_first():
    found = theorem_check.comparisons(history(), alpha=ALPHA, beta=BETA)
    assert [(c.epoch, c.title.split()[0]) for c in found] == [(0, "after"), (4, "before"), (4, "after"), (8, "at")]


def test_distance_and_inequality_are_the_papers():
    found = theorem_check.comparisons(history(), alpha=ALPHA, beta=BETA)
    # By hand, row 0: L = 0.1 * KL([.7 .2 .1] || [.6 .3 .1]) + 0.03 * H([.7 .2 .1]).
    divergence = 0.7 * np.log(0.7 / 0.6) + 0.2 * np.log(0.2 / 0.3)
    loss = 0.1 * divergence + 0.03 * entropy(np.array([0.7, 0.2, 0.1]))
    assert found[1].distance[0] == pytest.approx(abs(0.6 - np.exp(-loss / 0.1) * 0.7**0.7))
    assert found[1].holds.tolist() == [True, False]
    assert found[2].distance[0] == pytest.approx(abs(0.7 - converge(np.array([0.7, 0.2, 0.1]))))


def test_the_fixed_point_obeys_theorem_2():
    generator = np.random.default_rng(0)
    p, q = generator.dirichlet(np.ones(10), 1000), generator.dirichlet(np.ones(10), 1000)
    loss = ALPHA * (p * np.log(p / q)).sum(1) - BETA * (p * np.log(p)).sum(1)
    assert (theorem_check.fixed_point(p.max(1), loss, alpha=ALPHA, beta=BETA) <= p.max(1) + 1e-9).all()


def test_a_finished_run_gets_a_table_and_a_picture(finished_run, capsys):
    assert theorem_check.main([f"--run_dir={finished_run}"]) == 0
    out = capsys.readouterr().out
    assert [line.split("|")[1].strip() for line in out.splitlines() if "prediction" in line or "end" in line] == [
        "0", "1", "1", "2"
    ]  # fmt: skip
    assert (finished_run / "theorems.png").stat().st_size > 10_000


def test_variance_within_classes_is_a_share_of_all_variance():
    features = np.array([[0.0, 0], [2, 0], [10, 0], [12, 0]])
    labels = np.array([0, 0, 1, 1])
    assert feature_plot.variance_within(features, labels) == pytest.approx(100 * 4 / (36 + 16 + 16 + 36))
    assert feature_plot.variance_within(features, np.zeros(4)) == 100.0


@pytest.mark.slow
def test_a_run_with_two_features_gets_its_picture_and_four_numbers(tmp_path, capsys):
    assert train.main([*SHORT, "--backbone=lenet_2d", "--max_steps=10", f"--run_dir={tmp_path}"]) == 0
    capsys.readouterr()
    assert feature_plot.main([f"--run_dir={tmp_path}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines[1:5]] == ["100 labeled images", "all 4", "100 labeled images", "all 4"]
    assert all("variance within classes " in line for line in lines[1:5])
    assert (tmp_path / "features.png").stat().st_size > 10_000
    network = backbones.load(tmp_path / "stage_2.keras")
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1)).astype(np.uint8)
    features = feature_plot.features_of(tmp_path / "stage_2.keras", images, 2)
    head = network.get_layer("lenet_2d").layers[-1]
    np.testing.assert_allclose(head(features), network(images), rtol=1e-4, atol=1e-4)


def folder_of(tmp_path, **flags):
    config = Config(run_dir=str(tmp_path / "run"), **flags)
    with run_directory.claimed(config) as folder:
        pass
    (folder / run_directory.SUMMARY_FILE).write_text(json.dumps(SUMMARY))
    return dataclasses.replace(config).resolved_run_dir


@pytest.mark.parametrize("main", [theorem_check.main, feature_plot.main])
@pytest.mark.parametrize(
    "flags",
    [{"class_loss": "forward_kl"}, {"rounds": "", "finetune_epochs": 0, "backbone": "lenet_2d"}, {"stage_1_from": "elsewhere"}],
)
def test_a_run_that_cannot_be_looked_at_is_one_line(main, flags, tmp_path, capsys):
    assert main([f"--run_dir={folder_of(tmp_path, **flags)}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("main", [theorem_check.main, feature_plot.main])
@pytest.mark.parametrize("arguments", [[], ["--run_dir=nowhere"], ["--run=x"]])
def test_bad_input_is_one_line(main, arguments, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
