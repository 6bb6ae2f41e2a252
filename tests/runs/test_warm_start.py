"""A run that starts from another run's final network."""

import csv
import json
import shutil
import time

import numpy as np
import pytest
from conftest import LIGHT, StopAt

from r2d2_tf import backbones, train
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.runs.checkpoints import CannotResume
from r2d2_tf.system.interrupts import RunInterrupted
from r2d2_tf.training.experiment import Experiment
from tools.label_queue import __main__ as label_queue
from tools.torture.exactness import differences

# Rates so small that 12 steps hardly move the network: it can be told where it came from.
FLAGS = (*LIGHT, "--deterministic", "--rounds=1:0.001", "--finetune_epochs=1", "--max_steps=6")
BACKBONE = "small_network:strided"


def start(folder, *flags, signals=None):
    experiment = Experiment(from_command_line([*FLAGS, *flags, f"--run_dir={folder}"]), signals=signals)
    with experiment.claimed() as claimed:
        return experiment.run(claimed, time.perf_counter())


@pytest.fixture(scope="module")
def split(light_run, tmp_path_factory):
    """The labeled images of the other run, and 50 more."""
    path = tmp_path_factory.mktemp("split") / "labeled.txt"
    with np.load(light_run / "pseudo_labels.npz") as table:
        more = table["ids"][table["given_labels"] < 0][::70][:50]
    path.write_text((light_run / "labeled.txt").read_text() + "\n".join(more) + "\n")
    return (f"--split_file={path}", "--num_labels=150")


@pytest.fixture(scope="module")
def warm(light_run, split, tmp_path_factory):
    folder = tmp_path_factory.mktemp("warm") / "run"
    return folder, start(folder, *split, f"--warm_start={light_run}")


def weights_of(path):
    return np.concatenate([weight.ravel() for weight in backbones.load(path).get_weights()])


def test_it_starts_where_the_other_run_ended_and_has_no_stage_1(light_run, split, tmp_path):
    flags = [*FLAGS, *split, f"--warm_start={light_run}", f"--run_dir={tmp_path / 'run'}"]
    experiment = Experiment(from_command_line(flags))
    ours = np.concatenate([weight.ravel() for weight in experiment.model.backbone.get_weights()])
    np.testing.assert_array_equal(ours, weights_of(light_run / "backbone.keras"))
    assert [stage.number for stage in experiment.stages] == [2, 3]


def test_it_trains_on_with_the_new_labels_clamped(light_run, warm):
    folder, summary = warm
    assert list(summary["test_error_percent"]) == ["stage_2", "stage_3"]
    assert summary["warm_start"] == str(light_run)
    assert not (folder / "stage_1.keras").exists()
    with np.load(folder / "pseudo_labels.npz") as table:
        rows, labels, logits = np.flatnonzero(table["given_labels"] >= 0), table["given_labels"], table["pseudo_logits"]
    assert len(rows) == 150
    np.testing.assert_array_equal(logits[rows], 10 * np.eye(10, dtype=np.float32)[labels[rows]])
    before, after = weights_of(light_run / "backbone.keras"), weights_of(folder / "backbone.keras")
    assert 0 < np.linalg.norm(after - before) < 0.05 * np.linalg.norm(before)


def test_a_queue_that_was_filled_in_is_what_it_trains_on(light_run, tmp_path):
    run = tmp_path / "asked"
    shutil.copytree(light_run, run, ignore=shutil.ignore_patterns("export", "evaluation"))
    assert label_queue.main([f"--run_dir={run}", "--count=20"]) == 0
    data = DATASETS["mnist5k"].load(None)
    true = dict(zip(data.train_ids, data.train_labels, strict=True))
    with (run / "queue.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    asked = [line for line in lines if not line["label"]]
    assert len(asked) == 20
    for line in asked:
        line["label"] = str(true[line["file"]])
    filled = tmp_path / "filled.csv"
    with filled.open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    start(tmp_path / "run", f"--labels={filled}", "--num_labels=0", f"--warm_start={run}")
    with np.load(run / "pseudo_labels.npz") as before, np.load(tmp_path / "run" / "pseudo_labels.npz") as after:
        new = np.flatnonzero(before["given_labels"] != after["given_labels"])
        assert {after["ids"][row] for row in new} == {line["file"] for line in asked}
        np.testing.assert_array_equal(after["given_labels"][new], data.train_labels[new])


def test_the_same_command_shows_the_result(light_run, split, warm, capsys):
    assert train.main([*FLAGS, *split, f"--warm_start={light_run}", f"--run_dir={warm[0]}"]) == 0
    assert "finished already" in capsys.readouterr().out


def test_an_interrupted_run_goes_on_though_the_other_one_is_gone(light_run, split, warm, tmp_path, capsys):
    other = shutil.copytree(light_run, tmp_path / "other")
    flags = [*split, f"--warm_start={other}"]
    with pytest.raises(RunInterrupted):
        start(tmp_path / "run", *flags, signals=StopAt(15))
    shutil.rmtree(other)
    assert start(tmp_path / "run", *flags)["resumes"] == 1
    assert "Stage 3 of 3: fine-tuning" in capsys.readouterr().out
    assert differences(tmp_path / "run", warm[0]) == []


def test_a_network_that_changed_since_the_run_began_is_refused(light_run, split, tmp_path):
    other = shutil.copytree(light_run, tmp_path / "other")
    flags = [*split, f"--warm_start={other}"]
    with pytest.raises(RunInterrupted):
        start(tmp_path / "run", *flags, signals=StopAt(15))
    shutil.copy(light_run / "stage_1.keras", other / "backbone.keras")
    with pytest.raises(CannotResume, match=r"network to start from changed .* give it the --warm_start that it began with"):
        start(tmp_path / "run", *flags)
    shutil.copy(light_run / "backbone.keras", other / "backbone.keras")
    assert start(tmp_path / "run", *flags)["resumes"] == 1


def test_it_is_a_run_of_another_name():
    assert len({Config(warm_start=folder).digest for folder in ("", "a", "b")}) == 3


def other_classes(folder):
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"class_names": list("abcdefghij")}))


def other_shape(folder):
    network = backbones.build(BACKBONE, (28, 28, 1), 7, mean=(0.1,), std=(0.3,))
    network.save(folder / "backbone.keras")


DAMAGES = {
    "no run": (shutil.rmtree, "is not the folder of a run"),
    "unfinished": (lambda folder: (folder / "summary.json").unlink(), "is not finished"),
    "no network": (lambda folder: (folder / "backbone.keras").unlink(), "has no backbone.keras"),
    "other backbone": (
        lambda folder: (folder / "config.cfg").write_text("--backbone=lenet_2d\n"),
        f"had another backbone (lenet_2d, now {BACKBONE}): give --backbone the same value",
    ),
    "other classes": (other_classes, "had other classes"),
    "other shape": (other_shape, "has a network of another shape (2,223 weights in place of 3,090)"),
    "damaged": (lambda folder: (folder / "backbone.keras").write_bytes(b"x" * 99), "cannot be read"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_network_that_cannot_be_started_from_is_one_line(damage, message, light_run, tmp_path, capsys):
    other = shutil.copytree(light_run, tmp_path / "other")
    damage(other)
    assert train.main([*FLAGS, f"--warm_start={other}", f"--run_dir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--stage_1_from=x"], "both give a network: leave one out"),
        (["--rounds=", "--finetune_epochs=0"], "warm_start leaves nothing to do"),
    ],
)
def test_flags_that_do_not_go_together_are_one_line(flags, message, capsys):
    assert train.main([*FLAGS, *flags, "--warm_start=y"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
