"""A run that is stopped, killed or goes wrong, and goes on."""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from conftest import LIGHT, ROOT, StopAt, made_once

from r2d2_tf import train
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.checkpoints import CannotResume, Checkpoints
from r2d2_tf.system import arrays
from r2d2_tf.system.interrupts import RunInterrupted, StopSignals
from r2d2_tf.training.callbacks import checkpointing
from r2d2_tf.training.callbacks.collapse import RunStopped
from r2d2_tf.training.callbacks.progress import Locator
from r2d2_tf.training.experiment import Experiment
from r2d2_tf.training.loop import Training
from tools.torture.exactness import content_of, differences, results_of

DETERMINISTIC = (*LIGHT, "--deterministic")
BEYOND = ("--ema=0.9", "--class_balance=labels", "--finetune_weights=confidence", "--rand_augment=2:9:all")
"""All that is beyond the paper."""


def start(folder, *flags, signals=None):
    config = from_command_line([*DETERMINISTIC, *flags, f"--run_dir={folder}"])
    experiment = Experiment(config, signals=signals)
    with experiment.claimed() as claimed:
        return experiment.run(claimed, time.perf_counter())


def run_in_pieces(folder, checks_a_piece, *flags):
    """Runs to the end, stopping after so many checks each time, and returns how many pieces it took."""
    for pieces in range(1, 100):
        try:
            start(folder, *flags, signals=StopAt(checks_a_piece))
        except RunInterrupted:
            continue
        return pieces
    raise AssertionError("it gets nowhere")


@pytest.fixture(scope="module")
def undisturbed(light_run):
    return light_run


# A run of LIGHT makes some 270 checks: one a step, an epoch, a checkpoint, and a batch of evaluation or prediction.
@pytest.mark.parametrize("checks", [131, pytest.param(60, marks=pytest.mark.slow), pytest.param(21, marks=pytest.mark.slow)])
def test_a_run_stopped_time_and_again_ends_as_an_undisturbed_one(checks, undisturbed, tmp_path):
    pieces = run_in_pieces(tmp_path / "run", checks)
    assert pieces > 2
    assert differences(tmp_path / "run", undisturbed) == []


class StopWhen(StopSignals):
    """Asks for a stop when the run is at a place, in the middle of a prediction or not."""

    def __init__(self, place, consistent):
        super().__init__()
        self.moment = (place, consistent)
        self.state = None

    @property
    def requested(self):
        reached = self.state is not None and (self.state.place, self.state.consistent) == self.moment
        return signal.SIGINT if reached else 0


@pytest.mark.parametrize(
    ("place", "consistent"),
    [
        pytest.param((1, 0, 1), True, id="first_step", marks=pytest.mark.slow),
        pytest.param((2, 0, 0), False, id="first_prediction", marks=pytest.mark.slow),
        pytest.param((2, 0, 81), True, id="evaluation_after_an_epoch"),
        pytest.param((2, 1, 0), False, id="later_prediction", marks=pytest.mark.slow),
        pytest.param((2, 1, 1), True, id="step_after_a_prediction", marks=pytest.mark.slow),
        pytest.param((2, 1, 81), True, id="evaluation_after_the_last_epoch_of_a_stage", marks=pytest.mark.slow),
        pytest.param((2, 2, 0), True, id="comparison_at_the_end_of_stage_2", marks=pytest.mark.slow),
        pytest.param((3, 0, 42), True, id="last_step", marks=pytest.mark.slow),
    ],
)
def test_a_run_may_be_stopped_at_any_kind_of_moment(place, consistent, undisturbed, tmp_path, monkeypatch):
    signals, begin_fit = StopWhen(place, consistent), Training._fit

    def fit(self, stage):
        signals.state = self.state
        begin_fit(self, stage)

    monkeypatch.setattr(Training, "_fit", fit)
    with pytest.raises(RunInterrupted):
        start(tmp_path / "run", signals=signals)
    start(tmp_path / "run")
    assert differences(tmp_path / "run", undisturbed) == []


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1)])
def test_the_number_of_replicas_may_change_on_the_way(first, then, undisturbed, tmp_path):
    strategies = {1: ["--num_logical_cpus=2"], 2: ["--num_logical_cpus=2", "--strategy=mirrored"]}
    with pytest.raises(RunInterrupted):
        start(tmp_path / "run", *strategies[first], signals=StopAt(100))
    summary = start(tmp_path / "run", *strategies[then])
    assert summary["resumes"] == 1
    assert summary["devices"].startswith(f"{then} replica")
    ours, theirs = (results_of(folder)["metrics.csv"] for folder in (tmp_path / "run", undisturbed))
    # Numbers of images and epochs are the same; the rest is, to rounding, for as long as rounding has not grown.
    for name in ("run_epoch", "stage", "epoch", "learning_rate", "predicted"):
        assert [row[name] for row in ours] == [row[name] for row in theirs]
    for mine, other in zip(ours[:5], theirs[:5], strict=True):
        assert float(mine["loss"]) == pytest.approx(float(other["loss"]), rel=1e-3)
        assert mine["predicted_classes"].split() != []
    counts = [sum(map(int, row["predicted_classes"].split())) for row in ours]
    assert counts == [sum(map(int, row["predicted_classes"].split())) for row in theirs]


