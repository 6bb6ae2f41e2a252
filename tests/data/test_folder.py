"""Somebody's own images, from a folder or an .npz file to a trained and exported network."""

import csv
import dataclasses
import json
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import small_network
import tensorflow as tf
from conftest import ROOT
from own_photographs import COLORS, colored_folder, imagenette_folder, photograph, write_csv
from PIL import Image

from export import __main__ as export_command
from export import inference
from r2d2_tf import train
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.config.config import Config
from r2d2_tf.data.photographs import Photographs
from r2d2_tf.data.readers.folder import held_out
from r2d2_tf.data.readers.npz import channel_statistics
from r2d2_tf.runs import preflight, run_labels
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.training.experiment import Experiment
from tools import pseudo_labels
from tools.evaluate import __main__ as evaluate
from tools.label_queue import __main__ as label_queue

NAMES = tuple(COLORS)
TINY = (
    f"--backbone={small_network.__name__}:strided",
    "--image_size=32",
    "--supervised_epochs=2",
    "--supervised_batch_size=4",
    "--supervised_cosine_epochs=0",
    "--supervised_learning_rate=0.01",
    "--rounds=1:0.01,1:0.01",
    "--batch_size=16",
    "--finetune_epochs=1",
    "--finetune_batch_size=8",
    "--finetune_cosine_epochs=0",
    "--translate=0",
    "--eval_batch_size=8",
    "--nostop_on_collapse",
)


@pytest.fixture
def photos(tmp_path):
    return colored_folder(tmp_path / "photos")


def config_of(folder, **flags):
    return Config(**{"dataset": "folder", "data_dir": str(folder), "translate": 0, **flags})


def load(folder, **flags):
    config = config_of(folder, **flags)
    return spec_of(config).load(config.data_path)


def test_a_folder_a_class_gives_the_labels_and_the_rest_is_unlabeled(photos):
    data = load(photos)
    assert data.class_names == NAMES
    assert data.train_ids == sorted(data.train_ids)
    assert len(data.train_ids) == 3 * 4 + 12
    for name, label, given in zip(data.train_ids, data.train_labels, data.given_labels, strict=True):
        assert label == given == (-1 if name.startswith("unlabeled/") else NAMES.index(name.split("/")[1]))
    assert np.bincount(data.test_labels).tolist() == [3, 3, 3]
    assert all(name.startswith("test/") and "/more/" in name for name in data.test_ids)
    assert isinstance(data.train_images, Photographs)
    path = photos / data.train_ids[5]
    assert data.train_images.read(5) == path.read_bytes()


def test_what_is_known_of_a_folder_is_known_before_an_image_is_read(photos, monkeypatch):
    monkeypatch.setattr(Photographs, "read", None)
    spec = spec_of(config_of(photos, image_size=64))
    assert (spec.num_classes, spec.image_shape, spec.num_train) == (3, (64, 64, 3), 24)
    assert "ImageNet" in spec.description
    images = spec.load(None).train_images
    assert (images.size, images.resize) == (64, 73)


def test_capitals_of_the_parts_do_not_matter(photos):
    for name in ("train", "test", "unlabeled"):
        (photos / name).rename(photos / name.capitalize())
    data = load(photos)
    assert data.class_names == NAMES
    assert (np.sum(data.given_labels < 0), len(data.test_labels)) == (12, 9)


def test_files_that_are_not_read_are_told(photos):
    assert "not read" not in spec_of(config_of(photos)).description
    for name in ("a.heic", "b.HEIC", "notes.txt"):
        (photos / "unlabeled" / name).write_bytes(b"")
    assert spec_of(config_of(photos)).description.endswith("statistics; not read: 3 other files (.heic, .txt)")


def test_folders_of_classes_alone_give_their_labels_too(tmp_path):
    for name in ("train", "plane"):
        for i in range(5):
            photograph(tmp_path / name / f"{i}.png", (9, 9, 9), i)
    data = load(tmp_path, test_fraction=0.2)
    assert data.class_names == ("plane", "train"), "a class may be called train"
    assert len(data.test_ids) == 2


