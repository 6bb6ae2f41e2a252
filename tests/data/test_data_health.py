import dataclasses
import io
import os

import numpy as np
import pytest
from PIL import Image
from test_photographs import encoded, smooth

from r2d2_tf import train
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.config.config import Config
from r2d2_tf.data import looking
from r2d2_tf.data.cache import FileCache
from r2d2_tf.data.datasets import DatasetSpec, ImageData
from r2d2_tf.data.health import check_classes_are_labeled, checked, fingerprint
from r2d2_tf.data.photographs import Photographs
from r2d2_tf.training.experiment import Experiment
from tools.reproduce import fake_data

SPEC = DatasetSpec("tiny", (2, 2, 1), 3, (0.5,), (0.2,), 6, load=lambda data_dir: digits())
PHOTOGRAPHS = dataclasses.replace(SPEC, image_shape=(24, 24, 3), photographs=True)


def digits(**changes):
    pixels = np.arange(9 * 4, dtype=np.uint8).reshape(9, 2, 2, 1)
    labels = np.arange(9) % 3
    data = ImageData(pixels[:6], labels[:6], [f"id_{row}" for row in range(6)], pixels[6:], labels[6:], ("a", "b", "c"))
    return dataclasses.replace(data, **changes)


def photographs(folder, count=9, bad=()):
    """Nine small photographs of six training and three test images; those of `bad` rows are noise in place of an image."""
    folder.mkdir(exist_ok=True)
    contents = [encoded(smooth(20 + row, 30, row), "JPEG") for row in range(count)]
    contents = [bytes([7]) * len(content) if row in bad else content for row, content in enumerate(contents)]
    path = folder / "images"
    path.write_bytes(b"".join(contents))
    lengths = np.array([len(content) for content in contents])
    images = Photographs((path,), np.zeros(count, np.int64), np.cumsum(lengths) - lengths, lengths, size=24, resize=28)
    return digits(train_images=images[np.arange(6)], test_images=images[np.arange(6, count)])


def test_healthy_data_passes_unchanged_and_nothing_is_printed(capsys, tmp_path):
    for data, spec in ((digits(), SPEC), (photographs(tmp_path), PHOTOGRAPHS)):
        assert checked(data, spec) == (data, [])
    assert capsys.readouterr().out == ""


LABELS = np.arange(6) % 3
SICK = {
    "an id twice": ({"train_ids": ["x", "y", "x", "y", "z", "w"]}, r"2 ids name more than one training image \(x, y\)"),
    "label too large": ({"train_labels": np.array([0, 1, 2, 3, 0, 9])}, r"2 train images .*'id_3' has 3.* 0 to 2"),
    "label below 0": ({"train_labels": np.array([0, 1, 2, -1, 0, 1])}, r"1 train images have a label out of range"),
    "test label too large": ({"test_labels": np.array([0, 1, 7])}, r"1 test images .*row 2 has 7"),
    "images of floats": ({"train_images": np.zeros((6, 2, 2, 1), np.float32)}, r"train images are float32 .* must be uint8"),
    "images too large": ({"test_images": np.zeros((3, 3, 2, 1), np.uint8)}, r"test images .* \(3, 2, 1\), .* \(2, 2, 1\)"),
    "images without channels": ({"train_images": np.zeros((6, 2, 2), np.uint8)}, r"train images are uint8 of shape \(2, 2\)"),
    "an image too few": ({"train_images": np.zeros((5, 2, 2, 1), np.uint8)}, "has 5 images, 6 labels, 6 ids"),
    "an id too few": ({"train_ids": ["x"]}, "has 6 images, 6 labels, 1 ids"),
    "a test label too few": ({"test_labels": np.zeros(2, int)}, "the test part has 3 images, 2 labels"),
    "a class too few": ({"class_names": ("a", "b")}, "names 2 classes in place of 3"),
}


@pytest.mark.parametrize(("changes", "message"), SICK.values(), ids=SICK)
def test_what_is_wrong_is_one_line_that_says_how_to_mend_it(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        checked(digits(**changes), SPEC)
    assert "\n" not in str(caught.value)
    assert "prepare" in str(caught.value)


def test_classes_without_a_labeled_image_are_named():
    check_classes_are_labeled(np.array([0, -1, 2, 1]), ("cat", "dog", "eel"))
    with pytest.raises(ValueError, match=r"2 of 3 classes have no labeled image \(cat, eel\).*--split_file"):
        check_classes_are_labeled(np.array([-1, 1, 1]), ("cat", "dog", "eel"))


def test_a_split_file_must_name_an_image_of_each_class(tmp_path):
    data = Experiment(Config()).data
    ids = [identifier for identifier, label in zip(data.train_ids, data.train_labels, strict=True) if label != 7]
    (tmp_path / "split.txt").write_text("\n".join(ids[::36]))
    with pytest.raises(ValueError, match=r"1 of 10 classes have no labeled image \(7\)"):
        Experiment(Config(split_file=str(tmp_path / "split.txt")))


def test_photographs_that_cannot_be_read_are_named_up_to_ten_with_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"^3 images cannot be read \(train id_1, train id_4, test 2\): .* --skip_bad_images$"):
        checked(photographs(tmp_path, bad=(1, 4, 8)), PHOTOGRAPHS)
    many = photographs(tmp_path, count=26, bad=range(6, 20))
    many = dataclasses.replace(many, test_labels=np.zeros(20, int))
    with pytest.raises(ValueError, match=r"14 images cannot be read \(test 0, .*test 9 and 4 more\)"):
        checked(many, PHOTOGRAPHS)