@pytest.mark.slow
def test_two_replicas_go_on_as_exactly_as_one(tmp_path):
    two = ["--strategy=mirrored", "--num_logical_cpus=2"]
    start(tmp_path / "undisturbed", *two)
    assert run_in_pieces(tmp_path / "run", 100, *two) > 2
    assert differences(tmp_path / "run", tmp_path / "undisturbed") == []


@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_labeled_rows_that_are_learned_several_times_a_batch_and_what_is_beyond_the_paper_go_on(replicas, tmp_path):
    flags = ["--learn_labeled_rows", "--label_noise=0.2", "--num_labels=30", "--labeled_to_unlabeled=3:1"]
    flags += ["--max_steps=3", "--supervised_epochs=1", *BEYOND]
    flags += ["--strategy=mirrored", f"--num_logical_cpus={replicas}"] if replicas > 1 else []
    start(tmp_path / "undisturbed", *flags)
    assert run_in_pieces(tmp_path / "run", 35, *flags) > 1
    assert differences(tmp_path / "run", tmp_path / "undisturbed") == []
    with np.load(tmp_path / "run" / "pseudo_labels.npz") as table:
        rows, given = np.flatnonzero(table["given_labels"] >= 0), table["given_labels"]
        assert (table["pseudo_logits"][rows] != 10.0 * np.eye(10)[given[rows]]).all()


@pytest.mark.slow
def test_layers_that_draw_random_numbers_go_on_with_them(tmp_path, monkeypatch):
    # LeNet with dropout and batch normalisation: their seeds and running statistics are part of a checkpoint.
    from r2d2_tf.backbones import BACKBONES

    monkeypatch.setitem(BACKBONES, "lenet", "test_resume:random_network")
    start(tmp_path / "undisturbed", "--backbone=lenet")
    assert run_in_pieces(tmp_path / "run", 100, "--backbone=lenet") > 2
    assert differences(tmp_path / "run", tmp_path / "undisturbed") == []


def random_network(image_shape, num_classes, batch_norm):
    from r2d2_tf.backbones.layers import conv, dense

    layers = [conv(8, 5, strides=2), batch_norm(), keras.layers.ReLU(), keras.layers.Dropout(0.3), keras.layers.Flatten()]
    return keras.Sequential([keras.Input(image_shape), *layers, dense(num_classes)], name="random_network")


def damage_rows_of(monkeypatch, table_at, times):
    """Makes the first `times` arrivals at an epoch of stage 2 find a row that is not finite."""
    arrived = []

    def begin(self, epoch, logs=None):
        if (self.stage.number, epoch) == table_at and len(arrived) < times:
            arrived.append(epoch)
            row = self.model.table.unlabeled_rows[:1]
            self.model.table.repredict(row, np.full((1, 10), np.nan, np.float32))

    monkeypatch.setattr("r2d2_tf.training.callbacks.progress.Locator.on_epoch_begin", begin)
    return arrived


def test_a_run_that_goes_wrong_rolls_back_with_half_the_rate_and_says_so(tmp_path, monkeypatch, capsys):
    flags = ["--rounds=3:0.01", "--on_divergence=rollback"]
    # A checkpoint after each epoch, however long it takes.
    monkeypatch.setattr(checkpointing, "_CHEAP", math.inf)
    damage_rows_of(monkeypatch, (2, 2), times=1)
    summary = start(tmp_path / "run", *flags)
    metrics = results_of(tmp_path / "run")["metrics.csv"]
    assert [row["run_epoch"] for row in metrics] == [str(number) for number in range(1, 9)], "each epoch once"
    assert [row["learning_rate"] for row in metrics[4:]] == ["0.01", "0.01", "0.005", "0.0005"]
    [rollback] = summary["rollbacks"]
    assert "a pseudo-logit is not finite" in rollback["reason"]
    assert rollback["learning_rate_scale"] == 0.5
    assert re.search(r"rolling back to the checkpoint 0.*: stage 2 .*, epoch 3 of 3.*0\.5 times", capsys.readouterr().err)


