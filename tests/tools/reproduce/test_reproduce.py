import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT, SUMMARY, unpadded

from r2d2_tf import train
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.config.config import Config
from tools.reproduce import __main__ as reproduce
from tools.reproduce import paper_tables, results, trainer
from tools.shared import runner

BASE = Config(name="experiment")


def test_table_1_is_flags_alone_in_the_papers_columns():
    flags = [row.flags for row in paper_tables.rows_of("1", BASE)]
    constant = "--rounds=300:0.12,75:0.12,75:0.12,75:0.12,75:0.12"
    assert flags == [("--rounds=300:0.12",), (constant, "--norepredict"), (constant,), ("--norepredict",), ()]


@pytest.mark.parametrize("table", [table for table in paper_tables.TABLES if table != "mnist"])
def test_every_row_is_a_valid_config_and_one_of_them_is_the_papers_own(table):
    rows = paper_tables.rows_of(table, BASE)
    digests = [from_command_line(list(row.flags)).digest for row in rows]
    assert len(set(digests)) == len(rows)
    assert Config().digest in digests


def test_the_supervised_rows_have_the_length_and_the_rate_that_they_claim():
    rows = {row.label: from_command_line(list(row.flags)) for row in paper_tables.rows_of("7", BASE)}
    all_labels, hard = rows["supervised, all labels"], rows["hard pseudo-labels"]
    assert (all_labels.num_labels, all_labels.rounds, all_labels.finetune_epochs) == (0, "", 0)
    assert all_labels.supervised_epochs == hard.finetune_epochs == 650
    assert (all_labels.supervised_learning_rate, all_labels.supervised_batch_size) == (0.12, 512)
    assert hard.finetune_from == "prediction"
    assert (hard.finetune_learning_rate, hard.finetune_cosine_epochs) == (0.12, 650)


@pytest.fixture
def pretend(tmp_path, monkeypatch):
    """Stands in for training; returns the commands. Runs with alpha 0.5, or that rate in stage 1, stop."""
    monkeypatch.setattr(trainer.provenance, "git_commit", lambda: "abc")
    commands = []

    def finish(command, pass_fds):
        commands.append(command)
        config = from_command_line(command[3:])
        if 0.5 in (config.alpha, config.supervised_learning_rate):
            return train.STOPPED
        folder = config.resolved_run_dir
        folder.mkdir(parents=True, exist_ok=True)
        errors = {"stage_1": 10.0, **({"stage_3": 4.0 + config.seed} if config.finetune_epochs else {})}
        top5 = {stage: error / 2 for stage, error in errors.items()}
        summary = SUMMARY | {"test_error_percent": errors, "test_top5_error_percent": top5}
        (folder / "summary.json").write_text(json.dumps(summary))
        return 0

    monkeypatch.setattr(runner, "run_to_the_end", finish)
    return commands


@pytest.fixture
def arguments(tmp_path):
    return ["--base=configs/mnist5k.cfg", "--seeds=0,1", f"--output_dir={tmp_path / 'out'}", f"--runs={tmp_path / 'runs'}"]


def test_a_stage_1_that_stops_is_tried_once_and_its_rows_are_stopped(pretend, arguments, tmp_path, capsys):
    assert reproduce.main(["--table=4", *arguments, "--supervised_learning_rate=0.5"]) == 0
    assert len(pretend) == 2, "one a seed"
    assert "| forward_kl | 2 | (2 of 2 runs stopped) | 8.06 | - |" in unpadded(capsys.readouterr().out)
    assert [record["outcome"] for record in read_records(tmp_path / "out", "table4_mnist5k_seed1.csv")] == ["stopped"] * 3


def test_a_title_says_what_the_paper_has_and_what_was_run(pretend, arguments, tmp_path):
    assert reproduce.main(["--table=7", *arguments, "--num_labels=200"]) == 0
    lines = (tmp_path / "out" / "table7_mnist5k.md").read_text().splitlines()
    assert not [line for line in lines if len(line) > 120 and not line.startswith(("|", " "))]
    text = " ".join(lines)
    assert text.startswith(
        "Table 7 of the paper: R2-D2 and its baselines (there CIFAR-10, here mnist5k), with configs/mnist5k.cfg. Test error"
    )
    assert "Images: 100 labeled, 3,900 unlabeled, 1,000 to test on." in text, "of the runs"
    assert "4,000 labels" not in text


