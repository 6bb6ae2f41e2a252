import csv
import json

import pytest

from r2d2_tf.config import from_command_line
from r2d2_tf.schedules import parse_rounds
from tools import reproduce

ROUNDS = parse_rounds("300:0.12,75:0.12,75:0.08,75:0.04,75:0.004")


def test_table_1_is_flags_alone_in_the_papers_columns():
    flags = [row.flags for row in reproduce.rows_of(1, ROUNDS)]
    constant = "--rounds=300:0.12,75:0.12,75:0.12,75:0.12,75:0.12"
    assert flags == [("--rounds=300:0.12",), (constant, "--norepredict"), (constant,), ("--norepredict",), ()]


@pytest.mark.parametrize("table", [1, 2, 3, 4])
def test_every_row_is_a_valid_config_and_one_of_them_is_the_papers_own(table):
    rows = reproduce.rows_of(table, ROUNDS)
    for row in rows:
        from_command_line(list(row.flags))
    assert 5.78 in [row.paper for row in rows]


@pytest.fixture
def pretend(tmp_path, monkeypatch):
    """Stands in for training; returns the commands. Runs with alpha 0.5 stop."""
    monkeypatch.setattr(reproduce.run_directory, "git_commit", lambda: "abc")
    commands = []

    def finish(command, check):
        commands.append(command)
        config = from_command_line(command[3:])
        if config.alpha == 0.5:
            return type("Done", (), {"returncode": 1})
        folder = config.resolved_run_dir
        folder.mkdir(parents=True, exist_ok=True)
        errors = {"stage_1": 10.0, "stage_3": 4.0 + config.seed}
        summary = {"test_error_percent": errors, "seconds": {"total": 1.0}, "files": {}, "git_commit": "abc"}
        (folder / "summary.json").write_text(json.dumps(summary))
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(reproduce.subprocess, "run", finish)
    return commands


def test_a_table_shares_stage_1_skips_what_is_done_and_counts_stopped_runs(pretend, tmp_path, capsys):
    arguments = ["--table=2", "--seeds=0,1", f"--output_dir={tmp_path / 'out'}", f"--runs={tmp_path / 'runs'}"]
    assert reproduce.main(arguments) == 0
    stage_1 = [command for command in pretend if command[-1].endswith("stage_1")]
    assert len(stage_1) == 2, "one a seed"
    assert sum("--stage_1_from=" in " ".join(command) for command in pretend) == 10
    out = capsys.readouterr().out
    assert "| alpha 0.1 | 4.50 +- 0.71 | 5.78 | -1.28 |" in out
    assert "| alpha 0.5 | - (2 of 2 runs stopped) | 6.11 | - |" in out
    with (tmp_path / "out" / "table2_mnist5k.csv").open() as file:
        records = list(csv.DictReader(file))
    assert len(records) == 10
    assert records[1]["stage_3"] == "5.0"
    pretend.clear()
    assert reproduce.main(arguments) == 0
    assert [command for command in pretend if "--alpha=0.5" not in command] == []


@pytest.mark.parametrize(
    "arguments", [[], ["--table=9"], ["--table=x"], ["--table=1", "--alhpa=1"], ["--table=1", "--seeds=a"]]
)
def test_bad_input_is_one_line(arguments, capsys):
    assert reproduce.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