def test_a_file_of_labels_is_in_the_place_of_the_folders(photos, tmp_path):
    rows = [("train/blue/blue_0.jpg", "sky"), ("unlabeled/00.jpg", "grass"), ("train/red/red_0.png", "")]
    rows += [("unlabeled/01.JPEG", "grass"), ("test/red/more/red_test_0.jpg", "sky"), ("unlabeled/02.png", "sky")]
    rows += [(f"test/{c}/more/{c}_test_{i}.{kind}", "sky") for c in COLORS for i, kind in enumerate(("jpg", "JPEG", "png"))]
    data = load(photos, labels=str(write_csv(tmp_path / "labels.csv", rows)))
    assert data.class_names == ("grass", "sky")
    given = {name: label for name, label in zip(data.train_ids, data.given_labels, strict=True) if label >= 0}
    assert given == {
        "train/blue/blue_0.jpg": 1,
        "unlabeled/00.jpg": 0,
        "unlabeled/01.JPEG": 0,
        "unlabeled/02.png": 1,
    }
    assert len(data.test_ids) == 9, "the folder test, as no column says otherwise"


def test_a_column_of_the_file_of_labels_says_which_are_test_images(photos, tmp_path):
    rows = [("unlabeled/00.jpg", "a", "train"), ("unlabeled/01.JPEG", "b", ""), ("unlabeled/02.png", "b", "test")]
    path = write_csv(tmp_path / "labels.csv", rows, header=("file", "label", "split"))
    data = load(photos, labels=str(path))
    assert data.test_ids == ["unlabeled/02.png"]
    assert data.class_names[data.test_labels[0]] == "b"
    assert len(data.train_ids) == 24 + 9 - 1


def test_the_classes_of_integers_are_in_their_order(photos, tmp_path):
    rows = [("unlabeled/00.jpg", "10"), ("unlabeled/01.JPEG", "9"), ("unlabeled/02.png", "2.0"), ("unlabeled/03.gif", "-1")]
    rows += [(f"unlabeled/{i:02d}.{kind}", label) for i, kind, label in ((6, "jpg", "10"), (7, "JPEG", "9"), (8, "png", "2"))]
    shutil.rmtree(photos / "test")
    data = load(photos, labels=str(write_csv(tmp_path / "labels.csv", rows)), test_fraction=0.5)
    assert data.class_names == ("2", "9", "10")
    assert (data.given_labels >= 0).sum() == 3
    assert data.given_labels[data.train_ids.index("unlabeled/03.gif")] == -1


def test_test_images_are_drawn_from_each_class_whatever_the_seed_and_stay_as_labels_come():
    labels = np.array([0] * 10 + [1] * 5 + [2] + [-1] * 4)
    ids = [f"image_{i}" for i in range(len(labels))]
    chosen = held_out(ids, labels, 0.4)
    assert np.bincount(labels[chosen], minlength=3).tolist() == [4, 2, 0], "the only image of a class is trained on"
    more = np.append(labels, 0)
    again = held_out([*ids, "image_new"], more, 0.4)
    assert (again[:-1] != chosen).sum() <= 1
    with pytest.raises(ValueError, match="takes no image of any class, as the largest has 10"):
        held_out(ids, labels, 0.01)


def test_the_file_of_a_named_set_gives_labels_in_place_of_drawn_ones(tmp_path):
    known = spec_of(Config()).load(None)
    rows = [(known.train_ids[row], (known.train_labels[row] + (row == 7)) % 10) for row in range(0, 4000, 7)] + [
        (known.train_ids[7], (known.train_labels[7] + 1) % 10)
    ]
    config = Config(labels=str(write_csv(tmp_path / "queue.csv", rows)))
    data = spec_of(config).load(None)
    np.testing.assert_array_equal(data.train_labels, known.train_labels)
    given = run_labels.training_labels(data, config, 10)
    assert np.flatnonzero(given >= 0).tolist() == list(range(0, 4000, 7))
    wrong = np.flatnonzero((given >= 0) & (given != known.train_labels))
    assert wrong.tolist() == [7], "given labels may differ from the known ones"
    assert run_labels.hidden_labels(data) is data.train_labels