@pytest.mark.slow
def test_a_run_that_goes_wrong_again_and_again_stops_after_three_roll_backs(tmp_path, monkeypatch):
    arrived = damage_rows_of(monkeypatch, (2, 1), times=100)
    with pytest.raises(RunStopped, match=r"a pseudo-logit is not finite.*learning rate 0\.00125.*after 3 roll-backs"):
        start(tmp_path / "run", "--rounds=3:0.01", "--on_divergence=rollback")
    assert len(arrived) == 4


def test_what_is_not_finite_never_replaces_a_checkpoint(tmp_path, monkeypatch):
    flags = ["--supervised_epochs=1", "--rounds=3:0.01", "--finetune_epochs=0"]
    damage_rows_of(monkeypatch, (2, 1), times=1)
    with pytest.raises(RunStopped, match=r"stage 2 \(D2\), epoch 2 of 3, step \d+: a pseudo-logit is not finite"):
        start(tmp_path / "run", *flags)
    monkeypatch.undo()
    assert start(tmp_path / "run", *flags)["resumes"] == 1
    assert len(results_of(tmp_path / "run")["metrics.csv"]) == 4


def check_saved_by_signal(output, errors):
    """What a command printed that got a signal in stage 2."""
    assert "Result" not in output
    # A small network may be at the end of the stage, or further, when the signal comes.
    place = r"stage (2 \(D2 and R2\), epoch [23] of 2|3 \(fine-tuning\), epoch [12] of 1), step \d+"
    assert re.search(rf"saved: {place}\n\n?stopped by .*the same command goes on", errors)
    assert "Traceback" not in errors


def check_goes_on_to_the_same_end(flags, undisturbed, run, capsys):
    assert train.main(flags) == 0
    assert "Going on from the checkpoint" in capsys.readouterr().out
    assert differences(run, undisturbed) == []


def test_a_signal_makes_a_run_save_say_how_to_go_on_and_end(undisturbed, tmp_path, monkeypatch, capsys):
    flags, begin = [*DETERMINISTIC, f"--run_dir={tmp_path / 'run'}"], Locator.on_epoch_begin

    def begin_and_be_told_to_stop(self, epoch, logs=None):
        begin(self, epoch, logs)
        if (self.stage.number, epoch) == (2, 1):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Locator, "on_epoch_begin", begin_and_be_told_to_stop)
        assert train.main(flags) == 143
    check_saved_by_signal(*capsys.readouterr())
    check_goes_on_to_the_same_end(flags, undisturbed, tmp_path / "run", capsys)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_makes_the_command_save_say_how_to_go_on_and_exit(number, code, undisturbed, tmp_path, capsys):
    flags = [*DETERMINISTIC, f"--run_dir={tmp_path / 'run'}"]
    command = [sys.executable, "-m", "r2d2_tf.train", *flags]
    how = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    how["env"] = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    with subprocess.Popen(command, **how) as process:
        line = ""
        while not line.startswith("   1/2"):
            line = process.stdout.readline()
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == code
    check_saved_by_signal(output, errors)
    check_goes_on_to_the_same_end(flags, undisturbed, tmp_path / "run", capsys)


def test_a_data_set_that_changed_since_the_run_began_is_refused(tmp_path, monkeypatch):
    with pytest.raises(RunInterrupted):
        start(tmp_path / "run", signals=StopAt(20))
    monkeypatch.setattr("r2d2_tf.data.health.fingerprint", lambda data: "another")
    with pytest.raises(CannotResume, match=r"the data set changed since the run in .* began.*--data_dir.*--new_run"):
        start(tmp_path / "run")


def test_a_split_that_changed_since_the_run_began_is_refused_and_the_runs_own_is_kept(undisturbed, tmp_path):
    lines = (undisturbed / "labeled.txt").read_text()
    split = tmp_path / "split.txt"
    split.write_text(lines)
    with pytest.raises(RunInterrupted):
        start(tmp_path / "run", f"--split_file={split}", signals=StopAt(20))
    ids = arrays.read(undisturbed / "pseudo_labels.npz", run_directory.TABLE_LAYOUT, ["ids"])["ids"]
    unlabeled = next(identifier for identifier in ids if identifier not in lines)
    split.write_text("\n".join([*lines.splitlines()[1:], unlabeled]))
    with pytest.raises(CannotResume, match=r"the given labels changed since the run in .* began.*--split_file.*--new_run"):
        start(tmp_path / "run", f"--split_file={split}")
    assert (tmp_path / "run" / "labeled.txt").read_text() == lines


