"""Decoded copies of photographs: the pixels are those that come without one, whatever becomes of the files."""

import dataclasses
import errno
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from own_photographs import colored_folder, photograph
from test_photographs import crops

from r2d2_tf.config.config import Config
from r2d2_tf.data import health, photograph_copy, pixel_store
from r2d2_tf.data.decoding import central_crop, decode, random_crop, shrunk
from r2d2_tf.data.photograph_copy import keys_of
from r2d2_tf.runs.dataset import spec_of

SIDE = 12
"""Of the squares that are seen; the tests' pictures are larger than what crops are cut out of."""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("R2D2_TF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path, cache):
    return colored_folder(tmp_path / "photos", labeled=1, unlabeled=2, test=1)


def loaded(folder, copy="file", **flags):
    config = Config(
        dataset="folder", data_dir=str(folder), translate=0, image_size=SIDE, crop_scale=0.5, image_copy=copy, **flags
    )
    spec = spec_of(config)
    return health.checked(spec.load(config.data_path), spec, copy=copy)[0]


def rows_of(photographs):
    return list(range(len(photographs)))


@pytest.mark.parametrize("where", ["file", "memory"])
def test_pixels_of_a_copy_are_those_that_come_without_one(where, photos):
    data = loaded(photos, where)
    for copied in (data.train_images, data.test_images):
        rows = tf.constant(rows_of(copied), tf.int64)
        bare = dataclasses.replace(copied, copy=None)
        assert copied.copy is not None
        np.testing.assert_array_equal(copied.central(rows), bare.central(rows))
    copied = data.train_images[::-1]
    np.testing.assert_array_equal(
        crops(copied, rows_of(copied)), crops(dataclasses.replace(copied, copy=None), rows_of(copied))
    )


def test_evaluation_sees_the_whole_photograph_and_crops_are_cut_out_of_a_shrunk_one(photos):
    images = loaded(photos).train_images
    whole = decode(tf.constant(images.read(1)))
    np.testing.assert_array_equal(images.central(tf.constant([1]))[0], central_crop(whole, images.resize, SIDE))
    seed = tf.random.split(tf.constant([1, 0]), 1)[0]
    np.testing.assert_array_equal(crops(images, [1])[0], random_crop(shrunk(whole, images.crop_side), 0.1, SIDE, seed))
    assert images.crop_side == 17
    assert min(shrunk(whole, 17).shape[:2]) == 17
    assert min(shrunk(whole, 1000).shape[:2]) == min(whole.shape[:2]), "small ones keep their own pixels"


def decoded_in(monkeypatch, load):
    """What a call returns, and how many images are decoded for a copy meanwhile."""
    count = []
    own = pixel_store.InFile.add
    monkeypatch.setattr(pixel_store.InFile, "add", lambda *args: (count.append(1), own(*args))[1])
    data = load()
    monkeypatch.setattr(pixel_store.InFile, "add", own)
    return data, len(count)


def test_a_later_run_reads_what_is_there_and_decodes_what_changed_alone(photos, monkeypatch):
    (_, first), (_, again) = (decoded_in(monkeypatch, lambda: loaded(photos)) for _ in range(2))
    assert (first, again) == (8, 0)
    name = photos / "train" / "red" / "red_0.png"
    photograph(name, (9, 200, 9), 77)
    photograph(photos / "unlabeled" / "new.png", (200, 9, 9), 78)
    data, changed = decoded_in(monkeypatch, lambda: loaded(photos))
    assert changed == 2
    row = data.train_ids.index("train/red/red_0.png")
    seen = data.train_images.central(tf.constant([row]))[0]
    np.testing.assert_array_equal(seen, central_crop(decode(tf.constant(name.read_bytes())), data.train_images.resize, SIDE))


def test_a_process_that_is_killed_while_it_writes_is_gone_on_from(photos, cache, monkeypatch):
    monkeypatch.setattr(pixel_store, "_SAVED_EVERY", 0.0)
    own, left = pixel_store.InFile.add, [3]

    def dies(*args):
        own(*args)
        left[0] -= 1
        if left[0] == 0:
            # As from a kill: what the block of `writing` does at its end is not done.
            monkeypatch.setattr(pixel_store.InFile, "_save", lambda store: None)
            raise KeyboardInterrupt

    monkeypatch.setattr(pixel_store.InFile, "add", dies)
    with pytest.raises(KeyboardInterrupt):
        loaded(photos)
    monkeypatch.undo()
    monkeypatch.setenv("R2D2_TF_CACHE", str(cache))
    with next(cache.glob("*.bin")).open("ab") as file:
        file.write(b"half of an im")
    data, made = decoded_in(monkeypatch, lambda: loaded(photos))
    assert made < 8
    rows = tf.constant(rows_of(data.train_images), tf.int64)
    bare = dataclasses.replace(data.train_images, copy=None)
    np.testing.assert_array_equal(data.train_images.central(rows), bare.central(rows))


def test_on_a_full_disk_there_is_a_warning_and_no_copy(photos, cache, monkeypatch, capsys):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pixel_store.InFile, "add", full)
    data = loaded(photos)
    assert data.train_images.copy is None
    assert not list(cache.glob("*.bin")), "what there was would fill the disk"
    assert "no decoded copy of the photographs is kept" in capsys.readouterr().err
    assert crops(data.train_images, [0]).shape == (1, SIDE, SIDE, 3)