@pytest.mark.parametrize("damage", ["missing", "cut", "emptied"])
def test_a_file_that_is_missing_or_cut_short_makes_its_images_unreadable(damage, tmp_path):
    data = photographs(tmp_path)
    path = tmp_path / "images"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: -10 if damage == "cut" else 0])
    with pytest.raises(ValueError, match="1 images .*test 2" if damage == "cut" else "9 images"):
        checked(data, PHOTOGRAPHS)


def test_unreadable_photographs_are_left_out_of_images_labels_and_ids_alike(tmp_path, capsys):
    whole = photographs(tmp_path / "whole")
    data, skipped = checked(photographs(tmp_path / "bad", bad=(1, 4, 8)), PHOTOGRAPHS, skip_bad_images=True)
    assert skipped == ["train id_1", "train id_4", "test 2"]
    assert data.train_ids == ["id_0", "id_2", "id_3", "id_5"]
    assert data.train_labels.tolist() == [0, 2, 0, 2]
    assert data.test_labels.tolist() == [0, 1]
    assert [data.train_images.read(row) for row in range(4)] == [whole.train_images.read(row) for row in (0, 2, 3, 5)]
    assert [data.test_images.read(row) for row in range(2)] == [whole.test_images.read(row) for row in range(2)]
    assert capsys.readouterr().out == "left out 3 images that cannot be read: train id_1, train id_4, test 2\n"


def test_a_resumed_run_leaves_the_same_images_out_and_decodes_none(tmp_path, monkeypatch):
    data = photographs(tmp_path, bad=(1, 8))
    first, skipped = checked(data, PHOTOGRAPHS, skip_bad_images=True)
    monkeypatch.setattr(looking, "decoded_once", lambda encoded, **_: pytest.fail("decoded"))
    again, same = checked(data, PHOTOGRAPHS, skip_bad_images=True, skipped=skipped)
    assert same == skipped
    assert fingerprint(again) == fingerprint(first)
    assert checked(data, PHOTOGRAPHS, skipped=[]) == (data, [])
    with pytest.raises(ValueError, match="1 of the images that the run left out are not in the data set"):
        checked(data, PHOTOGRAPHS, skipped=["train id_99", "train id_1"])


def test_a_data_set_of_which_nothing_can_be_read_is_refused(tmp_path):
    with pytest.raises(ValueError, match="none of the test images can be read"):
        checked(photographs(tmp_path, bad=(6, 7, 8)), PHOTOGRAPHS, skip_bad_images=True)


def test_the_fingerprint_follows_ids_labels_and_pixels_and_is_written_in_16_digits():
    base = fingerprint(digits())
    assert len(base) == 16
    assert int(base, 16) >= 0
    assert fingerprint(digits()) == base
    pixels = digits().train_images.copy()
    pixels[5, 1, 1, 0] += 1
    changes = [{"train_images": pixels}, {"test_images": pixels[:3]}, {"train_labels": LABELS[::-1]}]
    changes += [{"test_labels": np.array([0, 1, 1])}, {"train_ids": ["id_0id_1", *(f"id_{row}" for row in range(2, 6)), ""]}]
    assert len({base, *(fingerprint(digits(**change)) for change in changes)}) == 6


def test_the_fingerprint_of_photographs_follows_lengths_and_not_their_folder(tmp_path):
    base = fingerprint(photographs(tmp_path / "here"))
    assert fingerprint(photographs(tmp_path / "there")) == base
    data = photographs(tmp_path / "here")
    longer = dataclasses.replace(data.train_images, length=data.train_images.length + np.eye(6, dtype=int)[0])
    assert fingerprint(dataclasses.replace(data, train_images=longer)) != base


@pytest.fixture(scope="module")
def damaged_imagenette(fake_set):
    """A generated Imagenette of the right size in which two training images and a test image are noise."""
    folder = fake_set("imagenette")
    for split, count in (("train", 2), ("validation", 1)):
        path = next(folder.rglob(f"*-{split}.tfrecord-*"))
        content, start = bytearray(path.read_bytes()), 0
        for _ in range(count):
            start = content.index(b"\xff\xd8\xff", start) if b"\xff\xd8\xff" in content else content.index(b"\x89PNG", start)
            content[start : start + 100] = bytes(100)
        path.write_bytes(content)
    return folder


def flags(folder, tmp_path):
    config = Config(dataset="imagenette", backbone="resnet18", num_labels=10)
    return [
        "--dataset=imagenette",
        "--backbone=resnet18",
        "--num_labels=10",
        *fake_data.trial_flags(config, folder),
        f"--run_dir={tmp_path / 'run'}",
    ]


