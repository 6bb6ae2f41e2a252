"""Folders as people have them: what is a class, what a part, and what is passed over."""

import contextlib
import io
import unicodedata

import numpy as np
import pytest
from own_photographs import photograph
from test_own_bad_input import assert_refused, config_of

from r2d2_tf.data.readers import file_search
from r2d2_tf.recipes import inputs
from r2d2_tf.runs.dataset import spec_of
from tools.check_data import __main__ as check_data


def images(root, counts, kind="png"):
    """A picture for each of the counted in the folders."""
    for number, (folder, count) in enumerate(counts.items()):
        for i in range(count):
            photograph(root / folder / f"{number}_{i}.{kind}", (40 * number % 256, 90, 200), 50 * number + i)
    return root


def loaded(folder, **flags):
    return spec_of(config_of(folder, **flags)).load(None)


def checked(*flags):
    """Exit code and output of tools.check_data."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = check_data.main([*flags, "--sheet="])
    return code, out.getvalue()


# Folders of classes without an image.


@pytest.fixture
def lost(tmp_path):
    root = images(tmp_path / "photos", {"cat": 5, "dog": 5, "frog": 5, "unlabeled": 4})
    for path in (root / "frog").iterdir():
        path.rename(path.with_suffix(".jfif"))
    (root / "bird").mkdir()
    for i in range(8):
        (root / "bird" / f"IMG_{i}.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (root / "owl").mkdir()
    return root


def test_folders_of_classes_that_give_no_image_are_named(lost):
    spec = spec_of(config_of(lost, test_fraction=0.25))
    assert spec.lost_classes == ("bird: 8 files *.heic, none of which is read", "owl: empty")
    assert "no image of a class: bird: 8 files *.heic, none of which is read; owl: empty" in spec.all_remarks
    assert spec.load(None).class_names == ("cat", "dog", "frog")
    code, out = checked(f"--data_dir={lost}")
    assert code == 1
    assert "bird: 8 files *.heic, none of which is read" in out
    assert "owl: empty" in out


def test_folders_without_an_image_are_named_in_a_part_and_deep_below_but_are_no_classes_of_a_file_of_labels(lost, tmp_path):
    root = images(tmp_path / "parted", {"train/cat": 2, "train/dog": 2, "test/cat": 1, "test/dog": 1})
    (root / "train" / "bird" / "more").mkdir(parents=True)
    (root / "train" / "bird" / "more" / "a.tiff").write_bytes(b"x")
    (root / "train" / "bird" / "b").write_bytes(b"x")
    (root / "train" / "unlabeled").mkdir()
    (root / "notes").mkdir()
    assert spec_of(config_of(root)).lost_classes == ("train/bird: 1 files *, 1 files *.tiff, none of which is read",)
    (tmp_path / "l.csv").write_text("file,label\n" + "".join(f"cat/0_{i}.png,{'ab'[i % 2]}\n" for i in range(5)))
    assert spec_of(config_of(lost, labels=str(tmp_path / "l.csv"), test_fraction=0.4)).lost_classes == ()


@pytest.mark.parametrize("part", ["test", "unlabeled"])
def test_a_part_without_an_image_is_named(part, tmp_path):
    root = images(tmp_path, {"train/cat": 4, "train/dog": 4})
    (root / part / "inner").mkdir(parents=True)
    (root / part / "inner" / "a.heic").write_bytes(b"x")
    spec = spec_of(config_of(root, test_fraction=0.25))
    assert spec.lost_classes == (f"{part}: 1 files *.heic, none of which is read",)


def test_a_class_of_test_images_in_other_capitals_is_told(tmp_path):
    root = images(tmp_path, {"train/cat": 2, "train/dog": 2, "test/Cat": 2, "test/dog": 2})
    assert_refused(config_of(root), "the class 'Cat' has test images and no labeled training image", "did you mean 'cat'?")


def test_a_single_class_left_says_which_were_lost(lost):
    for name in ("dog", "frog"):
        for path in (lost / name).iterdir():
            path.unlink()
    assert_refused(
        config_of(lost, test_fraction=0.25), "one class alone (cat)", "without an image bird: 8 files *.heic", "owl: "
    )


def test_an_archive_that_was_unpacked_into_a_folder_of_its_own_is_pointed_out(tmp_path):
    images(tmp_path / "photos" / "archive", {"cat": 2, "dog": 2})
    assert_refused(config_of(tmp_path / "photos"), "one class alone", f"--data_dir={tmp_path / 'photos' / 'archive'}?")


def test_folders_of_systems_are_passed_over_and_told(tmp_path):
    root = images(tmp_path / "photos", {"cat": 3, "dog": 3, "unlabeled": 2})
    passed = (
        "@eaDir",
        ".ipynb_checkpoints",
        "$RECYCLE.BIN",
        "lost+found",
        "#recycle",
        ".AppleDouble",
        "System Volume Information",
    )
    for name in passed:
        images(root, {name: 1, f"cat/{name}": 1})
    (root / "cat" / "Thumbs.db").write_bytes(b"x")
    spec = spec_of(config_of(root, test_fraction=0.34))
    assert (spec.num_classes, spec.num_train, spec.lost_classes) == (2, 6, ())
    assert all(name in spec.description for name in passed)
    code, out = checked(f"--data_dir={root}")
    assert code == 0
    assert "Not looked at: 1 files *.db, 2 folders #recycle, 2 folders $RECYCLE.BIN" in out


# Parts.

TAKEN = {
    "training_set, test_set": ("training_set", "test_set"),
    "a folder of its own name in each": ("seg_train/seg_train", "seg_test/seg_test"),
    "train_images, TestImages": ("train_images", "TestImages"),
    "words before": ("cub200-train", "cub200-test"),
    "Training, Testing": ("Training", "Testing"),
    "images/ between": ("train/images", "test/images"),
    "one word": ("trainset", "testset1"),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_parts_are_taken_where_it_is_clear_which_is_which(kind, tmp_path):
    train, test = TAKEN[kind]
    counts = {f"{train}/cats": 4, f"{train}/dogs": 4, f"{test}/cats": 2, f"{test}/dogs": 2, "unlabelled images": 3}
    spec = spec_of(config_of(images(tmp_path, counts)))
    data = spec.load(None)
    assert data.class_names == ("cats", "dogs")
    assert np.bincount(data.given_labels[data.given_labels >= 0]).tolist() == [4, 4]
    assert (np.bincount(data.test_labels).tolist(), (data.given_labels < 0).sum()) == ([2, 2], 3)
    assert f"{test.partition('/')[0]} for test" in " ".join(spec.remarks) or test.startswith("test/")


REFUSED = {
    "images of validation without classes": ({"train/n01": 4, "train/n02": 4, "val/images": 4}, ("'val'",)),
    "validation in one folder": ({"train/n01": 4, "train/n02": 4, "val": 4}, ("'val'",)),
    "a third part": (
        {"seg_train/seg_train/sea": 3, "seg_train/seg_train/wood": 3, "seg_test/seg_test/sea": 2, "seg_pred/seg_pred": 3},
        ("seg_train", "seg_test", "rename 'seg_pred'"),
    ),
    "three parts": ({f"{part}/{name}": 2 for part in ("train", "valid", "test") for name in "ab"}, ("rename 'valid'",)),
    "parts without names": ({f"{part}/{name}": 2 for part in ("A", "B") for name in ("cat", "dog")}, ("'A'", "'B'")),
    "folds": ({f"fold{part}/{name}": 2 for part in (1, 2, 3) for name in ("cat", "dog")}, ("'fold1'", "'fold2', 'fold3'")),
    "two of training": ({f"{part}/{name}": 2 for part in ("train1", "train2", "test") for name in "ab"}, ("train1", "train2")),
    "classes and parts in one name": (
        {f"{name}_{part}": 2 for part in ("train", "test") for name in "ab"},
        ("a_train", "b_test"),
    ),
    "train and more in one folder": ({"train/a": 2, "train/b": 2, "extra": 3}, ("rename 'extra'",)),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_parts_are_refused_where_it_is_not_clear_and_never_classes(kind, tmp_path):
    counts, parts = REFUSED[kind]
    root = images(tmp_path, counts)
    assert_refused(config_of(root, test_fraction=0.25), "is a part and no class", "train, test or unlabeled", *parts)
    with pytest.raises(ValueError, match="is a part and no class"):
        spec_of(config_of(root))


def test_with_a_file_of_labels_no_folder_need_be_clear(tmp_path):
    root = images(tmp_path / "photos", REFUSED["folds"][0])
    names = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.png"))]
    (tmp_path / "l.csv").write_text("file,label\n" + "".join(f"{name},{name.split('/')[1]}\n" for name in names))
    assert loaded(root, labels=str(tmp_path / "l.csv"), test_fraction=0.5).class_names == ("cat", "dog")


CLASSES = {
    "one folder of a name in each": {"n01/images": 3, "n02/images": 3},
    "a class that is named so": {"train/steam": 1, "train": 1, "car": 3},
    "words that begin so": {"trainers/new": 3, "testudo": 3, "validators": 3},
    "unlabeled images by class": {"cat": 3, "dog": 3, "unlabeled/cat": 2, "unlabeled/dog": 2},
}


@pytest.mark.parametrize("kind", CLASSES)
def test_what_is_no_part_stays_a_class(kind, tmp_path):
    data = loaded(images(tmp_path, CLASSES[kind]), test_fraction=0.5)
    assert set(data.class_names) == {name.partition("/")[0] for name in CLASSES[kind]} - {"unlabeled"}


@pytest.mark.parametrize(
    "name",
    [
        "Unlabeled",
        "unlabelled",
        "unlabeled_images",
        "un-labelled",
        "unsup",
        "unsupervised",
        "no_label",
        "NoLabels",
        "train_unlabeled",
        "without labels",
    ],
)
def test_other_names_of_unlabeled_images_are_known(name, tmp_path):
    data = loaded(images(tmp_path, {"cat": 3, "dog": 3, name: 4}), test_fraction=0.34)
    assert data.class_names == ("cat", "dog")
    assert (data.given_labels < 0).sum() == 4


@pytest.mark.parametrize("name", ["unknown", "none", "unsorted"])
def test_names_that_may_mean_unlabeled_are_asked_about(name, tmp_path):
    spec = spec_of(config_of(images(tmp_path, {"cat": 3, "dog": 3, name: 4}), test_fraction=0.34))
    assert spec.num_classes == 3
    assert f"is {name!r} a class? Images without a label go into unlabeled/" in " ".join(spec.remarks)


# Names.


def test_names_that_are_composed_in_two_ways_are_one_class(tmp_path):
    counts = {"train/caf\u00e9": 6, "train/th\u00e9": 6, "train/eau": 6, "unlabeled": 8}
    counts |= {f"test/{unicodedata.normalize('NFD', name)}": 3 for name in ("caf\u00e9", "th\u00e9", "eau")}
    data = loaded(images(tmp_path / "photos", counts))
    assert data.class_names == ("caf\u00e9", "eau", "th\u00e9")
    assert np.bincount(data.test_labels).tolist() == [3, 3, 3]
    names = sorted(path.name for path in (tmp_path / "photos" / "unlabeled").iterdir())
    labels = ["caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9"), "eau"]
    rows = [f"unlabeled/{name},{labels[i % 3]},{'test' if i > 5 else 'train'}\n" for i, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text(f"file,label,split\n{''.join(rows)}", encoding="utf-8")
    assert loaded(tmp_path / "photos", labels=str(tmp_path / "labels.csv")).class_names == ("caf\u00e9", "eau")


def test_a_name_that_is_composed_in_one_way_stays_as_it_is(tmp_path):
    name = unicodedata.normalize("NFD", "caf\u00e9")
    assert name in loaded(images(tmp_path, {name: 2, "eau": 2}), test_fraction=0.5).class_names


# Few labels.


def test_two_labels_a_class_are_looked_at_and_half_of_them_proposed_for_testing(tmp_path):
    root = images(tmp_path / "photos", {**{f"class_{c}": 2 for c in range(5)}, "unlabeled": 12})
    code, out = checked(f"--data_dir={root}", f"--config_out={tmp_path / 'my.cfg'}")
    assert code == 0
    assert "22 images, 5 classes" in out
    assert "no test images can be drawn with --test_fraction=0.2" in out
    assert "--test_fraction=0.5 draws some" in out
    assert "--test_fraction=0.5" in (tmp_path / "my.cfg").read_text()
    assert_refused(config_of(root, test_fraction=0.2), "test_fraction (0.2) takes no image", "--test_fraction=0.5")


def test_one_label_in_some_classes_leaves_these_without_a_test_image_and_says_so(tmp_path):
    root = images(tmp_path, {"a": 2, "b": 1, "c": 3, "unlabeled": 12})
    spec = spec_of(config_of(root, test_fraction=0.5))
    assert "1 of 3 classes have too few labels to give a test image (b): label more" in spec.remarks
    assert np.bincount(spec.load(None).test_labels).tolist() == [1, 0, 2]


def test_one_label_a_class_is_looked_at_without_test_images(tmp_path):
    code, out = checked(f"--data_dir={images(tmp_path, {'a': 1, 'b': 1, 'unlabeled': 6})}")
    assert code == 1
    assert "2 labeled + 6 unlabeled to train on, 0 to test on" in out
    assert "label two of each class and give --test_fraction=0.5, or make a folder test" in out


def test_three_images_of_which_each_is_a_class_are_looked_at_and_refused_in_one_line(tmp_path):
    # dotnet/machinelearning-modelbuilder#796: "Metadata KeyValues does not exist".
    root = images(tmp_path, {"a": 1, "b": 1, "c": 1})
    code, out = checked(f"--data_dir={root}")
    assert code == 1
    assert "3 labeled + 0 unlabeled to train on, 0 to test on" in out
    assert "TOO FEW LABELS: no test images can be drawn with --test_fraction=0.2" in out
    assert_refused(config_of(root, test_fraction=0.2), "as the largest has 1 labeled ones: label more")


def test_every_class_gives_its_test_images_whatever_its_files_are_called(tmp_path):
    # googlecodelabs/tensorflow-for-poets-2#18: images that a hash of the name draws may be none of a class.
    data = loaded(images(tmp_path, {f"class_{c:02d}": 5 for c in range(30)}), test_fraction=0.2)
    assert np.bincount(data.test_labels).tolist() == [1] * 30
    assert np.bincount(data.train_labels).tolist() == [4] * 30


def test_a_rare_class_changes_nothing_for_the_others(tmp_path):
    # autogluon/autogluon#5806: one rare value, and the split of all gave up.
    root = images(tmp_path, {"a": 10, "b": 10, "rare": 1, "unlabeled": 8})
    spec = spec_of(config_of(root, test_fraction=0.2))
    assert np.bincount(spec.load(None).test_labels, minlength=3).tolist() == [2, 2, 0]
    assert any("1 of 3 classes have too few labels to give a test image (rare)" in remark for remark in spec.remarks)
    code, out = checked(f"--data_dir={root}")
    assert code == 0
    assert "The smallest class has 1 labeled image: label more of it before anything else." in out


def test_a_share_that_is_less_than_an_image_is_answered_with_one_that_is_not(tmp_path):
    # keras-team/keras#15047 and #16661: a validation part without an image is an error of the decoder.
    root = images(tmp_path, {"a": 4, "b": 4, "unlabeled": 8})
    code, out = checked(f"--data_dir={root}", "--test_fraction=0.1")
    assert code == 0
    assert "no test images can be drawn with --test_fraction=0.1" in out
    assert "--test_fraction=0.2 draws some" in out
    assert_refused(config_of(root, test_fraction=0.1), "test_fraction (0.1) takes no image of any class, as the largest has 4")


def test_a_folder_is_looked_through_once_whatever_shares_are_tried(tmp_path, monkeypatch):
    looks = []
    own = file_search.find_images
    monkeypatch.setattr(inputs, "find_images", lambda root: (looks.append(root), own(root))[1])
    monkeypatch.setattr("r2d2_tf.data.readers.folder.find_images", lambda root: (looks.append(root), own(root))[1])
    checked(f"--data_dir={images(tmp_path, {'a': 1, 'b': 1, 'unlabeled': 6})}")
    assert looks == [tmp_path]


def test_where_no_image_is_unlabeled_that_is_said_and_where_such_images_lie(tmp_path):
    root = images(tmp_path / "photos" / "train", {"cat": 4, "dog": 4})
    assert (
        "no image is unlabeled, so the labels alone are learned from"
        in spec_of(config_of(root, test_fraction=0.25)).remarks[-1]
    )
    beside = images(root.parent, {"unlabeled": 4})
    words = spec_of(config_of(root, test_fraction=0.25)).remarks[-1]
    assert f"{beside / 'unlabeled'} lies beside: did you mean --data_dir={beside}?" in words
    assert not any("no image is unlabeled" in remark for remark in spec_of(config_of(beside, test_fraction=0.25)).remarks)


def test_a_folder_of_what_is_left_is_asked_about(tmp_path):
    root = images(tmp_path / "photos", {"cat": 6, "dog": 6, "rest": 20})
    spec = spec_of(config_of(root, test_fraction=0.2))
    assert any("is 'rest' a class? Images without a label go into unlabeled/" in remark for remark in spec.remarks)
