import json
import shutil

import pytest
from conftest import SHORT, unpadded

from r2d2_tf.config.command_line import from_command_line
from tools.label_queue import queue_experiment
from tools.shared import runner, saved_table


@pytest.fixture
def pretend(finished_run, tmp_path, monkeypatch):
    """Stands in for training: finishes at once, with errors made from the labels; returns the configs."""
    monkeypatch.chdir(tmp_path)
    configs = []

    def finish(command, pass_fds):
        config = from_command_line(command[3:])
        configs.append(config)
        folder = shutil.copytree(finished_run, config.resolved_run_dir)
        (folder / "config.cfg").write_text(config.to_flagfile())
        summary = json.loads((folder / "summary.json").read_text())
        error = 10.0 + config.seed - (5.0 if "mixed" in config.split_file else 2.0 if config.split_file else 0.0)
        (folder / "summary.json").write_text(json.dumps(summary | {"test_error_percent": {"stage_1": 30.0, "stage_3": error}}))
        return 0

    monkeypatch.setattr(runner, "run_to_the_end", finish)
    return configs


def test_each_seed_has_a_run_before_and_one_a_strategy(pretend, tmp_path, finished_run, capsys):
    assert queue_experiment.main([*SHORT, "--seeds=0,1", "--count=7", "--output_dir=out"]) == 0
    assert [str(config.resolved_run_dir) for config in pretend] == [
        "out/seed0", "out/seed0-mixed", "out/seed0-random", "out/seed1", "out/seed1-mixed", "out/seed1-random"
    ]  # fmt: skip
    assert [config.warm_start for config in pretend[:3]] == ["", "out/seed0", "out/seed0"]
    assert [config.num_labels for config in pretend[:3]] == [100, 107, 107]
    out = capsys.readouterr().out
    assert "| seed | before | mixed | random | mixed - random |" in unpadded(out)
    assert "| 1 | 11.00 | 6.00 | 9.00 | -3.00 |" in unpadded(out)
    assert "| mean | 10.50 | 5.50 | 8.50 | -3.00 |" in unpadded(out)
    assert "| standard deviation | 0.71 | 0.71 | 0.71 | 0.00 |" in unpadded(out)
    assert (tmp_path / "out" / "table.md").read_text() in out
    table = saved_table.read(finished_run / "pseudo_labels.npz")
    given = {str(name) for name in table.ids[table.labeled_rows]}
    chosen = {}
    for name in ("mixed", "random"):
        lines = (tmp_path / "out" / f"seed0-{name}.txt").read_text().splitlines()
        ids = {line.split()[0] for line in lines if not line.startswith("#")}
        assert given < ids
        chosen[name] = ids - given
        assert len(chosen[name]) == 7
    assert chosen["mixed"] != chosen["random"]


def test_what_is_finished_is_not_run_again_and_a_cold_start_has_its_own_stage_1(pretend):
    command = [*SHORT, "--seeds=0", "--output_dir=out"]
    assert queue_experiment.main(command) == 0
    assert queue_experiment.main(command) == 0
    assert len(pretend) == 3
    assert queue_experiment.main([*command, "--cold"]) == 0
    assert [str(config.resolved_run_dir) for config in pretend[3:]] == ["out/seed0-mixed-cold", "out/seed0-random-cold"]
    assert {config.warm_start for config in pretend[3:]} == {""}


def test_a_run_that_fails_is_told(pretend, monkeypatch, capsys):
    monkeypatch.setattr(runner, "run_to_the_end", lambda command, pass_fds: 3)
    assert queue_experiment.main([*SHORT, "--output_dir=out"]) == 1
    assert "the run in out/seed0 did not finish" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds=a"], "--seeds=0,1,2"),
        (["--strategies=guess"], "must be among mixed"),
        (["--run_dir=x"], "leave --run_dir"),
        (["--num_labels=0"], "nothing to ask for"),
        (["--count=3901"], "with --count=3901 more labels, num_labels (4001) must be"),
        (["--dataset=folder", "--data_dir=x"], "--dataset=folder gives labels, and those of queued images are not known"),
        (["--labels=x.csv"], "--labels gives labels, and those of queued images are not known"),
        (["--alhpa=1"], "did you mean --alpha?"),
    ],
)
def test_bad_input_is_one_line(arguments, message, capsys):
    assert queue_experiment.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
