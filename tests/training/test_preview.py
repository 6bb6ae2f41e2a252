"""--dry_run: what a run would take, and nothing written."""

import re

import pytest
from conftest import LIGHT, ROOT, SHORT

from r2d2_tf import backbones, train
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.data import cache
from r2d2_tf.runs import run_directory
from r2d2_tf.training import preview
from r2d2_tf.training.timing import trial

CONFIGS = sorted((ROOT / "configs").rglob("*.cfg"))


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(trial, "ENOUGH_SECONDS", 0.01)


def dry_run(capsys, *flags):
    code = train.main([*SHORT, "--dry_run", *flags])
    return code, *capsys.readouterr()


def everything_under(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_it_counts_steps_and_images_names_a_time_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, output, error = dry_run(capsys)
    assert code == 0
    assert list(tmp_path.iterdir()) == []
    rows = [re.split(" {2,}", line.strip()) for line in output.splitlines() if re.match(r"  stage \d +[\d,]+  ", line)]
    # Of 100 labeled and 3,900 unlabeled images; stage 2 predicts twice, and compares once at its end. 1,000 test images.
    assert [row[:5] for row in rows] == [
        ["stage 1", "12", "400", "0", "4,000"],
        ["stage 2", "162", "10,368", "11,700", "2,000"],
        ["stage 3", "42", "4,000", "0", "1,000"],
    ]
    assert re.search(r"\nThe whole run would take about [\d.-]+ (s|min) on this machine", output)
    assert "156.2 KiB  the table of 4,000 x 10 pseudo-logits" in output
    assert re.search(r"Disk: checkpoints of 3\.\d\d MiB, 3 of them while one is written", output)
    assert [line.startswith("dry run: ") for line in error.splitlines()] == [True] * 8


def test_a_finished_run_is_told_and_left_alone(light_run, capsys):
    before = everything_under(light_run)
    code, output, error = dry_run(capsys, LIGHT[-1], "--deterministic", f"--run_dir={light_run}")
    assert code == 0
    assert "warning: this run is finished already" in error
    assert "The whole run would take about" in output
    assert everything_under(light_run) == before


def test_the_folder_of_a_living_or_of_another_run_is_told_and_left_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(preview, "preview", lambda experiment, began: "")
    config = from_command_line([*SHORT, f"--run_dir={tmp_path / 'run'}"])
    with run_directory.claimed(config):
        before = everything_under(tmp_path)
        code, _, error = dry_run(capsys, f"--run_dir={tmp_path / 'run'}")
        assert (code, everything_under(tmp_path)) == (0, before)
        assert "is in use: a living process trains in it" in error
    code, _, error = dry_run(capsys, f"--run_dir={tmp_path / 'run'}", "--alpha=0.2")
    assert code == 0
    assert "holds another run" in error
    code, _, error = dry_run(capsys, f"--run_dir={tmp_path / 'run'}")
    assert code == 0
    assert "would go on with what is in" in error


def test_steps_that_take_very_long_are_tried_once_and_others_reckoned_by_their_images(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trial, "MOST_SECONDS", 1e-9)
    code, output, error = dry_run(capsys, f"--run_dir={tmp_path / 'run'}")
    assert code == 0
    assert re.findall(r"(stage \d): not tried; by its (\d+) images", error) == [("stage 2", "64"), ("stage 3", "96")]
    assert "timing the prediction" not in error
    assert "The whole run would take about" in output


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_where_data_is_missing_the_usual_error_comes_and_nothing_is_downloaded(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    config = from_command_line([f"--flagfile={path}"])
    if config.dataset == "mnist5k":
        pytest.skip("it needs no data")
    arguments = [f"--flagfile={path}", f"--data_dir={tmp_path}", f"--run_dir={tmp_path / 'run'}", "--download", "--dry_run"]
    assert train.main(arguments) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[-1].startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_a_flagfile_that_a_run_writes_does_not_ask_for_a_dry_run():
    assert "dry_run" not in from_command_line(["--dry_run"]).to_flagfile()
    assert from_command_line(["--dry_run"]).digest == from_command_line([]).digest


def test_it_tells_how_long_features_take_and_keeps_none(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "kept"))
    name = "small_network:strided"
    backbones.build(name, (28, 28, 1), 10, mean=(0.1,), std=(0.3,)).save(tmp_path / "body.keras")
    flags = ["--trainable=head", f"--backbone={name}", f"--weights={tmp_path / 'body.keras'}", f"--run_dir={tmp_path / 'run'}"]
    code, output, error = dry_run(capsys, *flags)
    assert code == 0
    assert "dry run: timing the features of 9,000 images and views" in error
    assert re.search(r"\nFeatures, 288 of 4,000 training images in 2 views and of 1,000 test images, kept .*: about \d", output)
    assert [path.name for path in tmp_path.iterdir()] == ["body.keras"]