def test_a_label_of_a_named_set_that_is_no_class_is_one_line(tmp_path):
    identifier = spec_of(Config()).load(None).train_ids[0]
    config = Config(labels=str(write_csv(tmp_path / "l.csv", [(identifier, "seven")])))
    with pytest.raises(ValueError, match="has a label that is no class: 'seven'; did you mean"):
        spec_of(config).load(None)


def test_statistics_are_those_of_the_pixels():
    images = np.random.default_rng(0).integers(0, 200, (7, 5, 4, 3)).astype(np.uint8)
    images[..., 1] = 9
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)))
    np.testing.assert_allclose(np.array(std)[[0, 2]], (images / 255).std((0, 1, 2))[[0, 2]])
    assert std[1] == 1 / 255, "it is divided by"


def npz(path, **changes):
    generator = np.random.default_rng(0)
    arrays = {
        "images": generator.integers(0, 256, (40, 20, 24, 3)).astype(np.uint8),
        "labels": np.where(np.arange(40) < 12, np.arange(40) % 3, -1),
        "test_images": generator.integers(0, 256, (5, 20, 24, 3)).astype(np.uint8),
        "test_labels": np.arange(5) % 3,
        "class_names": np.array(["ant", "bee", "fly"]),
    } | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def npz_config(path, **flags):
    return Config(dataset="npz", data_dir=str(path), translate=2, backbone="conv_small", **flags)


def test_more_images_without_labels_in_an_npz_file_are_trained_on(tmp_path):
    more = np.random.default_rng(1).integers(0, 256, (7, 20, 24, 3)).astype(np.uint8)
    config = npz_config(npz(tmp_path / "bugs.npz", unlabeled_images=more, notes=np.arange(3)))
    spec = spec_of(config)
    assert spec.num_train == 47
    assert spec.description.endswith("; not read: notes")
    data = spec.load(config.data_path)
    np.testing.assert_array_equal(data.train_images[40:], more)
    assert data.given_labels[40:].tolist() == [-1] * 7
    assert data.train_ids[39:41] == ["bugs_000039", "bugs_unlabeled_000000"]


def test_images_without_labels_of_another_shape_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"images are of shape \(20, 24, 3\), unlabeled_images of \(9, 9, 1\): make them one"):
        spec_of(npz_config(npz(tmp_path / "bugs.npz", unlabeled_images=np.zeros((2, 9, 9), np.uint8))))


def test_an_npz_file_is_a_data_set(tmp_path):
    config = npz_config(npz(tmp_path / "bugs.npz"))
    spec = spec_of(config)
    data = spec.load(config.data_path)
    assert (spec.image_shape, spec.num_classes, spec.num_train) == ((20, 24, 3), 3, 40)
    np.testing.assert_allclose(spec.mean, (data.train_images / 255).mean((0, 1, 2)))
    assert data.class_names == ("ant", "bee", "fly")
    assert data.train_ids[:2] == ["bugs_000000", "bugs_000001"]
    assert (data.given_labels >= 0).sum() == 12
    assert len(data.test_images) == 5


