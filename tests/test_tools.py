"""What a table costs, and how fast its input is."""

import json
import re

import pytest

from r2d2_tf.config import Config
from r2d2_tf.tfds_reader import FAKE
from tools import cost, fake_data, input_speed, reproduce, training

IMAGENET = {"dataset": "imagenet2012", "num_labels": 128_000, "backbone": "resnet18"}


@pytest.mark.parametrize(
    ("flags", "billions"),
    [
        ({"dataset": "cifar10", "backbone": "shake_shake_26_2x96d"}, 3.78),
        ({"dataset": "cifar10", "backbone": "shake_shake_26_2x32d"}, 0.43),
        ({"dataset": "cifar10", "backbone": "conv_large"}, 0.73),
        ({"dataset": "cifar10", "backbone": "conv_large_weight_norm"}, 0.73),
        ({"dataset": "cifar10", "backbone": "wrn_28_2"}, 0.2145),
        ({"dataset": "cifar10", "backbone": "conv_small"}, 0.0025),
        (IMAGENET, 1.8),
    ],
)
def test_multiply_adds_are_those_known_of_the_networks(flags, billions):
    assert cost.multiply_adds(Config(**{"num_labels": 4000, **flags})) / 1e9 == pytest.approx(billions, rel=0.02)


def test_the_cost_is_that_of_the_plan():
    config = Config(dataset="cifar10", num_labels=4000, rounds="300:0.12,75:0.12,75:0.08,75:0.04,75:0.004")
    # FACTS of the recipe: 119 steps an epoch in stage 2, predictions before it and at four later rounds.
    whole = cost.cost_of(config)
    assert whole.trained == 300 * 4000 + 600 * 119 * 512 + 50 * 98 * 512
    assert whole.predicted == 6 * 46_000
    alone = cost.cost_of(Config(dataset="cifar10", num_labels=4000, rounds="", finetune_epochs=0))
    assert whole.without(alone).trained == whole.trained - 300 * 4000
    assert cost.Cost(10**6, 3 * 10**6).gpu_hours(10**9) == pytest.approx(6e6 * 2e9 / 1e13 / 3600)


@pytest.fixture
def places(tmp_path):
    return [f"--output_dir={tmp_path}/o", f"--runs={tmp_path}/r"]


@pytest.fixture(scope="module")
def part_of_cifar100(tmp_path_factory):
    """A copy of 140 training images that does not call itself fake."""
    folder = tmp_path_factory.mktemp("part")
    fake_data.make("cifar100", folder)
    info = next(folder.rglob("dataset_info.json"))
    info.write_text(info.read_text().replace(FAKE, "A part"))
    return folder


@pytest.mark.parametrize(
    ("flags", "row", "message"),
    [
        ([], "supervised, the given labels only", r"num_labels \(10000\) must be .* number of training images \(140\)"),
        (["--num_labels=100"], "R2-D2", "batch_size .* unlabeled images a batch: lower --batch_size"),
        (
            ["--num_labels=100", "--split_file=SPLIT"],
            "supervised, the given labels only",
            "line 1: 'train_99999' names no image",
        ),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry_run"]])
def test_rows_that_a_partial_copy_cannot_carry_are_told_before_any_is_run(
    flags, row, message, dry, part_of_cifar100, tmp_path, places, capsys, monkeypatch
):
    monkeypatch.setattr(training.subprocess, "run", lambda *a, **k: pytest.fail("a row is run"))
    (tmp_path / "split").write_text("train_99999\n")
    flags = [flag.replace("SPLIT", str(tmp_path / "split")) for flag in flags]
    assert reproduce.main(["--table=6", "--scale=full", f"--data_dir={part_of_cifar100}", *places, *flags, *dry]) == 2
    error = capsys.readouterr().err
    assert re.match(f"error: row '{row}' cannot be run on the 140 training images .* so nothing was run: .*{message}", error)
    assert error.count("\n") == 1


def test_a_dry_run_prints_what_is_left_and_writes_nothing(tmp_path, capsys):
    arguments = ["--table=7", "--scale=full", "--seeds=0,1", "--dry_run", f"--output_dir={tmp_path}/o", f"--runs={tmp_path}/r"]
    assert reproduce.main(arguments) == 0
    out = capsys.readouterr().out
    assert "3,777 million multiply-adds an image" in out
    assert "| R2-D2 | 1 | not run | 39.07 | 24.6" in out
    assert out.rstrip().endswith("Nothing was run.")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("table", [6, 8])
def test_a_trial_of_a_table_at_full_size_steps_every_row_and_calls_its_data_fake(table, tmp_path, capfd):
    arguments = [f"--table={table}", "--scale=full", "--seeds=0", "--trial", f"--runs={tmp_path}"]
    assert reproduce.main(arguments) == 0
    text = next(tmp_path.glob("*_trial.md")).read_text()
    assert text.startswith("FAKE DATA, one step of each stage: the errors mean nothing.")
    assert text.count("| 1 |") == 4, "each row has its seed"
    summaries = [json.loads(path.read_text()) for path in tmp_path.glob("*/summary.json")]
    assert len(summaries) == 4
    assert all(summary["fake_data"] for summary in summaries)
    assert "(FAKE DATA)" in capfd.readouterr().out


def test_a_set_that_needs_no_data_folder_has_no_fake(tmp_path):
    fake_data.make("mnist5k", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_input_is_measured_beside_training(monkeypatch):
    monkeypatch.setattr(input_speed, "NUM_IMAGES", 400)
    config = Config(dataset="cifar10", backbone="conv_small", num_labels=100, batch_size=8)
    read, trained = input_speed.measure(config, rounds=2, steps=3)
    assert len(read) == len(trained) == 2
    assert min(*read, *trained) > 0
    lines = list(input_speed.lines_of(iter([("a case", ([100.0, 300.0, 200.0], [10.0, 20.0, 20.0]))])))
    assert lines[-1] == "| a case | **10.0** | 200 (100 to 300) | 20 (10 to 20) |"


@pytest.mark.parametrize("arguments", [["--rounds=0"], ["--rounds=x"], ["x"]])
def test_bad_input_is_one_line(arguments, capsys):
    assert input_speed.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
