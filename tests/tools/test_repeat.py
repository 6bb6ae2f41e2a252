import json

import pytest
from conftest import SHORT, SUMMARY, unpadded

from r2d2_tf.config.command_line import from_command_line
from tools import repeat
from tools.shared import runner


@pytest.fixture
def pretend(tmp_path, monkeypatch):
    """Stands in for training: finishes at once, with errors made from the seed; returns the commands."""
    monkeypatch.chdir(tmp_path)
    commands = []

    def finish(command, pass_fds):
        commands.append(command)
        config = from_command_line(command[3:])
        folder = config.resolved_run_dir
        folder.mkdir(parents=True)
        (folder / "config.cfg").write_text(config.to_flagfile())
        errors = {"stage_1": 10.0 + config.seed, "stage_3": 4.0}
        summary = SUMMARY | {"seed": config.seed, "test_error_percent": errors, "seconds": {"total": 60.0}}
        (folder / "summary.json").write_text(json.dumps(summary))
        return 0

    monkeypatch.setattr(runner, "run_to_the_end", finish)
    return commands


def test_each_seed_is_a_run_and_the_table_has_mean_and_deviation(pretend, capsys):
    assert repeat.main(["--seeds=0,1,2", *SHORT]) == 0
    assert [command[-1] for command in pretend] == ["--seed=0", "--seed=1", "--seed=2"]
    assert unpadded(capsys.readouterr().out).splitlines() == [
        "| seed | stage 1 % | stage 3 % | seconds |",
        "|---|---|---|---|",
        "| 0 | 10.00 | 4.00 | 60.00 |",
        "| 1 | 11.00 | 4.00 | 60.00 |",
        "| 2 | 12.00 | 4.00 | 60.00 |",
        "| mean | 11.00 | 4.00 | 60.00 |",
        "| standard deviation | 1.00 | 0.00 | 0.00 |",
    ]


def test_a_finished_seed_is_not_run_again(pretend):
    repeat.main(["--seeds=0,1", *SHORT])
    repeat.main(["--seeds=0,1,1,2", *SHORT])
    assert [command[-1] for command in pretend] == ["--seed=0", "--seed=1", "--seed=2"]


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        ({1}, "seed 1 did not finish; each run's own message says why. Done, and alone in the table: seeds 0, 2"),
        ({0, 2}, "seeds 0, 2 did not finish; each run's own message says why. Done, and alone in the table: seed 1"),
        ({0, 1, 2}, "seeds 0, 1, 2 did not finish; each run's own message says why. No seed is done"),
    ],
)
def test_seeds_that_fail_are_told_and_the_others_are_run(failing, said, pretend, monkeypatch, capsys):
    finish = runner.run_to_the_end

    def run(command, pass_fds):
        return 3 if from_command_line(command[3:]).seed in failing else finish(command, pass_fds)

    monkeypatch.setattr(runner, "run_to_the_end", run)
    assert repeat.main(["--seeds=0,1,2", *SHORT]) == 1
    out, err = capsys.readouterr()
    assert err == f"error: {said}\n"
    assert [f"| {seed} |" in unpadded(out) for seed in (0, 1, 2)] == [seed not in failing for seed in (0, 1, 2)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--seeds=0,1,2"),
        (["--seeds=a"], "--seeds=0,1,2"),
        (["--seeds=0,1", "--run_dir=x"], "--run_dir would put all seeds into one folder"),
        (["--seeds=0", "--alhpa=1"], "did you mean --alpha?"),
    ],
)
def test_bad_input_is_one_line(arguments, message, capsys):
    assert repeat.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