def test_a_run_on_damaged_photographs_is_one_line_and_writes_nothing(damaged_imagenette, tmp_path, capsys):
    assert train.main(flags(damaged_imagenette, tmp_path)) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: 3 images cannot be read (train imagenette_train_")
    assert error.endswith("--skip_bad_images\n")
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_run_may_skip_damaged_photographs(damaged_imagenette, tmp_path):
    arguments = flags(damaged_imagenette, tmp_path)
    experiment = Experiment(from_command_line([*arguments, "--skip_bad_images"]))
    assert len(experiment.left_out) == 3
    assert (len(experiment.data.train_ids), len(experiment.data.test_labels)) == (48, 39)
    assert from_command_line(arguments).digest != experiment.config.digest, "it can change a result"


def kept(data):
    """Photographs of which is kept what was found: all of one file."""
    images = data.train_images
    whole = dataclasses.replace(images, cache=FileCache(images.files))
    return dataclasses.replace(data, train_images=whole, test_images=dataclasses.replace(data.test_images))


def test_only_the_first_run_on_a_copy_decodes_all_its_photographs(tmp_path, monkeypatch):
    data = kept(photographs(tmp_path, bad=(1, 4)))
    with pytest.raises(ValueError, match=r"^2 images cannot be read"):
        checked(data, PHOTOGRAPHS)
    decoded = []
    monkeypatch.setattr(looking, "decoded_once", lambda encoded, **_: decoded.append(encoded) or np.zeros((1, 1, 3)))
    _, skipped = checked(data, PHOTOGRAPHS, skip_bad_images=True)
    assert skipped == ["train id_1", "train id_4"]
    assert len(decoded) == 3, "the test images, of which nothing is kept"
    path = tmp_path / "images"
    os.utime(path, ns=(0, 12_345))
    assert checked(data, PHOTOGRAPHS)[1] == []
    assert len(decoded) == 12, "the file changed"


def test_another_tensorflow_decodes_all_again(tmp_path, monkeypatch):
    data = kept(photographs(tmp_path))
    checked(data, PHOTOGRAPHS)
    monkeypatch.setattr(looking.tf, "__version__", "another")
    monkeypatch.setattr(looking, "decoded_once", lambda encoded, **_: np.zeros((0, 0, 3)))
    with pytest.raises(ValueError, match=r"^9 images cannot be read"):
        checked(data, PHOTOGRAPHS)


def test_of_a_disk_that_failed_nothing_is_kept(tmp_path, monkeypatch):
    data, read = kept(photographs(tmp_path)), Photographs.read

    def fail(self, row):
        if row == 2:
            raise OSError("Input/output error")
        return read(self, row)

    monkeypatch.setattr(Photographs, "read", fail)
    with pytest.raises(ValueError, match=r"images cannot be read"):
        checked(data, PHOTOGRAPHS)
    monkeypatch.setattr(Photographs, "read", read)
    assert checked(data, PHOTOGRAPHS) == (data, [])


def with_content(data, row, content):
    """The data with another content of a training image."""
    path = data.train_images.files[0].with_name("another")
    path.write_bytes(content)
    images = data.train_images
    places = {"file_of_row": images.file_of_row, "offset": images.offset, "length": images.length}
    changed = {name: np.where(np.arange(6) == row, new, places[name]) for name, new in
               (("file_of_row", 1), ("offset", 0), ("length", len(content)))}  # fmt: skip
    return dataclasses.replace(data, train_images=dataclasses.replace(images, files=(*images.files, path), **changed))


def test_images_of_16_bits_that_become_black_are_told_with_their_numbers(tmp_path, capsys):
    deep = Image.fromarray(np.full((20, 30), 759, np.uint16))
    file = io.BytesIO()
    deep.save(file, "PNG")
    checked(with_content(photographs(tmp_path), 2, file.getvalue()), PHOTOGRAPHS)
    told = "1 images have 16 bits a channel, of which only the upper 8 are kept, and theirs reach only 759 of 65,535"
    assert f"warning: {told}" in capsys.readouterr().err


def test_stray_bytes_are_told_once_and_the_decoder_is_silent(tmp_path, capfd):
    whole = encoded(smooth(20, 30), "JPEG")
    stray = with_content(photographs(tmp_path), 2, whole[:-2] + bytes([17]) * 60 + whole[-2:])
    data, bad = checked(stray, PHOTOGRAPHS)
    assert (bad, data.train_images.is_noisy, data.test_images.is_noisy) == ([], True, False)
    error = capfd.readouterr().err
    assert error.count("stray bytes") == 1
    assert "Corrupt" not in error


def test_a_file_of_another_kind_is_called_what_it_is(tmp_path):
    with pytest.raises(ValueError, match="train id_2: it is AVIF, which is not read: convert it to JPEG"):
        checked(with_content(photographs(tmp_path), 2, encoded(smooth(20, 30), "AVIF")), PHOTOGRAPHS)