def test_a_run_without_stage_2_goes_on_in_stage_3(tmp_path):
    flags = ["--rounds=", "--finetune_from=prediction", "--finetune_epochs=2"]
    start(tmp_path / "undisturbed", *flags)
    with pytest.raises(RunInterrupted):
        start(tmp_path / "run", *flags, signals=StopAt(100))
    assert start(tmp_path / "run", *flags)["resumes"] == 1
    assert differences(tmp_path / "run", tmp_path / "undisturbed") == []


def test_a_run_that_took_over_a_stage_1_and_was_killed_before_its_first_checkpoint_takes_it_over_again(
    undisturbed, tmp_path, monkeypatch
):
    flags = [f"--stage_1_from={undisturbed}"]

    def killed(*arguments):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr("r2d2_tf.runs.checkpoints.Checkpoints.save", killed)
        with pytest.raises(SystemExit):
            start(tmp_path / "run", *flags)
    assert (tmp_path / "run" / "config.cfg").exists()
    summary = start(tmp_path / "run", *flags)
    assert list(summary["test_error_percent"]) == ["stage_1", "stage_2", "stage_3"]
    same = results_of_later_stages(undisturbed)
    assert results_of_later_stages(tmp_path / "run") == same


TWO_ROUNDS = ("--supervised_epochs=1", "--max_steps=8", "--backbone=small_network:normalized", "--rounds=1:0.01,2:0.005")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A run that keeps the ends of its rounds, and whose second round is another than that of TWO_ROUNDS."""
    flags = (*TWO_ROUNDS, "--rounds=1:0.01,1:0.02", "--keep_rounds")
    return made_once(tmp_path_factory, "kept_rounds", lambda folder: start(folder, *flags))


def test_a_run_from_where_a_shared_round_ended_ends_as_one_that_trained_it_all(kept, tmp_path):
    assert sorted(path.name[:6] for path in (kept / "rounds").iterdir()) == ["000001", "000002"]
    whole = start(tmp_path / "whole", *TWO_ROUNDS)
    elsewhere = shutil.copytree(kept, tmp_path / "elsewhere")
    flags = [*TWO_ROUNDS, f"--stage_2_from={elsewhere}"]
    # 32 checks a piece: it is stopped in stage 2, and no longer needs the other run then.
    with pytest.raises(RunInterrupted):
        start(tmp_path / "run", *flags, signals=StopAt(32))
    shutil.rmtree(elsewhere)
    summary = start(tmp_path / "run", *flags)
    assert results_of_later_stages(tmp_path / "run") == results_of_later_stages(tmp_path / "whole")
    assert summary["test_error_percent"] == whole["test_error_percent"]
    assert summary["verdict"] == whole["verdict"]
    assert summary["stage_2_from"] == str(elsewhere)
    assert [row["run_epoch"] for row in results_of(tmp_path / "run")["metrics.csv"]] == ["1", "2", "3", "4"]
    assert summary["seconds"]["total"] < whole["seconds"]["total"] + 5, "of its own work alone"


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags", [(), ("--trainable=head", "--weights={weights}"), BEYOND, ("--num_logical_cpus=2", "--strategy=mirrored")]
)
def test_a_run_that_shares_all_rounds_is_left_with_stage_3(flags, tmp_path):
    if flags and "{weights}" in flags[-1]:
        start(tmp_path / "weights", *TWO_ROUNDS)
        flags = (flags[0], flags[1].format(weights=tmp_path / "weights" / "backbone.keras"))
    start(tmp_path / "whole", *TWO_ROUNDS, *flags, "--keep_rounds")
    start(tmp_path / "run", *TWO_ROUNDS, *flags, f"--stage_2_from={tmp_path / 'whole'}")
    assert results_of_later_stages(tmp_path / "run") == results_of_later_stages(tmp_path / "whole")
    # And from a run that had itself begun so, in which another stage 3 is to come.
    start(
        tmp_path / "third", *TWO_ROUNDS, *flags, f"--stage_2_from={tmp_path / 'whole'}", "--keep_rounds", "--finetune_epochs=0"
    )
    start(tmp_path / "fourth", *TWO_ROUNDS, *flags, f"--stage_2_from={tmp_path / 'third'}", "--result_stage=1")
    assert results_of_later_stages(tmp_path / "fourth")[:3] == results_of_later_stages(tmp_path / "whole")[:3]
    assert content_of(tmp_path / "fourth" / "backbone.keras") == content_of(tmp_path / "whole" / "stage_1.keras")


@pytest.mark.slow
def test_the_end_of_a_round_is_kept_though_the_run_is_killed_just_then(kept, tmp_path, monkeypatch):
    def killed(*arguments):
        raise SystemExit

    flags = [*TWO_ROUNDS, "--rounds=1:0.01,1:0.02", "--keep_rounds"]
    with monkeypatch.context() as patch:
        patch.setattr("r2d2_tf.runs.kept_rounds.shutil.copyfile", killed)
        with pytest.raises(SystemExit):
            start(tmp_path / "run", *flags)
    assert not list((tmp_path / "run" / "rounds").glob("*.npz"))
    start(tmp_path / "run", *flags)
    assert sorted(path.name[:6] for path in (tmp_path / "run" / "rounds").glob("*.npz")) == ["000001", "000002"]
    assert differences(tmp_path / "run", kept) == []


def test_other_images_labels_or_a_damaged_file_are_one_line_for_stage_2_from(kept, tmp_path, monkeypatch):
    flags = [*TWO_ROUNDS, f"--stage_2_from={kept}"]
    with monkeypatch.context() as patch:
        patch.setattr("r2d2_tf.data.health.fingerprint", lambda data: "another")
        with pytest.raises(ValueError, match=r"stage_2_from .* was trained on other images than there are now: leave it out"):
            start(tmp_path / "run", *flags)
    damaged = shutil.copytree(kept, tmp_path / "damaged")
    next((damaged / "rounds").glob("000001-*")).write_bytes(b"x")
    with pytest.raises(ValueError, match=r"stage_2_from .*: the end of round 1 is damaged"):
        start(tmp_path / "run", *TWO_ROUNDS, f"--stage_2_from={damaged}")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_with_a_checkpoint_no_longer_needs_the_stage_1_that_it_took_over(undisturbed, tmp_path):
    elsewhere = shutil.copytree(undisturbed, tmp_path / "elsewhere")
    flags = [f"--stage_1_from={elsewhere}", f"--run_dir={tmp_path / 'run'}"]
    with pytest.raises(RunInterrupted):
        start(tmp_path / "run", flags[0], signals=StopAt(100))
    shutil.rmtree(elsewhere)
    assert train.main([*DETERMINISTIC, *flags]) == 0
    assert results_of_later_stages(tmp_path / "run") == results_of_later_stages(undisturbed)


def test_a_collapse_that_stage_1_brought_about_is_not_rolled_back(tmp_path):
    flags = ["--supervised_epochs=1", "--supervised_learning_rate=1e-6", "--stop_on_collapse", "--on_divergence=rollback"]
    flags += ["--backbone=lenet"]
    with pytest.raises(RunStopped, match=r"stage 1 learned too little") as stopped:
        start(tmp_path / "run", *flags)
    assert "roll" not in str(stopped.value)


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(undisturbed, tmp_path, monkeypatch, capsys):
    command = [*DETERMINISTIC, f"--run_dir={tmp_path / 'run'}"]
    save, calls = Checkpoints.save, []

    def fail_at_the_fifth(self, *arguments):
        calls.append(self)
        if len(calls) == 5:
            raise OSError(28, "No space left on device")
        save(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", fail_at_the_fifth)
        assert train.main(command) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.match(r"error: .*No space left on device; once that is mended, the same command goes on", error)
    assert train.main(command) == 0
    assert differences(tmp_path / "run", undisturbed) == []


@pytest.mark.slow
def test_a_folder_that_is_deleted_while_it_trains_is_one_line_and_the_same_command_begins_anew(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    command, save = [*DETERMINISTIC, f"--run_dir={folder}"], Checkpoints.save

    def delete_then(self, *arguments):
        shutil.rmtree(folder)
        save(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", delete_then)
        assert train.main(command) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    told = rf"error: .*once that is mended, the same command begins anew: {folder} is gone, and what was saved in it\n"
    assert re.fullmatch(told, error)
    assert not folder.exists()
    assert train.main(command) == 0
    assert "Going on" not in capsys.readouterr().out


def results_of_later_stages(folder):
    """Table, predictions and network at the end, and the epochs of stages 2 and 3."""
    rows = [{**row, "run_epoch": ""} for row in results_of(folder)["metrics.csv"] if row["stage"] != "1"]
    return rows, *(content_of(folder / name) for name in ("pseudo_labels.npz", "predictions.npz", "backbone.keras"))
