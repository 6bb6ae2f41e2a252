"""The real command, on real digits, from flags to files."""

import csv
import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import ROOT, SHORT

from r2d2_tf import train
from r2d2_tf.callbacks import RunStopped
from r2d2_tf.config import from_command_line
from r2d2_tf.experiment import Experiment, run


def command(*arguments, module="r2d2_tf.train", cwd=ROOT):
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, cwd=cwd, check=False)
    return done.returncode, done.stdout, done.stderr


def table_of(folder):
    with np.load(folder / "pseudo_labels.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def weights_of(folder):
    return keras.saving.load_model(folder / "backbone.keras", compile=False).get_weights()


def relative_difference(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(a)


def test_a_run_leaves_every_file_it_promises(finished_run):
    summary = json.loads((finished_run / "summary.json").read_text())
    for name in summary["files"]:
        assert (finished_run / name).exists(), name
    assert {path.name for path in finished_run.iterdir()} == {name.rstrip("/") for name in summary["files"]}
    assert list((finished_run / "tensorboard").iterdir())


def test_the_summary_tells_errors_times_versions_commit_seed_and_devices(finished_run):
    summary = json.loads((finished_run / "summary.json").read_text())
    assert list(summary["test_error_percent"]) == ["stage_1", "stage_2", "stage_3"]
    assert all(0 <= error <= 100 for error in summary["test_error_percent"].values())
    assert {"start", "stage_1", "stage_2", "stage_3", "total"} <= set(summary["seconds"])
    assert (summary["seed"], summary["devices"], summary["parameters"]) == (0, "1 replica on CPU", 431_080)
    assert "keras" in summary["versions"]
    assert "git_commit" in summary


def test_metrics_have_a_row_an_epoch_and_what_each_stage_can_measure(finished_run):
    with (finished_run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["run_epoch"], row["stage"], row["epoch"]) for row in rows] == [
        ("1", "1", "1"), ("2", "1", "2"), ("3", "1", "3"), ("4", "1", "4"), ("5", "2", "1"), ("6", "2", "2"), ("7", "3", "1")
    ]  # fmt: skip
    assert [bool(row["argmax_changes"]) for row in rows] == [False] * 4 + [True, True, False]
    assert [bool(row["pseudo_label_error"]) for row in rows] == [False] * 4 + [True] * 3
    for row in rows:
        assert sum(int(count) for count in row["predicted_classes"].split()) == {"1": 100, "2": 3888, "3": 3900}[row["stage"]]
        assert float(row["learning_rate"]) > 0
    for row in rows[4:6]:
        assert float(row["loss"]) == pytest.approx(0.1 * float(row["class_loss"]) + 0.03 * float(row["entropy"]), rel=1e-4)
        assert float(row["row_sum_drift"]) < 1e-4


def test_the_saved_table_holds_ids_labels_and_clamped_rows(finished_run):
    table = table_of(finished_run)
    labeled = table["given_labels"] >= 0
    assert table["pseudo_logits"].shape == (4000, 10)
    assert len(set(table["ids"])) == 4000
    assert np.bincount(table["given_labels"][labeled]).tolist() == [10] * 10
    np.testing.assert_array_equal(table["pseudo_logits"][labeled], 10 * np.eye(10)[table["given_labels"][labeled]])
    assert (table["pseudo_logits"][~labeled] != 0).all()


def test_the_saved_network_makes_the_summarys_test_error(finished_run):
    data = Experiment(from_command_line(SHORT)).data
    network = keras.saving.load_model(finished_run / "backbone.keras", compile=False)
    error = 100 * np.mean(np.asarray(network(data.test_images)).argmax(1) != data.test_labels)
    summary = json.loads((finished_run / "summary.json").read_text())
    assert error == pytest.approx(summary["test_error_percent"]["stage_3"])


def test_the_same_command_shows_the_result_and_does_not_train_again(finished_run, capsys):
    before = (finished_run / "summary.json").stat().st_mtime_ns
    assert train.main([*SHORT, f"--run_dir={finished_run}"]) == 0
    assert "finished already" in capsys.readouterr().out
    assert (finished_run / "summary.json").stat().st_mtime_ns == before


def test_the_written_config_is_the_same_run(finished_run, capsys):
    assert train.main([f"--flagfile={finished_run / 'config.cfg'}", f"--run_dir={finished_run}"]) == 0
    assert "finished already" in capsys.readouterr().out


def test_one_and_two_replicas_make_the_same_table_and_weights(tmp_path):
    # 100 labeled images in batches of 40 and 4,000 in batches of 96 end in short batches of 20 and 64.
    epochs = ["--supervised_epochs=1", "--rounds=1:0.01", "--finetune_epochs=1"]
    for name, strategy in (("one", ["--strategy=none"]), ("two", ["--strategy=mirrored", "--num_logical_cpus=2"])):
        run(from_command_line([*SHORT, *epochs, *strategy, f"--run_dir={tmp_path / name}"]))
    tables = [table_of(tmp_path / name)["pseudo_logits"] for name in ("one", "two")]
    assert relative_difference(*tables) < 1e-5
    for one, two in zip(weights_of(tmp_path / "one"), weights_of(tmp_path / "two"), strict=True):
        assert relative_difference(one, two) < 1e-5
    start = Experiment(from_command_line(SHORT)).model.backbone.get_weights()
    for before, after in zip(start, weights_of(tmp_path / "one"), strict=True):
        assert relative_difference(after, before) > 1e-3, "it did not train"
    assert "2 replicas on CPU:0, CPU:1" in (tmp_path / "two" / "summary.json").read_text()


def test_the_same_command_twice_is_bit_identical_with_deterministic(tmp_path):
    for name in ("one", "two"):
        code, out, err = command(*SHORT, "--deterministic", f"--run_dir={tmp_path / name}")
        assert code == 0, out + err
    np.testing.assert_array_equal(*(table_of(tmp_path / name)["pseudo_logits"] for name in ("one", "two")))
    for one, two in zip(weights_of(tmp_path / "one"), weights_of(tmp_path / "two"), strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_command_prints_plan_epochs_and_result_and_no_warning(tmp_path):
    code, out, err = command(*SHORT, f"--run_dir={tmp_path / 'run'}")
    assert code == 0
    assert err == ""
    for part in ("100 labeled", "Stage 2 of 3: D2 and R2", "1/2", "Result:", "python -m export --run_dir="):
        assert part in out


def test_stage_3_leaves_the_table_alone_and_a_last_prediction_replaces_it(tmp_path):
    tables = {}
    for name, flags in {
        "two stages": ["--finetune_epochs=0"],
        "table": ["--finetune_from=table"],
        "prediction": ["--finetune_from=prediction"],
    }.items():
        folder = tmp_path / name
        run(from_command_line([*SHORT, "--supervised_epochs=1", *flags, f"--run_dir={folder}"]))
        tables[name] = table_of(folder)["pseudo_logits"]
    np.testing.assert_array_equal(tables["two stages"], tables["table"])
    assert (tables["table"] != tables["prediction"]).any()


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (
            ["--supervised_learning_rate=1e20"],
            ["stage 1 (supervised), epoch 2 of 4, step 1: ", "not finite", "--supervised_learning_rate"],
        ),
        (["--rounds=1:1e20"], ["stage 2 (D2), epoch 1 of 1, step ", "not finite", "--rounds"]),
    ],
)
def test_a_loss_that_is_not_finite_stops_the_run_naming_stage_epoch_step_and_flag(flags, parts, tmp_path, capsys):
    folder = tmp_path / "run"
    assert train.main([*SHORT, *flags, f"--run_dir={folder}"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    for part in ("the loss is not finite", *parts):
        assert part in error
    assert not (folder / "summary.json").exists()


def test_collapsed_predictions_stop_the_run_naming_stage_epoch_step_and_flag(tmp_path):
    # Three steps of training put nearly all images into one class.
    flags = [*SHORT, "--supervised_epochs=1", "--stop_on_collapse", f"--run_dir={tmp_path / 'run'}"]
    with pytest.raises(
        RunStopped, match=r"stage 2 \(D2 and R2\), epoch 1 of 2, step 0: the predictions collapsed.*fall into class"
    ):
        run(from_command_line([*flags, "--supervised_learning_rate=1e-6"]))


BAD = {
    "unknown flag": ["--alhpa=0.1"],
    "flagfile line without dashes": ["--flagfile=bad.cfg"],
    "missing flagfile": ["--flagfile=nowhere.cfg"],
    "beta at alpha": ["--beta=0.1"],
    "too many labels": ["--num_labels=5000"],
    "too few labels": ["--num_labels=5"],
    "unknown dataset": ["--dataset=mnist"],
    "unknown backbone": ["--backbone=lenett"],
    "unknown loss": ["--class_loss=kl"],
    "empty rounds": ["--rounds="],
    "malformed rounds": ["--rounds=8"],
    "batch smaller than replicas": ["--finetune_batch_size=2", "--strategy=mirrored", "--num_logical_cpus=4"],
    "run_dir of another run": ["--run_dir=other", "--alpha=0.2"],
    "run_dir that is no run": ["--run_dir=mine"],
    "missing data": ["--dataset=mnist5k_dev"],
    "more unlabeled images a batch than there are": ["--num_labels=3990"],
}


@pytest.mark.parametrize("arguments", BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_writes_nothing(arguments, tmp_path, finished_run):
    (tmp_path / "bad.cfg").write_text("--beta=0.01\nalpha=0.1\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    (tmp_path / "other").mkdir()
    shutil.copy(finished_run / "config.cfg", tmp_path / "other")
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-m", "r2d2_tf.train", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_help_lists_the_flags():
    code, out, _ = command("--help")
    assert code == 0
    assert "--pseudo_label_lr=4000.0" in out
    assert "lambda (eq. 7)" in out