def test_an_npz_file_without_test_images_and_names_has_them_made(tmp_path):
    path = npz(tmp_path / "x.npz", test_images=None, test_labels=None, class_names=None)
    data = spec_of(npz_config(path, test_fraction=0.25)).load(path)
    assert data.class_names == ("0", "1", "2")
    assert (len(data.train_labels), sorted(data.test_labels)) == (37, [0, 1, 2])
    grey = npz(tmp_path / "grey.npz", images=np.zeros((40, 9, 9), np.uint8), test_images=np.zeros((5, 9, 9), np.uint8))
    assert spec_of(npz_config(grey)).image_shape == (9, 9, 1)


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint64", ">i2"])
def test_labels_of_an_npz_file_may_be_whole_numbers_of_any_kind(kind, tmp_path):
    labels = (np.arange(40) % 3).astype(kind)
    path = npz(tmp_path / "x.npz", labels=labels, test_labels=labels[:5], class_names=None)
    data = spec_of(npz_config(path)).load(path)
    assert (data.class_names, data.given_labels.dtype) == (("0", "1", "2"), np.int64)
    assert data.given_labels.tolist() == labels.tolist()


BAD_NPZ = {
    "no images": ({"images": None}, "holds labels, test_images, test_labels, class_names, and no images"),
    "floats": ({"images": np.zeros((40, 20, 24, 3))}, r"images is float64 .* must be uint8"),
    "labels of texts": ({"labels": np.array(["a"] * 40)}, r"labels is <U1 .* must be whole numbers"),
    "a label too few": ({"labels": np.zeros(39, int)}, r"of shape \(39,\), .* \(40,\), one an image"),
    "a label below -1": ({"labels": np.full(40, -2)}, "labels has -2"),
    "a class of no name": ({"class_names": np.array(["a", "-1", "c"])}, "a class must not be called '-1'"),
    "one class": ({"labels": np.zeros(40, int), "test_labels": np.zeros(5, int), "class_names": None}, "has 1 classes"),
    "too few names": ({"class_names": np.array(["a", "b"])}, "2 different names for 3 classes"),
    "other test images": ({"test_images": np.zeros((5, 9, 9, 3), np.uint8)}, "make them one"),
    "no test labels": ({"test_labels": None}, "holds test_images, and no test_labels"),
    "no test images": ({"test_images": None, "test_labels": None}, "has no test_images: give --test_fraction"),
    "no test image": ({"test_images": np.zeros((0, 20, 24, 3), np.uint8), "test_labels": np.zeros(0, int)}, "has no image"),
    "a test image without a class": ({"test_labels": np.array([0, 1, 2, -1, 0])}, "test_images has a label -1"),
    "255 for none": (
        {"labels": np.array([0, 1, 255, 255] * 10, np.uint8), "class_names": None},
        r"is 255, but 40 .* -1 for none",
    ),
    "far too many classes": ({"labels": np.array([0, 10**12] * 20), "class_names": None}, "1000000000000, but 40 "),
    "objects": ({"class_names": np.array(["a", None, "c"])}, "cannot be read as an .npz file: Object arrays"),
}


@pytest.mark.parametrize(("changes", "message"), BAD_NPZ.values(), ids=BAD_NPZ)
def test_an_npz_file_that_does_not_fit_together_is_one_line(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
        spec_of(npz_config(npz(tmp_path / "x.npz", **changes)))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"PK\3\4 no archive", b"hello"])
def test_what_is_no_npz_file_is_one_line(content, tmp_path):
    if content is not None:
        (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.npz\) cannot be read as an \.npz file: .*; change --data_dir"):
        spec_of(npz_config(tmp_path / "x.npz"))


FLAGS = {
    "split_file": ({"split_file": "x.txt"}, "brings its labels, so that split_file"),
    "num_labels": ({"num_labels": 50}, "brings its labels, so that num_labels"),
    "no data_dir": ({"data_dir": ""}, "needs --data_dir"),
    "cutout too large": ({"cutout": 66, "image_size": 64}, "cutout .66. must be at most the image's 64 pixels"),
    "two kinds of test images": ({"test_fraction": 0.3}, "has 9 already: leave it out"),
}


