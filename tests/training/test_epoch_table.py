"""The table of a run under a terminal: each row in a line, whatever the width."""

import dataclasses
import io
import itertools
import os
import shutil

import pytest
from conftest import LIGHT

from r2d2_tf import train
from r2d2_tf.config.config import Config
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.training.callbacks import epoch_table
from r2d2_tf.training.stages import plan

CONFIG = Config(supervised_epochs=300, rounds="300:0.12,300:0.0004", finetune_epochs=50)
STAGES = plan(CONFIG, spec_of(CONFIG))
LOGS = {
    "epoch": "300/600",
    "learning_rate": 0.0123456,
    "loss": 123456.7,
    "class_loss": 12.34567,
    "entropy": 2.302585,
    "test_error": 100.0,
    "test_top5_error": 98.76,
    "pseudo_label_error": 100.0,
    "largest_prediction": 0.1,
    "seconds": 98765.4,
    "time_left": "1.5-2.5 days",
}


def columns(stage, width, **known):
    return epoch_table.columns_of(stage, **({"has_hidden_labels": True, "has_top5": True} | known), width=width)


def titles(stage, width, **known):
    return [column.title for column in columns(stage, width, **known)]


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: f"stage_{stage.number}")
def test_heading_and_rows_are_of_one_length_and_fit(stage, width):
    found, logs = columns(stage, width), LOGS | {"epoch": f"{stage.epochs}/{stage.epochs}"}
    assert len(epoch_table.heading(found)) == len(epoch_table.row(found, logs)) <= width


def test_what_a_person_looks_for_first_is_there_at_any_width():
    assert titles(STAGES[1], 40) == ["epoch", "test error", "time left"]
    assert {"loss", "class", "entropy", "pseudo-label error"} <= set(titles(STAGES[1], 80, has_top5=False))


def test_wider_terminals_show_more_and_a_file_all():
    shown = [titles(STAGES[1], width) for width in (60, 80, 100, 200, None)]
    assert all(set(few) < set(more) for few, more in itertools.pairwise(shown[:4]))
    assert shown[3] == shown[4]


def test_the_loss_stands_there_once_where_no_pseudo_labels_are_learned():
    assert ["class" in titles(stage, None) for stage in STAGES] == [False, True, False]


def test_errors_that_are_not_known_have_no_column():
    assert "pseudo-label error" not in titles(STAGES[0], None) + titles(STAGES[1], None, has_hidden_labels=False)
    assert "top-5 error" not in titles(STAGES[1], None, has_top5=False)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_no_line_of_a_run_of_three_stages_is_wider_than_its_terminal(tmp_path, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((80, 24)))
    monkeypatch.chdir(tmp_path)
    assert train.main([*LIGHT, "--max_steps=2", "--supervised_epochs=1", "--rounds=1:0.01", "--run_dir=run"]) == 0
    written = screen.getvalue()
    report, _, commands = written.partition("\nNext:\n")
    parts = [part for line in report.split("\n") for part in line.split("\r")]
    assert [part for part in parts if len(part) > 80] == []
    assert [written.count(f"Stage {stage} of 3") for stage in (1, 2, 3)] == [1, 1, 1]
    assert len([part for part in parts if part.lstrip().startswith("epoch ")]) == 3
    assert "-m tools.report" in commands


def report_of(stage, stages):
    from r2d2_tf.runs.run_state import RunState
    from r2d2_tf.training.callbacks.progress import ProgressReport
    from r2d2_tf.training.timing.run_progress import RunProgress
    from r2d2_tf.training.timing.work import Counts

    progress, state = RunProgress(stages, Counts(100, 3900, 1000)), RunState(stage.number)
    return ProgressReport(progress, stage, state, num_classes=10, has_hidden_labels=True)


def test_on_features_some_epochs_have_a_row_each_prediction_and_the_last_one_among_them(capsys):
    stages = tuple(dataclasses.replace(stage, on_features=True) for stage in STAGES)
    report = report_of(stages[2], stages)
    report.print_heading()
    for epoch in range(50):
        report.on_epoch_begin(epoch)
        report.on_epoch_end(epoch, LOGS | {"predicted": epoch == 40})
    heading, _, *rows = capsys.readouterr().out.strip().splitlines()
    assert heading.endswith("a line for every 3 epochs")
    told = [int(row.split("/")[0]) for row in rows if "/50" in row]
    assert told == sorted({*range(3, 51, 3), 41, 50})


def test_a_terminal_that_changes_its_width_gets_a_heading_of_its_own(capsys, monkeypatch):
    report = report_of(STAGES[1], STAGES)
    width = [80]
    monkeypatch.setattr("r2d2_tf.system.terminal.columns", lambda stream=None: width[0])
    report.print_heading()
    for width[0] in (80, 100, 100):
        report.on_epoch_begin(1)
        report.on_epoch_end(1, LOGS | {"predicted": 0})
    lengths = [len(line) for line in capsys.readouterr().out.splitlines()[2:]]
    assert len(lengths) == 5
    assert lengths[0] == lengths[1] <= 80 < lengths[2] == lengths[3] == lengths[4] <= 100
