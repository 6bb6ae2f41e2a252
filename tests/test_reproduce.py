import contextlib
import csv
import json
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from r2d2_tf import train
from r2d2_tf.command_line import from_command_line
from r2d2_tf.config import Config
from tools import paper, reproduce, results

BASE = Config(name="experiment")


def test_table_1_is_flags_alone_in_the_papers_columns():
    flags = [row.flags for row in paper.rows_of("1", BASE)]
    constant = "--rounds=300:0.12,75:0.12,75:0.12,75:0.12,75:0.12"
    assert flags == [("--rounds=300:0.12",), (constant, "--norepredict"), (constant,), ("--norepredict",), ()]


@pytest.mark.parametrize("table", [table for table in paper.TABLES if table != "mnist"])
def test_every_row_is_a_valid_config_and_one_of_them_is_the_papers_own(table):
    rows = paper.rows_of(table, BASE)
    digests = [from_command_line(list(row.flags)).digest for row in rows]
    assert len(set(digests)) == len(rows)
    assert Config().digest in digests


def test_the_supervised_rows_have_the_length_and_the_rate_an_image_that_they_claim():
    rows = {row.label: from_command_line(list(row.flags)) for row in paper.rows_of("7", BASE)}
    all_labels, hard = rows["supervised, all labels"], rows["hard pseudo-labels"]
    assert (all_labels.num_labels, all_labels.rounds, all_labels.finetune_epochs) == (0, "", 0)
    assert all_labels.supervised_epochs == hard.finetune_epochs == 650
    assert all_labels.supervised_learning_rate / 512 == pytest.approx(0.05 / 40)
    assert hard.finetune_from == "prediction"


@pytest.fixture
def pretend(tmp_path, monkeypatch):
    """Stands in for training; returns the commands. Runs with alpha 0.5 stop."""
    monkeypatch.setattr(reproduce.run_directory, "git_commit", lambda: "abc")
    commands = []

    def finish(command, check):
        commands.append(command)
        config = from_command_line(command[3:])
        if config.alpha == 0.5:
            return type("Done", (), {"returncode": train.STOPPED})
        folder = config.resolved_run_dir
        folder.mkdir(parents=True, exist_ok=True)
        errors = {"stage_1": 10.0, **({"stage_3": 4.0 + config.seed} if config.finetune_epochs else {})}
        top5 = {stage: error / 2 for stage, error in errors.items()}
        summary = {
            "test_error_percent": errors,
            "test_top5_error_percent": top5,
            "seconds": {"total": 1.0},
            "files": {},
            "git_commit": "abc",
            "versions": {"tensorflow": "2"},
            "machine": "a machine",
        }
        (folder / "summary.json").write_text(json.dumps(summary))
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(reproduce.subprocess, "run", finish)
    return commands


@pytest.fixture
def arguments(tmp_path):
    return ["--base=configs/mnist5k.cfg", "--seeds=0,1", f"--output_dir={tmp_path / 'out'}", f"--runs={tmp_path / 'runs'}"]


def read_records(folder, name):
    with (folder / name).open() as file:
        return list(csv.DictReader(file))


def test_a_table_shares_stage_1_skips_what_is_done_and_counts_stopped_runs(pretend, arguments, tmp_path, capsys):
    arguments = ["--table=2", *arguments]
    assert reproduce.main(arguments) == 0
    stage_1 = [command for command in pretend if {"--rounds=", "--finetune_epochs=0"} <= set(command)]
    assert len(stage_1) == 2, "one a seed"
    assert sum("--stage_1_from=" in " ".join(command) for command in pretend) == 10
    out = capsys.readouterr().out
    assert "| alpha 0.1 | 2 | 4.50 +- 0.71 | 5.78 | -1.28 | 2.25 +- 0.35 | - |" in out
    assert "| alpha 0.5 | 2 | (2 of 2 runs stopped) | 6.11 | - | not run | - |" in out
    assert "Run 4 of 10: alpha 0.4, seed 0" in out
    assert "Seeds 0, 1; commit abc; TensorFlow 2; " in out
    records = read_records(tmp_path / "out", "table2_mnist5k_seed1.csv")
    assert [record["outcome"] for record in records] == ["finished"] * 4 + ["stopped"]
    assert records[1]["stage_3"] == records[1]["final"] == "5"
    pretend.clear()
    assert reproduce.main(arguments) == 0
    assert pretend == []
    assert capsys.readouterr().out == out[out.index("Table 2 of the paper") :]


