import dataclasses

import numpy as np
import pytest
from conftest import LIGHT

from r2d2_tf import train
from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS, ImageData
from r2d2_tf.data.image_data import UNLABELED
from r2d2_tf.runs import run_labels
from r2d2_tf.runs.dataset import spec_of

MNIST5K = DATASETS["mnist5k"]


@pytest.fixture(scope="module")
def data():
    return MNIST5K.load(None)


def written(path, data, rows):
    path.write_text("".join(f"{data.train_ids[row]}\n" for row in rows))
    return str(path)


def data_of(config):
    return run_labels.loaded(config, spec_of(config))


def unlabeled_rows(data):
    return np.flatnonzero(run_labels.training_labels(data, Config(), 10) == UNLABELED)


def test_the_images_of_a_file_take_the_place_of_the_test_images(data, tmp_path):
    rows = unlabeled_rows(data)[:30]
    loaded = run_labels.loaded(Config(evaluate_on=written(tmp_path / "held_out.txt", data, rows)), MNIST5K)
    np.testing.assert_array_equal(loaded.test_images, data.train_images[rows])
    np.testing.assert_array_equal(loaded.test_labels, data.train_labels[rows])
    np.testing.assert_array_equal(loaded.train_images, data.train_images)


def test_a_file_of_labels_says_which_images_judge_and_by_which_classes(data, tmp_path):
    rows = unlabeled_rows(data)[:30]
    path = tmp_path / "held_out.csv"
    path.write_text("file,label\n" + "".join(f"{data.train_ids[row]},{(data.train_labels[row] + 1) % 10}\n" for row in rows))
    found = data_of(Config(evaluate_on=str(path)))
    np.testing.assert_array_equal(found.test_images, data.train_images[rows])
    np.testing.assert_array_equal(found.test_labels, (data.train_labels[rows] + 1) % 10)
    path.write_text(f"file,label\n{data.train_ids[rows[0]]},\n")
    with pytest.raises(ValueError, match="names images whose class is not known"):
        data_of(Config(evaluate_on=str(path)))


def test_a_labeled_image_cannot_judge(data, tmp_path):
    labeled = np.flatnonzero(run_labels.training_labels(data, Config(), 10) != UNLABELED)
    with pytest.raises(ValueError, match=r"evaluate_on .* names 2 labeled images.*unlabeled ones"):
        run_labels.loaded(Config(evaluate_on=written(tmp_path / "held_out.txt", data, labeled[:2])), MNIST5K)


def test_of_another_set_the_images_are_left_out_that_are_labeled_here(data, monkeypatch):
    labeled = np.flatnonzero(run_labels.training_labels(data, Config(), 10) != UNLABELED)
    shared = np.concatenate([labeled[:3], unlabeled_rows(data)[:5]])
    other = dataclasses.replace(data, test_images=data.train_images[shared], test_labels=data.train_labels[shared])
    monkeypatch.setitem(DATASETS, "mnist5k_dev", dataclasses.replace(MNIST5K, load=lambda data_dir: other))
    loaded = run_labels.loaded(Config(evaluate_on="mnist5k_dev"), MNIST5K)
    np.testing.assert_array_equal(loaded.test_labels, other.test_labels[3:])


def broken_test_set(data: ImageData) -> ImageData:
    generator = np.random.default_rng(0)
    return dataclasses.replace(
        data,
        test_images=generator.integers(0, 256, data.test_images.shape, np.uint8),
        test_labels=generator.integers(0, 10, data.test_labels.shape),
    )


def test_nothing_of_the_test_set_reaches_what_the_run_writes(data, tmp_path, monkeypatch, capsys):
    flags = [*LIGHT, "--deterministic", f"--evaluate_on={written(tmp_path / 'held_out.txt', data, unlabeled_rows(data)[:30])}"]
    assert train.main([*flags, f"--run_dir={tmp_path / 'as_it_is'}"]) == 0
    assert "not on test images" in capsys.readouterr().out
    broken = dataclasses.replace(MNIST5K, load=lambda data_dir: broken_test_set(data))
    monkeypatch.setitem(DATASETS, "mnist5k", broken)
    assert train.main([*flags, f"--run_dir={tmp_path / 'broken'}"]) == 0
    without_seconds = [
        [line.rpartition(",")[0] for line in (tmp_path / name / "metrics.csv").read_text().splitlines()]
        for name in ("as_it_is", "broken")
    ]
    assert without_seconds[0] == without_seconds[1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.txt", "evaluate_on (nowhere.txt) cannot be read: it does not exist, or is no file; change --evaluate_on"),
        ("labels.csv", "evaluate_on: labels (labels.csv), line 2: 'digit' names no image of this data set"),
        ("cifar10", "evaluate_on (cifar10) must be a data set of the same image size"),
    ],
)
def test_bad_input_is_one_line(name, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("r2d2_tf.runs.preflight.check_tfds", lambda *_: None)
    (tmp_path / "labels.csv").write_text("file,label\ndigit,7\n")
    assert train.main([f"--evaluate_on={name}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
