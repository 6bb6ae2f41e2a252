import dataclasses
import json

import numpy as np
import pytest
from conftest import SUMMARY, unpadded
from PIL import Image

from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.data.photographs import Photographs
from tools.check_data.proposal_trial import Trial, drawn, loaded, main, write_folder
from tools.shared import runner

FLAGS = ("--num_labels=20", "--num_unlabeled=60", "--num_test=30")


@pytest.fixture
def trial(tmp_path):
    return Trial(
        "mnist5k",
        None,
        num_labels=20,
        num_unlabeled=60,
        num_test=30,
        tested_on="train",
        minutes=20.0,
        weights=True,
        folder=tmp_path,
    )


def test_images_are_drawn_apart_with_as_many_labels_of_each_class_and_anew_for_each_seed(trial):
    labels = DATASETS["mnist5k"].load(None).train_labels
    rows = drawn(labels, 10, trial, seed=0)
    assert {part: len(own) for part, own in rows.items()} == {"train": 20, "unlabeled": 60, "test": 30}
    assert len(np.unique(np.concatenate(list(rows.values())))) == 110
    assert np.bincount(labels[rows["train"]]).tolist() == [2] * 10
    again, other = drawn(labels, 10, trial, seed=0), drawn(labels, 10, trial, seed=1)
    assert all(np.array_equal(rows[part], again[part]) for part in rows)
    assert not np.array_equal(np.sort(rows["test"]), np.sort(other["test"]))
    with pytest.raises(ValueError, match="mnist5k has 40 training images, and 110 are asked for"):
        drawn(labels[:40], 10, trial, seed=0)


def test_pixels_come_back_from_the_files_that_are_written(trial, tmp_path):
    data = DATASETS["mnist5k"].load(None)
    rows = drawn(data.train_labels, 10, trial, seed=0)
    write_folder(tmp_path / "images", data, rows)
    assert not list(tmp_path.glob(".*")), "nothing is left of the writing"
    for part, own in rows.items():
        found = sorted((tmp_path / "images" / part).rglob("*.png"))
        assert sorted(int(path.stem) for path in found) == sorted(own.tolist())
        for path in found:
            np.testing.assert_array_equal(np.asarray(Image.open(path)), data.train_images[int(path.stem)][..., 0])
            assert part == "unlabeled" or path.parent.name == str(data.train_labels[int(path.stem)])


def test_photographs_are_written_as_the_files_that_they_are(tmp_path, data_dir):
    data = DATASETS["imagenette"].load(data_dir)
    assert isinstance(data.train_images, Photographs)
    write_folder(tmp_path / "images", data, {"unlabeled": np.array([3])})
    assert (tmp_path / "images" / "unlabeled" / "0000003.jpg").read_bytes() == data.train_images.read(3)