def test_lines_of_other_seeds_join_the_table_and_those_made_with_other_flags_do_not(pretend, arguments, capsys):
    assert reproduce.main(["--table=4", *arguments]) == 0
    assert reproduce.main(["--table=4", *arguments, "--seeds=2"]) == 0
    assert "| reverse_kl | 3 | 5.00 +- 1.00 |" in capsys.readouterr().out
    assert reproduce.main(["--table=4", *arguments, "--seeds=2", "--alpha=0.2"]) == 0
    assert "| reverse_kl | 1 | 6.00 |" in capsys.readouterr().out


def test_supervised_rows_are_stage_1_alone_and_share_it(pretend, arguments, capsys):
    assert reproduce.main(["--table=7", *arguments, "--seeds=0"]) == 0
    assert len(pretend) == 4, "all labels; the given labels, which the other two start from; two more"
    assert "| supervised, the given labels only | 1 | 10.00 | 14.90 | -4.90 | 5.00 | - |" in capsys.readouterr().out


def test_a_row_without_runs_reads_not_run():
    assert results.markdown(paper.rows_of("8", BASE), {})[2] == "| supervised, all labels | 0 | not run | 2.88 | - |"


def test_an_interrupted_table_is_on_disk_with_what_is_done(pretend, arguments, tmp_path, monkeypatch):
    def stop_at_the_third(command, check):
        if len(pretend) == 3:
            raise KeyboardInterrupt
        return finish(command, check)

    finish = reproduce.subprocess.run
    monkeypatch.setattr(reproduce.subprocess, "run", stop_at_the_third)
    assert reproduce.main(["--table=4", *arguments]) == 130
    assert "| squared_l2 | 0 | not run | 6.35 | - |" in (tmp_path / "out" / "table4_mnist5k.md").read_text()
    assert len(read_records(tmp_path / "out", "table4_mnist5k_seed0.csv")) == 2


def test_a_run_that_a_living_process_trains_is_waited_for(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    lock = contextlib.ExitStack()
    lock.enter_context(reproduce.run_directory.owned(folder))
    monkeypatch.setattr(reproduce.time, "sleep", lambda seconds: lock.close())
    reproduce.wait_for_others(folder)
    assert "which a living process trains" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [[], ["--table=9"], ["--table=1"], ["--table=x"], ["--table=1", "--alhpa=1"], ["--table=1", "--seeds=a"]]
)
def test_bad_input_is_one_line(arguments, capsys):
    assert reproduce.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_a_table_that_is_killed_and_started_again_ends_as_an_undisturbed_one(tmp_path):
    short = ["--supervised_epochs=1", "--rounds=1:0.01", "--finetune_epochs=0", "--max_steps=20", "--nostop_on_collapse"]
    flags = ["--table=4", "--base=configs/mnist5k.cfg", "--seeds=0", "--deterministic", *short]

    def start(folder):
        places = [f"--output_dir={tmp_path / folder}", f"--runs={tmp_path / folder / 'runs'}"]
        return subprocess.Popen([sys.executable, "-m", "tools.reproduce", *flags, *places], cwd=ROOT, stdout=subprocess.DEVNULL)

    lines = tmp_path / "killed" / "table4_mnist5k_seed0.csv"
    # Killed twice: while stage 1 trains, and when the first row stands in the file and the second trains.
    for ready in (lambda: any(tmp_path.glob("killed/runs/*/config.cfg")), lines.is_file):
        process = start("killed")
        while not ready():
            assert process.poll() is None
            time.sleep(0.1)
        time.sleep(1.0)
        process.kill()
        process.wait()
    assert len(read_records(lines.parent, lines.name)) == 1
    assert start("killed").wait() == 0
    assert start("undisturbed").wait() == 0
    killed, undisturbed = (read_records(tmp_path / folder, lines.name) for folder in ("killed", "undisturbed"))
    assert len(killed) == 3
    for record in (*killed, *undisturbed):
        del record["seconds"]
    assert killed == undisturbed
    tables = [(tmp_path / folder / "table4_mnist5k.md").read_text() for folder in ("killed", "undisturbed")]
    assert tables[0] == tables[1]