def test_without_room_on_the_disk_it_is_kept_in_memory_and_without_that_nowhere(photos, cache, monkeypatch, capsys):
    monkeypatch.setattr(photograph_copy.shutil, "disk_usage", lambda path: type("Disk", (), {"free": 5000}))
    assert loaded(photos, "auto").train_images.copy is not None
    assert not list(cache.glob("*.bin"))
    assert "in memory" in capsys.readouterr().out
    monkeypatch.setattr(photograph_copy, "available_memory", lambda: (6000, "on this machine"))
    assert loaded(photos, "auto").train_images.copy is None
    err = capsys.readouterr().err
    assert "are more than half of the 4.9 KiB that are free in" in err
    assert "are more than half of the 5.9 KiB of memory available on this machine" in err


def test_a_damaged_index_or_file_is_begun_anew(photos, cache):
    loaded(photos)
    path = next(cache.glob("*pixels*.bin"))
    whole = path.read_bytes()
    begun = ((path, whole[:100]), (path, whole[:16]), (path, b"x"), (path, b""), (path, b"x" * len(whole)))
    for damaged, content in (*begun, (path.with_suffix(".npz"), b"PK")):
        damaged.write_bytes(content)
        data = loaded(photos)
        rows = tf.constant(rows_of(data.train_images), tf.int64)
        bare = dataclasses.replace(data.train_images, copy=None)
        np.testing.assert_array_equal(data.train_images.central(rows), bare.central(rows))


def test_a_copy_that_is_open_outlives_a_new_one(photos, cache):
    data = loaded(photos)
    rows = tf.constant(rows_of(data.train_images), tf.int64)
    before = data.train_images.central(rows)
    for path in photos.rglob("*.*"):
        os.utime(path, (1, 1))
    loaded(photos)
    loaded(photos, image_view="stored")
    np.testing.assert_array_equal(data.train_images.central(rows), before)


def test_images_that_cannot_be_decoded_have_no_copy_and_are_left_out(photos):
    (photos / "unlabeled" / "broken.jpg").write_bytes(b"\xff\xd8\xff no")
    with pytest.raises(ValueError, match="1 images cannot be read"):
        loaded(photos)
    config = Config(dataset="folder", data_dir=str(photos), translate=0, image_size=SIDE, image_copy="file")
    spec = spec_of(config)
    for skipped in (None, ["train unlabeled/broken.jpg"]):
        data, _ = health.checked(
            spec.load(config.data_path), spec, skip_bad_images=True, skipped=skipped, copy=config.image_copy
        )
        assert len(data.train_images) == 5
        assert (data.train_images.copy.begin > 0).all()


def test_keys_tell_stretches_and_versions_of_files_apart(photos):
    images = loaded(photos, "none").train_images
    keys = keys_of(images)
    assert len(set(keys)) == len(keys)
    os.utime(Path(images.files[0]), (5, 5))
    assert [a == b for a, b in zip(keys, keys_of(images), strict=True)] == [False] + [True] * (len(keys) - 1)


def test_where_a_copy_lies_changes_no_result_and_whether_there_is_one_does():
    none, *kept = (Config(dataset="folder", data_dir="x", image_copy=copy) for copy in ("none", "auto", "file", "memory"))
    assert len({config.digest for config in kept}) == 1
    assert kept[0].digest != none.digest == Config(dataset="folder", data_dir="x").digest
    assert kept[1].differences(kept[2]) == []
    assert kept[1].differences(none) == ["--image_copy: none -> auto"]


def test_small_images_are_trained_on_as_without_the_flag(tmp_path, cache):
    folder = colored_folder(tmp_path / "small", labeled=1, unlabeled=2, test=1)
    config = Config(dataset="folder", data_dir=str(folder), translate=0, image_size=32, crop_scale=0.1, image_copy="file")
    spec = spec_of(config)
    copied = health.checked(spec.load(config.data_path), spec, copy="file")[0].train_images
    assert copied.crop_side == 64
    bare = dataclasses.replace(copied, copy=None, crop_side=0)
    np.testing.assert_array_equal(crops(copied, rows_of(copied)), crops(bare, rows_of(bare)))