@pytest.mark.parametrize(("flags", "message"), FLAGS.values(), ids=FLAGS)
def test_flags_that_do_not_go_with_a_folder_are_one_line(flags, message, photos):
    with pytest.raises(ValueError, match=message):
        load(photos, **flags)


def test_flags_of_own_images_do_not_go_with_named_sets():
    for flags, message in (
        ({"test_fraction": 0.1}, "has test images, and test_fraction"),
        ({"image_size": 64}, "has images of one size"),
        ({"labels": "x.csv", "num_labels": 50}, "gives the labels, so that num_labels"),
        ({"labels": "x.csv", "split_file": "x"}, "gives the labels, so that split_file"),
    ):
        with pytest.raises(ValueError, match=message):
            Config(**flags)


def test_hashes_of_named_sets_stay_and_each_folder_is_a_run_of_its_own():
    assert Config().digest == Config(data_dir="/elsewhere").digest == Config(num_labels=100, image_size=224).digest
    assert config_of("/a").digest != config_of("/b").digest
    assert config_of("a").digest == config_of("./a").digest
    assert config_of("/b").differences(config_of("/a")) == ["--data_dir: /a -> /b"]
    assert config_of("/b").differences(config_of("/a"), unfinished=True) == [], "it knows its data by a fingerprint"


def test_photographs_of_a_named_set_can_be_seen_smaller(data_dir):
    config = Config(dataset="imagenette", data_dir=str(data_dir), image_size=64, translate=0)
    spec = spec_of(config)
    images = spec.load(data_dir).train_images
    assert spec.image_shape == (64, 64, 3)
    assert (images.size, images.resize) == (64, 73)
    assert images.central(tf.constant([0])).shape == (1, 64, 64, 3)


def command(folder, run_dir, *more):
    return [*TINY, "--dataset=folder", f"--data_dir={folder}", f"--run_dir={run_dir}", *more]


@pytest.fixture(scope="module")
def run_of_photos(tmp_path_factory):
    # Kinds for which there is a quicker decoder: the other takes a second to trace in each of the run's pipelines.
    folder = colored_folder(tmp_path_factory.mktemp("own") / "photos", kinds=("jpg", "JPEG", "png"))
    run_dir = folder.parent / "run"
    (folder / "unlabeled" / "broken\nname, \u00e9.jpg").write_bytes(b"no image")
    assert train.main(command(folder, run_dir, "--skip_bad_images")) == 0
    return folder, run_dir


def test_a_folder_is_trained_on_and_the_run_says_what_it_learned_from(run_of_photos):
    folder, run_dir = run_of_photos
    summary = json.loads((run_dir / "summary.json").read_text())
    assert (summary["num_labels"], summary["num_unlabeled"], summary["num_test"]) == (12, 12, 9)
    assert summary["class_names"] == list(NAMES)
    assert summary["pseudo_label_error_percent"] == {}, "the hidden labels are not known"
    assert run_labels.read_left_out(run_dir / "left_out.txt") == ["train unlabeled/broken\nname, \u00e9.jpg"]
    rows = read(run_dir)
    assert [row["split"] for row in rows] == ["train"] * 12 + ["test"] * 9
    assert all(row["file"].split("/")[1] == row["label"] for row in rows)
    assert not list(folder.rglob("r2d2_tf-*")), "nothing is written into somebody's folder"