def test_each_seed_is_proposed_for_trained_and_in_the_table_and_nothing_is_made_twice(tmp_path, monkeypatch, capsys):
    commands = []

    def run(command, pass_fds):
        commands.append(command)
        config = from_command_line(command[3:])
        config.resolved_run_dir.mkdir()
        (config.resolved_run_dir / "config.cfg").write_text(config.to_flagfile())
        errors = {"stage_1": 20 + config.seed, "stage_2": 10.0}
        result = {"stage": 2, "why": "", "held_out": {}, "p_value": None}
        about = {"seconds": {"total": 7}, "test_error_percent": errors, "result": result}
        (config.resolved_run_dir / "summary.json").write_text(json.dumps(SUMMARY | about))
        return 0

    monkeypatch.setattr(runner, "run_to_the_end", run)
    arguments = [*FLAGS, "--seeds=0,1", f"--output_dir={tmp_path / 'out'}"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "| 0 | 20.0 | 10.0 | 7 |" in unpadded(out)
    assert "| mean | 20.5 | 10.0 | |" in unpadded(out)
    assert "on 30 other training images of mnist5k: 20 labeled, 60 unlabeled" in out
    assert "Chosen, by seed: 0: lenet at 224 pixels, stage 2; 1: lenet" in out
    assert (tmp_path / "out" / "table.md").read_text() in out
    assert main(arguments) == 0
    assert len(commands) == 2
    config = from_command_line(commands[1][3:])
    assert (config.dataset, config.seed, config.minutes) == ("folder", 1, 20)
    assert "Commit abc; a machine." in out, "of the runs, not of who prints"
    assert main([*arguments, "--num_labels=30"]) == 2
    assert "holds another trial (--num_labels: 20 -> 30): choose another --output_dir" in capsys.readouterr().err


def test_the_test_images_of_a_set_are_files_of_their_own_once_the_rules_stand(trial, tmp_path):
    data = DATASETS["mnist5k"].load(None)
    rows = drawn(data.train_labels, 10, dataclasses.replace(trial, tested_on="test"), seed=0)
    assert set(rows) == {"train", "unlabeled"}
    write_folder(tmp_path / "images", data, rows, np.array([2, 5]))
    found = sorted((tmp_path / "images" / "test").rglob("*.png"))
    assert sorted(int(path.stem) for path in found) == [2, 5]
    for path in found:
        np.testing.assert_array_equal(np.asarray(Image.open(path)), np.asarray(data.test_images)[int(path.stem)][..., 0])


def test_a_run_that_fails_and_bad_flags_are_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "run_to_the_end", lambda command, pass_fds: 1)
    assert main([*FLAGS, f"--output_dir={tmp_path / 'out'}"]) == 2
    assert "seed0-run did not finish; its own message says why" in capsys.readouterr().err
    for flags, message in (
        (["--seeds=x"], "say which seeds"),
        (["--num_labels=5"], "num_labels (5) must be at least one a class"),
    ):
        assert main([*flags, f"--output_dir={tmp_path / 'other'}"]) == 2
        assert message in capsys.readouterr().err


def test_images_of_a_folder_are_drawn_as_the_files_that_they_are_and_each_needs_a_class(trial, tmp_path):
    photos = tmp_path / "photos"
    for number in range(8):
        path = photos / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 9, 3), 20 * number, np.uint8)).save(path)
    own = dataclasses.replace(trial, dataset="folder", data_dir=photos, num_labels=2, num_unlabeled=3, num_test=3)
    spec, data = loaded(own)
    assert (spec.num_classes, len(data.train_labels)) == (2, 8)
    write_folder(tmp_path / "images", data, drawn(data.train_labels, 2, own, seed=0))
    written = sorted((tmp_path / "images").rglob("*.png"))
    assert len(written) == 8
    for path in written:
        assert path.read_bytes() == (photos / data.train_ids[int(path.stem)]).read_bytes()
    (photos / "unlabeled").mkdir()
    (photos / "unlabeled" / "8.png").write_bytes((photos / "a" / "0.png").read_bytes())
    with pytest.raises(ValueError, match="photos has 1 images without a class"):
        loaded(own)


def test_a_trial_of_a_folder_says_what_it_needs(tmp_path, capsys):
    assert main(["--dataset=folder", f"--output_dir={tmp_path / 'trial'}"]) != 0
    assert "--dataset=folder needs --data_dir=FOLDER" in capsys.readouterr().err


def test_a_trial_of_another_folder_is_another_trial(tmp_path, capsys):
    out = tmp_path / "trial"
    out.mkdir()
    held = {"dataset": "folder", "data_dir": str(tmp_path / "first"), "num_labels": "100", "num_unlabeled": "2000"}
    (out / "trial.json").write_text(
        json.dumps(held | {"num_test": "500", "tested_on": "train", "minutes": "20.0", "weights": "True"})
    )
    assert main(["--dataset=folder", f"--data_dir={tmp_path / 'second'}", f"--output_dir={out}"]) == 2
    error = capsys.readouterr().err
    assert "holds another trial (--data_dir:" in error
    assert "--num_labels" not in error