def test_help_lists_the_flags(capsys):
    assert reproduce.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "--seeds=0,1,2\n" in out
    assert all(f"--{name}=" in out for name in ("table", "scale", "base", "output_dir", "runs", "dry_run", "trial"))


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
    assert "| alpha 0.1 | 2 | 4.50 +- 0.71 | 5.78 | -1.28 | 2.25 +- 0.35 | - |" in unpadded(out)
    assert "| alpha 0.5 | 2 | (2 of 2 runs stopped) | 6.11 | - | - | - |" in unpadded(out)
    assert "Run 4 of 10: alpha 0.4, seed 0" in out
    assert "Seeds 0, 1; commit abc; TensorFlow 2; " in out
    records = read_records(tmp_path / "out", "table2_mnist5k_seed1.csv")
    assert [record["outcome"] for record in records] == ["finished"] * 4 + ["stopped"]
    assert records[1]["stage_3"] == records[1]["final"] == "5"
    pretend.clear()
    assert reproduce.main(arguments) == 0
    assert pretend == []
    assert capsys.readouterr().out == out[out.index("Table 2 of the paper") :]


def test_table_1_shares_its_first_round_too(pretend, arguments, tmp_path, capsys):
    arguments = ["--table=1", *arguments, "--seeds=0"]
    assert reproduce.main(arguments) == 0
    text = [" ".join(command) for command in pretend]
    assert len(text) == 1 + 1 + 5, "stage 1, the first round, and what is left of each row"
    assert [("--stage_1_from=" in line, "--stage_2_from=" in line) for line in text] == [(0, 0), (1, 0), *[(0, 1)] * 5]
    assert "--keep_rounds=true" in text[1]
    pretend.clear()
    # A row that was begun before first rounds were shared goes on as it began.
    config = from_command_line(["--flagfile=configs/mnist5k.cfg", "--norepredict"])
    folder = tmp_path / "runs" / f"{config.name}-{config.digest}"
    (folder / "summary.json").unlink()
    (folder / "config.cfg").write_text(config.to_flagfile())
    (tmp_path / "out" / "table1_mnist5k_seed0.csv").unlink()
    assert reproduce.main(arguments) == 0
    [command] = pretend
    assert not [flag for flag in command if flag.startswith("--stage_2_from=")]


def test_lines_of_other_seeds_join_the_table_and_those_made_with_other_flags_do_not(pretend, arguments, capsys):
    assert reproduce.main(["--table=4", *arguments]) == 0
    assert reproduce.main(["--table=4", *arguments, "--seeds=2"]) == 0
    assert "| reverse_kl | 3 | 5.00 +- 1.00 |" in unpadded(capsys.readouterr().out)
    assert reproduce.main(["--table=4", *arguments, "--seeds=2", "--alpha=0.2"]) == 0
    assert "| reverse_kl | 1 | 6.00 |" in unpadded(capsys.readouterr().out)
    assert reproduce.main(["--table=4", *arguments, "--dry_run"]) == 0
    pretend.clear()
    assert reproduce.main(["--table=4", *arguments]) == 0
    out = capsys.readouterr().out
    assert pretend == [], "the lines of other flags have pushed none out of the files"
    assert "| reverse_kl | 3 | 5.00 +- 1.00 |" in unpadded(out)
    assert out.splitlines()[-3].endswith("--seeds=0,1,2")


def test_programs_that_add_lines_at_the_same_time_lose_none(tmp_path):
    experiment = results.TableExperiment(["--flagfile=configs/mnist5k.cfg"])
    rows = paper_tables.rows_of("4", BASE)
    one, other = (results.Results(tmp_path, "table4", rows, experiment, "a title", "a command") for _ in range(2))
    for output, row, seed in ((one, rows[0], 0), (other, rows[0], 1), (one, rows[1], 1)):
        run = results.Run.of(row, experiment, seed)
        line = {"row": row.label, "seed": str(seed), "outcome": "stopped", "config_digest": run.config.digest}
        output.add(run, line)
    assert set(one.records()) == set(other.records()) == {("reverse_kl", 0), ("reverse_kl", 1), ("forward_kl", 1)}