def test_errors_cannot_be_measured_on_images_whose_class_is_unknown(photos, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("unlabeled/00.jpg\n")
    config = config_of(photos, evaluate_on=str(names))
    with pytest.raises(ValueError, match=r"evaluate_on \(.*names.txt\) names images whose class is not known"):
        run_labels.loaded(config, spec_of(config))


@pytest.mark.parametrize(("split", "count"), [("test", 9), ("labeled", 12)])
def test_the_network_of_a_folder_is_judged(split, count, run_of_photos, capsys):
    assert evaluate.main([f"--run_dir={run_of_photos[1]}", f"--split={split}"]) == 0
    assert f"{count} {'test images' if split == 'test' else 'labeled training images'}" in capsys.readouterr().out


def test_nobody_judges_by_images_whose_class_is_unknown(run_of_photos, capsys):
    assert evaluate.main([f"--run_dir={run_of_photos[1]}", "--split=unlabeled"]) == 2
    assert "data set folder has no unlabeled training images, by their hidden labels here" in capsys.readouterr().err


def test_the_labels_that_a_run_leaves_give_the_same_data_again(run_of_photos):
    folder, run_dir = run_of_photos
    by_folder, by_file = load(folder), load(folder, labels=str(run_dir / "labeled.csv"))
    assert by_file.class_names == by_folder.class_names
    np.testing.assert_array_equal(by_file.given_labels, by_folder.given_labels)
    assert by_file.test_ids == by_folder.test_ids


@pytest.mark.slow
def test_the_command_that_the_queue_prints_takes_the_new_labels_and_the_same_test_images(tmp_path, capsys):
    folder, run_dir = colored_folder(tmp_path / "photos", unlabeled=15), tmp_path / "a run"
    shutil.rmtree(folder / "test")
    assert train.main(command(folder, run_dir, "--label_noise=0.2", "--test_fraction=0.25")) == 0
    assert label_queue.main([f"--run_dir={run_dir}", "--count=3"]) == 0
    printed = shlex.split(capsys.readouterr().out.splitlines()[-1])
    with (run_dir / "queue.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    for line in lines:
        line["label"] = line["label"] or "red"
    write_csv(run_dir / "queue.csv", [line.values() for line in lines], header=lines[0])
    config = from_command_line(printed[3:])
    preflight.check_data(config)
    again = Experiment(config)
    found = {name: NAMES[label] for name, label in zip(again.data.train_ids, again.table.labels, strict=True) if label >= 0}
    learned = {line["file"]: line["label"] for line in read(run_dir) if line["split"] == "train"}
    assert found == learned | {line["file"]: "red" for line in lines[:3]}
    assert set(again.data.test_ids) == {line["file"] for line in read(run_dir) if line["split"] == "test"}


def read(run_dir):
    with (run_dir / "labeled.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("ending", pseudo_labels.WRITERS)
def test_pseudo_labels_of_a_folder_name_its_test_images_so_that_it_is_judged_as_before(ending, run_of_photos, tmp_path):
    folder, run_dir = run_of_photos
    before, path = load(folder), tmp_path / f"labels{ending}"
    assert pseudo_labels.main([f"--run_dir={run_dir}", f"--out={path}", "--soft", "--top_k=2"]) == 0
    for soft in (False, True):
        data = load(folder, labels=str(path), num_labels=0, soft_labels=soft)
        assert (data.train_ids, data.test_ids) == (before.train_ids, before.test_ids)
        np.testing.assert_array_equal(data.test_labels, before.test_labels)
        unlabeled = [name for name, label in zip(data.train_ids, data.given_labels, strict=True) if label < 0]
        assert unlabeled == ["unlabeled/broken\nname, \u00e9.jpg"], "the one that the run left out"
        known = before.given_labels >= 0
        np.testing.assert_array_equal(data.given_labels[known], before.given_labels[known])
        if soft:
            labeled = data.given_labels >= 0
            np.testing.assert_array_equal(data.given_probabilities[labeled].argmax(1), data.given_labels[labeled])


def test_a_finished_run_tells_that_its_images_have_changed(run_of_photos, capsys):
    folder, run_dir = run_of_photos
    arguments = command(folder, run_dir, "--skip_bad_images")
    assert train.main(arguments) == 0
    assert "changed" not in capsys.readouterr().err
    new = folder / "unlabeled" / "new.png"
    photograph(new, (1, 2, 3), 5)
    try:
        assert train.main(arguments) == 0
        out, error = capsys.readouterr()
        assert "finished already" in out
        assert "the images or their labels may have changed since: --new_run trains on what is there now" in error
    finally:
        new.unlink()


def test_a_folder_is_exported_with_its_classes_and_predicts_by_file_name(run_of_photos, tmp_path, capsys):
    folder, run_dir = run_of_photos
    flags = [f"--run_dir={run_dir}", "--format=tflite", f"--output_dir={tmp_path}", "--latency_rounds=0"]
    assert export_command.main(flags) == 0
    assert sorted(path.name for path in (tmp_path / "examples").iterdir()) == [f"true_class_{i}.jpg" for i in range(3)]
    capsys.readouterr()
    images = folder / "test" / "red" / "more"
    assert inference.main([f"--model={tmp_path / 'model.tflite'}", f"--images={images}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(path.name for path in images.iterdir())
    assert all(line.split()[1] in NAMES for line in lines)


def test_a_run_is_not_exported_with_other_classes_than_it_learned(run_of_photos, tmp_path, capsys):
    folder, run_dir = run_of_photos
    other = folder / "train" / "amber" / "a.png"
    photograph(other, (200, 200, 0), 3)
    try:
        assert export_command.main([f"--run_dir={run_dir}", f"--output_dir={tmp_path}"]) == 2
        assert "has the classes amber, blue, green, red, and the run in" in capsys.readouterr().err
    finally:
        shutil.rmtree(other.parent)


def test_what_was_found_unreadable_is_kept_outside_of_the_folder(photos, monkeypatch, tmp_path):
    from r2d2_tf.data import health, looking

    config = config_of(photos, image_size=32)
    health.checked(spec_of(config).load(None), spec_of(config))
    monkeypatch.setattr(looking, "_looked_at", None)
    health.checked(spec_of(config).load(None), spec_of(config))


@pytest.mark.parametrize(
    ("unlabeled", "flags", "message"),
    [
        (2, {}, r"batch_size \(16\) takes 12 unlabeled images a batch, .* only 2: lower --batch_size \(to 2 at most\)"),
        (0, {}, "there are no unlabeled images, and stage 2 learns from nothing else"),
        (12, {"backbone": "lenet", "image_size": 12}, r"backbone \(lenet\) does not fit images of 12x12 pixels"),
    ],
)
def test_what_cannot_be_trained_says_why(unlabeled, flags, message, tmp_path):
    config = config_of(
        colored_folder(tmp_path, unlabeled=unlabeled), **{"backbone": "conv_small", "image_size": 32, "batch_size": 16, **flags}
    )
    with pytest.raises(ValueError, match=message):
        Experiment(config)


def test_two_classes_one_label_in_one_of_them_and_ten_unlabeled_images_are_trained_on(tmp_path):
    for i in range(20):
        photograph(tmp_path / "p" / "train" / "many" / f"{i}.png", (200, 30, 30), i)
        photograph(tmp_path / "p" / "test" / ("many" if i else "one") / f"{i}.png", (200, 30, 30 + 170 * (not i)), 50 + i)
    photograph(tmp_path / "p" / "train" / "one" / "x.png", (30, 30, 200), 99)
    for i in range(10):
        photograph(tmp_path / "p" / "unlabeled" / f"{i}.png", (200, 30, 30), 70 + i)
    run_dir = tmp_path / "run"
    # 24 labeled images a batch, of 21.
    flags = ["--batch_size=32", "--labeled_to_unlabeled=3:1", "--stop_on_collapse", "--image_size=16", "--image_copy=memory"]
    assert train.main(command(tmp_path / "p", run_dir, *flags)) == 0
    summary = json.loads((run_dir / "summary.json").read_text())
    assert (summary["num_labels"], summary["num_unlabeled"]) == (21, 10)


@pytest.mark.slow
def test_the_photographs_of_imagenette_are_trained_on_from_a_folder_killed_resumed_and_exported(tmp_path):
    folder = imagenette_folder(tmp_path / "photos")
    flags = command(folder, tmp_path / "run", "--backbone=conv_small", "--deterministic", "--checkpoint_minutes=0", "--flip")
    undisturbed = [flag for flag in flags if "run_dir" not in flag] + [f"--run_dir={tmp_path / 'whole'}"]
    done = subprocess.run([sys.executable, "-m", "r2d2_tf.train", *undisturbed], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    # Killed once it has a checkpoint.
    with subprocess.Popen([sys.executable, "-m", "r2d2_tf.train", *flags], cwd=ROOT) as process:
        while process.poll() is None and len(list((tmp_path / "run").glob("checkpoints/*.npz"))) < 2:
            pass
        process.kill()
    assert not (tmp_path / "run" / "summary.json").exists()
    subprocess.run([sys.executable, "-m", "r2d2_tf.train", *flags], cwd=ROOT, check=True)
    tables = [np.load(tmp_path / name / "pseudo_labels.npz", allow_pickle=False) for name in ("whole", "run")]
    np.testing.assert_array_equal(tables[0]["pseudo_logits"], tables[1]["pseudo_logits"])
    np.testing.assert_array_equal(tables[0]["ids"], tables[1]["ids"])
    assert export_command.main([f"--run_dir={tmp_path / 'run'}", "--format=saved_model", "--latency_rounds=0"]) == 0
    model = inference.load(tmp_path / "run" / "export" / "saved_model")
    names, resize, _ = inference.metadata(tmp_path / "run" / "export" / "saved_model")
    images = sorted((folder / "test").rglob("*.jpg"))[:8]
    pixels = np.stack([inference.read_image(path, (32, 32, 3), resize) for path in images])
    from_pixels = model.predict(pixels)
    loaded = tf.saved_model.load(str(tmp_path / "run" / "export" / "saved_model" / "1"))
    from_bytes = loaded.signatures["image_bytes"](tf.constant([path.read_bytes() for path in images]))
    assert names == sorted(path.name for path in (folder / "train").iterdir())
    np.testing.assert_allclose(from_pixels, from_bytes["probabilities"], atol=0.05)


@pytest.mark.slow
def test_the_config_for_photographs_makes_a_step_of_each_stage(photos, tmp_path):
    flags = [f"--flagfile={ROOT / 'configs' / 'photographs_cpu.cfg'}", f"--data_dir={photos}", f"--run_dir={tmp_path / 'run'}"]
    flags += ["--max_steps=1", "--supervised_epochs=1", "--rounds=1:0.01", "--batch_size=8", "--nostop_on_collapse"]
    assert train.main(flags) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert list(summary["test_error_percent"]) == ["stage_1", "stage_2", "stage_3"]


def test_ids_are_paths_and_stay_those_of_their_files_when_some_are_left_out(photos):
    from r2d2_tf.data import health

    (photos / "test" / "blue" / "more" / "bad one.jpg").write_bytes(b"x")
    data, config = load(photos), config_of(photos)
    with pytest.raises(ValueError, match=r"1 images cannot be read \(test test/blue/more/bad one.jpg\): mend or remove these"):
        health.checked(data, spec_of(config))
    healthy, names = health.checked(data, spec_of(config), skip_bad_images=True)
    assert names == ["test test/blue/more/bad one.jpg"]
    assert len(healthy.test_ids) == len(healthy.test_images) == 9
    for row, name in enumerate(healthy.test_ids):
        assert healthy.test_images.read(row) == (photos / name).read_bytes()
    assert dataclasses.replace(healthy).given_labels is not None


def test_a_grey_image_among_colored_ones_is_one(photos):
    Image.new("L", (40, 40), 77).save(photos / "unlabeled" / "grey.png")
    data = load(photos, image_size=32)
    row = data.train_ids.index("unlabeled/grey.png")
    np.testing.assert_array_equal(data.train_images.central(tf.constant([row]))[0], np.full((32, 32, 3), 77))
