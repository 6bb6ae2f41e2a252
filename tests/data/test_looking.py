"""What decoded pixels themselves show of an error: images of a single color, and equal ones."""

import numpy as np
import pytest
from own_photographs import colored_folder, photograph
from PIL import Image

from r2d2_tf.config.config import Config
from r2d2_tf.data import health, looking
from r2d2_tf.runs.dataset import spec_of


def told_of(folder, capsys, dataset="folder"):
    config = Config(dataset=dataset, data_dir=str(folder), translate=0)
    spec = spec_of(config)
    health.checked(spec.load(config.data_path), spec)
    return capsys.readouterr().err.splitlines()


@pytest.fixture
def photos(tmp_path):
    return colored_folder(tmp_path / "photos", kinds=("png",))


def test_of_images_that_differ_nothing_is_told(photos, capsys):
    assert told_of(photos, capsys) == []


@pytest.mark.parametrize("again", [False, True], ids=["decoded", "kept of an earlier run"])
def test_all_images_that_are_of_a_single_color_once_decoded_are_told(again, photos, capsys):
    for number in range(100):
        photograph(photos / "unlabeled" / f"more_{number}.png", (90, 90, 90), 1000 + number)
    Image.new("RGB", (40, 30), (9, 9, 9)).save(photos / "unlabeled" / "lens cap.jpg")
    if again:
        told_of(photos, capsys)
    assert told_of(photos, capsys) == [
        "warning: 1 of 134 images are of a single color once decoded (train unlabeled/lens cap.jpg)"
    ]


def test_equal_images_in_files_that_differ_are_told(photos, capsys):
    with Image.open(photos / "test" / "red" / "more" / "red_test_0.png") as image:
        image.save(photos / "train" / "red" / "again.png", compress_level=0)
    assert told_of(photos, capsys) == [
        "warning: 2 of 34 images are equal to another once decoded, 1 times test images to training images "
        "(train train/red/again.png = test test/red/more/red_test_0.png, for example)"
    ]


def test_of_images_in_memory_a_sample_is_looked_at_and_called_so(tmp_path, capsys):
    rng = np.random.default_rng(0)
    images, tests = rng.integers(0, 256, (500, 8, 8, 1), np.uint8), rng.integers(0, 256, (9, 8, 8, 1), np.uint8)
    images[looking.sampled_rows(500)[3]] = 7
    labels = np.arange(500) % 3
    np.savez(tmp_path / "own.npz", images=images, labels=labels, test_images=tests, test_labels=labels[:9])
    row = looking.sampled_rows(500)[3]
    assert told_of(tmp_path / "own.npz", capsys, "npz") == [
        f"warning: 1 of 73 images, a sample, are of a single color once decoded (train own_{row:06d})"
    ]


@pytest.mark.parametrize(("highest", "is_plain"), [(7, True), (9, True), (10, False)])
def test_a_single_color_may_be_rounded(highest, is_plain):
    image = np.full((5, 4, 3), 7, np.uint8)
    image[2, 2] = highest
    assert looking.pixels_of(image).is_plain == is_plain


def test_a_digest_follows_pixels_and_shape():
    image = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    assert looking.pixels_of(image).digest == looking.pixels_of(image.copy()).digest
    assert looking.pixels_of(image).digest != looking.pixels_of(image.reshape(2, 4, 3)).digest


def test_a_run_that_goes_on_is_not_told_again(photos, capsys):
    Image.new("RGB", (40, 30), (9, 9, 9)).save(photos / "unlabeled" / "lens cap.jpg")
    config = Config(dataset="folder", data_dir=str(photos), translate=0)
    spec = spec_of(config)
    health.checked(spec.load(config.data_path), spec, skipped=[])
    assert capsys.readouterr().err == ""