@pytest.mark.parametrize("text", ["row,seed\nreverse_kl,0\n", "row,seed,outcome,config_digest\nx,y,finished,z\n"])
def test_damaged_lines_are_one_line_that_names_the_file(text, arguments, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "table4_mnist5k_seed0.csv").write_text(text)
    assert reproduce.main(["--table=4", *arguments]) == 2
    error = capsys.readouterr().err
    assert "table4_mnist5k_seed0.csv is damaged" in error
    assert error.count("\n") == 1


def test_supervised_rows_are_stage_1_alone_and_share_it(pretend, arguments, capsys):
    assert reproduce.main(["--table=7", *arguments, "--seeds=0"]) == 0
    assert len(pretend) == 4, "all labels; the given labels, which the other two start from; two more"
    assert "| supervised, the given labels only | 1 | 10.00 | 14.90 | -4.90 | 5.00 | - |" in unpadded(capsys.readouterr().out)


def test_a_row_without_runs_reads_not_run():
    line = results.table_lines(paper_tables.rows_of("8", BASE), {})[2]
    assert unpadded(line) == "| supervised, all labels | 0 | not run | 2.88 | - |"


def test_an_interrupted_table_is_on_disk_with_what_is_done(pretend, arguments, tmp_path, monkeypatch):
    def stop_at_the_third(command, pass_fds):
        if len(pretend) == 3:
            raise KeyboardInterrupt
        return finish(command, pass_fds)

    finish = runner.run_to_the_end
    monkeypatch.setattr(runner, "run_to_the_end", stop_at_the_third)
    assert reproduce.main(["--table=4", *arguments]) == 130
    assert "| squared_l2 | 0 | not run | 6.35 | - |" in unpadded((tmp_path / "out" / "table4_mnist5k.md").read_text())
    assert len(read_records(tmp_path / "out", "table4_mnist5k_seed0.csv")) == 2


def test_a_run_that_a_living_process_trains_is_waited_for(tmp_path, capfd):
    # As a killed program leaves it: a child that holds the inherited lock.
    with runner.alone(tmp_path / "run") as lock:
        child = subprocess.Popen(["sleep", "1"], pass_fds=[lock])
    assert capfd.readouterr().out == ""
    with runner.alone(tmp_path / "run"):
        assert child.wait(timeout=0.5) == 0, "it was waited for"
    assert "which a living process trains" in capfd.readouterr().out


def test_seeds_but_the_first_draw_their_own_split_in_the_tables_of_results():
    arguments = ["--flagfile=configs/cifar10.cfg"]
    for draws, files in ((True, [True, False]), (False, [True, True])):
        experiment = results.TableExperiment(arguments, draws_splits=draws)
        row = paper_tables.rows_of("7", from_command_line(arguments))[-1]
        assert [bool(results.Run.of(row, experiment, seed).config.split_file) for seed in (0, 1)] == files


MNIST5K = ["--table=1", "--base=configs/mnist5k.cfg"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--table=9"],
        ["--table=1"],
        ["--table=x"],
        ["--table=1", "--alhpa=1"],
        [*MNIST5K, "--seeds=a"],
        [*MNIST5K, "--seeds="],
        [*MNIST5K, "--rounds=", "--finetune_epochs=0"],
        [*MNIST5K, "--output_dir=/dev/null"],
    ],
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


def test_a_program_that_is_interrupted_is_given_the_time_to_save(tmp_path):
    saved = tmp_path / "saved"
    program = (
        "import pathlib, signal, time\n"
        f"def save(*_): time.sleep(1); pathlib.Path({str(saved)!r}).touch(); raise SystemExit(130)\n"
        "signal.signal(signal.SIGINT, save); print(flush=True); time.sleep(60)"
    )
    # A test that runs in the background inherits that Ctrl-C is ignored.
    outer = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from tools.shared import runner\n"
        f"runner.run_to_the_end([sys.executable, '-c', {program!r}])"
    )
    command = [sys.executable, "-c", outer]
    # Ctrl-C reaches all processes of a terminal: here, of a session.
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert saved.exists()
    assert errors.rstrip().endswith(b"KeyboardInterrupt")
