"""What R2-D2 is compared with: supervised training alone, and hard pseudo-labels."""

import json

import numpy as np
import pytest
from conftest import LIGHT, SHORT

from r2d2_tf import train
from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.runs.run_state import RunState
from r2d2_tf.training.stages import plan

STAGES = plan(Config(), DATASETS["mnist5k"])
STAGE_1_ALONE = ("--rounds=", "--finetune_epochs=0")


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


def test_without_rounds_and_fine_tuning_a_run_is_stage_1_alone_and_promises_no_table(tmp_path, capsys):
    assert train.main([*LIGHT, *STAGE_1_ALONE, f"--run_dir={tmp_path}"]) == 0
    summary = summary_of(tmp_path)
    assert list(summary["test_error_percent"]) == ["stage_1"]
    assert not (tmp_path / "pseudo_labels.npz").exists()
    assert all((tmp_path / name).exists() for name in summary["files"])
    assert "pseudo_labels.npz" not in capsys.readouterr().out


def test_all_images_may_be_labeled(tmp_path):
    flags = ["--num_labels=0", "--supervised_epochs=1"]
    assert train.main([*LIGHT, *STAGE_1_ALONE, *flags, f"--run_dir={tmp_path}"]) == 0
    summary = summary_of(tmp_path)
    assert (summary["num_labels"], summary["num_unlabeled"]) == (4000, 0)
    assert len((tmp_path / "labeled.txt").read_text().splitlines()) == 4000


def test_hard_pseudo_labels_are_one_prediction_and_cross_entropy_from_another_runs_stage_1(light_run, tmp_path, capsys):
    flags = ["--rounds=", "--finetune_from=prediction", f"--stage_1_from={light_run}"]
    assert train.main([*LIGHT, *flags, f"--run_dir={tmp_path}"]) == 0
    assert "pseudo-labels predicted\n" in capsys.readouterr().out
    assert list(summary_of(tmp_path)["test_error_percent"]) == ["stage_1", "stage_3"]
    with np.load(tmp_path / "pseudo_labels.npz") as table:
        rows = table["pseudo_logits"][table["given_labels"] < 0]
    assert (rows != 0).all()


def test_unlabeled_images_are_needed_only_where_a_stage_trains_on_them(tmp_path, capsys):
    assert train.main([*SHORT, "--num_labels=0", f"--run_dir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert "there are no unlabeled images, and stage 2 learns from nothing else" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("num_classes", "logged"), [(20, False), (21, True)])
def test_the_top_5_error_is_logged_where_classes_are_many(num_classes, logged):
    from r2d2_tf.training.callbacks.evaluation import Evaluation

    class Model:
        def evaluate_images(self, batches, labels):
            return np.arange(40) // 10, 10

    callback = Evaluation([], np.zeros(40, np.int64), num_classes, STAGES[0], RunState(1))
    callback.set_model(Model())
    logs = {}
    callback.on_epoch_end(0, logs)
    assert logs["test_error"] == 75.0
    assert ("test_top5_error" in logs) == logged
    assert logs.get("test_top5_error", 25.0) == 25.0
