"""Whatever there is in somebody's folder or file of labels is used, or refused in one line that names it."""

import csv
import os
import re
import unicodedata

import numpy as np
import pytest
from own_photographs import COLORS, colored_folder, photograph, write_csv
from PIL import Image

from r2d2_tf import train
from r2d2_tf.config.config import Config
from r2d2_tf.data import health
from r2d2_tf.data.labels.matching import class_names_in, labels_in, read_labels, rows_named
from r2d2_tf.data.readers.file_search import FilesBelow, find_images
from r2d2_tf.runs import run_labels
from r2d2_tf.runs.dataset import spec_of


@pytest.fixture
def photos(tmp_path):
    return colored_folder(tmp_path / "photos", kinds=("png",))


def config_of(folder, **flags):
    return Config(**{"dataset": "folder", "data_dir": str(folder), "translate": 0, "image_size": 32, **flags})


def names_of(folder, **flags):
    return spec_of(config_of(folder, **flags)).read_ids(None)


def assert_refused(config, *parts):
    with pytest.raises(ValueError, match=r".") as caught:
        spec_of(config)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


# The folder.


def test_an_empty_folder_and_one_of_other_files_say_so(tmp_path):
    assert_refused(config_of(tmp_path), str(tmp_path), "holds no image", "nothing")
    (tmp_path / "readme.txt").write_text("x")
    (tmp_path / "a.heic").write_text("x")
    assert_refused(config_of(tmp_path), "holds no image", "2 other files")
    assert_refused(config_of(tmp_path / "nowhere"), "nowhere) is no folder of images")
    assert_refused(config_of(tmp_path / "readme.txt"), "readme.txt) is no folder of images")


def test_one_class_no_labels_and_images_in_no_class_say_so(tmp_path):
    photograph(tmp_path / "cat" / "a.png", (1, 2, 3), 0)
    assert_refused(config_of(tmp_path), "one class alone (cat)", "make a folder a class")
    photograph(tmp_path / "x.png", (1, 2, 3), 0)
    assert_refused(config_of(tmp_path), "'x.png' lies in no folder of a class", "unlabeled/", "--labels")
    (tmp_path / "cat").rename(tmp_path / "unlabeled")
    (tmp_path / "x.png").unlink()
    assert_refused(config_of(tmp_path), "no labels")


def test_test_images_without_a_label_or_of_a_class_of_their_own_are_named(photos):
    photograph(photos / "test" / "unlabeled" / "x.png", (1, 2, 3), 0)
    assert_refused(config_of(photos), "1 test images have no label", "'test/unlabeled/x.png'")
    (photos / "test" / "unlabeled").rename(photos / "test" / "violet")
    assert_refused(config_of(photos), "the class 'violet' has test images and no labeled training image")


@pytest.mark.parametrize("name", ["-1", "red "])
def test_a_class_that_no_file_of_labels_could_name_is_refused(name, photos):
    (photos / "train" / "red").rename(photos / "train" / name)
    assert_refused(config_of(photos), f"a class must not be called {name!r}", "rename it")


PARTS = {
    "train and val": ({"test": "val"}, "val"),
    "train, test and more": ({"unlabeled": "more/red"}, "more"),
    "Train and Validation": ({"train": "Train", "test": "Validation"}, "Validation"),
    "test beside the classes": ({"train/red": "red", "train/blue": "blue", "train/green": "green"}, "blue"),
}


@pytest.mark.parametrize("kind", PARTS)
def test_parts_are_never_taken_for_classes(kind, photos):
    renamed, stray = PARTS[kind]
    for old, new in renamed.items():
        (photos / new).parent.mkdir(exist_ok=True)
        (photos / old).rename(photos / new)
    assert_refused(config_of(photos, test_fraction=0.25), "is a part and no class", f"rename '{stray}', or move it")


def test_parts_without_classes_are_no_classes(tmp_path):
    for part in ("train", "test"):
        photograph(tmp_path / part / "x.png", (1, 2, 3), 0)
    assert_refused(config_of(tmp_path, test_fraction=0.25), "lies in no folder of a class")


def test_parts_without_train_are_one_class_alone(photos):
    (photos / "train").rename(photos / "unlabeled" / "more")
    (photos / "unlabeled" / "red").mkdir()
    (photos / "unlabeled" / "00.png").rename(photos / "unlabeled" / "red" / "00.png")
    assert_refused(config_of(photos), "has one class alone (test)")


def test_a_class_may_be_named_train(tmp_path):
    for name in ("train/steam/a.png", "car/a.png", "car/b.png", "train/b.png"):
        photograph(tmp_path / name, (1, 2, 3), 0)
    config = config_of(tmp_path, test_fraction=0.5)
    assert spec_of(config).load(None).class_names == ("car", "train")


def test_no_test_images_say_how_to_have_some(photos):
    (photos / "test").rename(photos.parent / "elsewhere")
    assert_refused(config_of(photos), str(photos), "has no test images", "--test_fraction=0.2")
    assert len(names_of(photos, test_fraction=0.25)) == 24 - 3


def test_a_folder_named_like_a_file_is_a_folder(photos):
    photograph(photos / "train" / "red" / "x.jpg" / "inside.png", COLORS["red"], 5)
    assert "train/red/x.jpg/inside.png" in names_of(photos)
    assert "train/red/x.jpg" not in names_of(photos)


def test_hidden_files_and_what_systems_leave_are_read_over(photos):
    before = names_of(photos)
    for name in (
        ".DS_Store",
        "._red_0.jpg",
        "Thumbs.db",
        "desktop.ini",
        ".hidden/a.png",
        "__MACOSX/red/._a.jpg",
        "__MACOSX/b.jpg",
    ):
        path = photos / "train" / "red" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (photos / ".git").mkdir()
    (photos / ".git" / "x.png").write_bytes(b"x")
    assert names_of(photos) == before
    assert find_images(photos).others == {".db": 1, ".ini": 1}


def test_links_are_followed_but_not_in_circles(photos):
    (photos.parent / "more").mkdir()
    photograph(photos.parent / "more" / "linked.png", COLORS["red"], 5)
    (photos / "train" / "red" / "link").symlink_to(photos.parent / "more")
    (photos / "train" / "red" / "circle").symlink_to(photos)
    (photos / "unlabeled" / "itself").symlink_to(photos / "unlabeled" / "itself")
    found = find_images(photos)
    assert "train/red/link/linked.png" in found.names
    assert found.loops == ["train/red/circle"]
    assert len(found.names) == len(set(found.names)) == 12 + 9 + 12 + 1


def test_a_link_to_nowhere_and_a_pipe_do_not_stop_a_run_for_ever(photos):
    (photos / "unlabeled" / "nowhere.jpg").symlink_to("gone.jpg")
    (photos / "unlabeled" / "me.jpg").symlink_to("me.jpg")
    os.mkfifo(photos / "unlabeled" / "pipe.jpg")
    config = config_of(photos)
    data = spec_of(config).load(None)
    assert "unlabeled/pipe.jpg" not in data.train_ids
    with pytest.raises(
        ValueError, match=r"2 images cannot be read \(train unlabeled/me.jpg: .*, train unlabeled/nowhere.jpg: No such file"
    ):
        health.checked(data, spec_of(config))


def test_endings_are_read_in_any_case(tmp_path):
    for i, ending in enumerate(("jpg", "JPG", "Jpeg", "PNG", "gif", "BMP", "WebP", "tif", "txt")):
        path = tmp_path / f"{i}.{ending}"
        path.write_bytes(b"x")
    assert len(find_images(tmp_path).names) == 7


@pytest.mark.parametrize(
    "name", ["two words.png", "\u00e9t\u00e9.png", "line\nbreak.png", "tab\t.png", "'quotes\".png", "comma,;.png", "#1 %d.png"]
)
def test_any_name_of_a_file_names_its_image(name, photos, tmp_path):
    photograph(photos / "unlabeled" / name, (1, 2, 3), 0)
    rows = [(f"unlabeled/{name}", "odd"), ("train/red/red_0.png", "even"), ("unlabeled/00.png", "odd")]
    rows += [(f"test/red/more/red_test_{i}.png", "even") for i in range(3)]
    rows += [(f"test/{c}/more/{c}_test_{i}.png", "odd") for c in ("blue", "green") for i in range(3)]
    data = spec_of(config_of(photos, labels=str(write_csv(tmp_path / "l.csv", rows)))).load(None)
    row = data.train_ids.index(f"unlabeled/{name}")
    assert data.class_names[data.given_labels[row]] == "odd"
    assert data.train_images.read(row) == (photos / "unlabeled" / name).read_bytes()


def test_labels_of_files_and_classes_called_like_formulas_come_back(tmp_path):
    names = ("=1+1.png", f"\x1b]0;owned\x07{chr(0x202E)}gnp.png", "-x;=y\n.png", "'=z.png")
    for c, label in enumerate(('=HYPERLINK("http:evil")', "@SUM(1)")):
        for i, name in enumerate(names):
            photograph(tmp_path / "photos" / ("train" if i else "test") / label / name, (90 * c, 0, 90), i)
    data = spec_of(config_of(tmp_path / "photos")).load(None)
    run_labels.write_labels(tmp_path / "labeled.csv", data, data.given_labels)
    with (tmp_path / "labeled.csv").open(newline="") as file:
        cells = [cell for line in csv.reader(file) for cell in line]
    assert not [cell for cell in cells if re.search(r"(^|;)[=+@-]|[\x00-\x1f\u202e]", cell)]
    again = spec_of(config_of(tmp_path / "photos", labels=str(tmp_path / "labeled.csv"))).load(None)
    assert (again.class_names, again.train_ids, again.test_ids) == (data.class_names, data.train_ids, data.test_ids)
    np.testing.assert_array_equal(again.given_labels, data.given_labels)
    np.testing.assert_array_equal(again.test_labels, data.test_labels)


@pytest.mark.parametrize("name", ["a\x1bb", "tab\tbed", "turned\u202e"])
def test_a_class_called_by_control_characters_is_refused(name, photos):
    photograph(photos / "train" / name / "x.png", (1, 2, 3), 0)
    assert_refused(config_of(photos), "a class must not be called", "rename it")


@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
def test_a_name_that_is_no_text_is_told(photos):
    with open(os.path.join(os.fsencode(photos), b"unlabeled", b"\xff.png"), "wb") as file:
        file.write(b"x")
    assert_refused(config_of(photos), r"'unlabeled/\udcff.png' is no UTF-8 text; give it another")


UNREADABLE = {
    "a text": b"this is a text",
    "nothing": b"",
    "half an image": None,
    "a web page": b"<html>not found</html>",
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_is_no_image_is_named_or_left_out(kind, photos):
    whole = (photos / "unlabeled" / "00.png").read_bytes()
    (photos / "unlabeled" / "bad.jpg").write_bytes(UNREADABLE[kind] if kind != "half an image" else whole[: len(whole) // 2])
    config = config_of(photos)
    data = spec_of(config).load(None)
    told = r": it is a web page \(HTML\), and no image" if kind == "a web page" else ""
    message = rf"1 images cannot be read \(train unlabeled/bad.jpg{told}\): mend or remove these files, or"
    with pytest.raises(ValueError, match=message):
        health.checked(data, spec_of(config))
    healthy, _ = health.checked(data, spec_of(config), skip_bad_images=True)
    assert len(healthy.train_ids) == 24


def test_images_that_are_odd_but_whole_are_used_and_those_that_fill_the_memory_are_not(photos):
    folder = photos / "unlabeled"
    Image.new("RGB", (1, 1), (9, 9, 9)).save(folder / "pixel.png")
    Image.fromarray(np.full((30, 40), 40_000, np.uint16)).save(folder / "deep.png")
    Image.new("CMYK", (40, 30), (9, 90, 200, 10)).save(folder / "cmyk.jpg")
    Image.new("L", (20_000, 210), 7).save(folder / "long.png")
    Image.new("1", (20_000, 20_000)).save(folder / "huge.png")
    Image.new("1", (20_000, 2)).save(folder / "thread.png")
    config = config_of(photos)
    data, names = health.checked(spec_of(config).load(None), spec_of(config), skip_bad_images=True)
    assert names == ["train unlabeled/huge.png", "train unlabeled/thread.png"]
    row = {name.removeprefix("unlabeled/"): number for number, name in enumerate(data.train_ids)}
    centers = data.train_images.central(np.array([row["pixel.png"], row["deep.png"], row["long.png"]])).numpy()
    assert [int(center.mean()) for center in centers] == [9, 40_000 >> 8, 7]


def test_the_command_refuses_in_one_line_before_tensorflow_is_needed(photos, capsys, monkeypatch):
    monkeypatch.setattr(train, "import_tensorflow_quietly", None)
    photograph(photos / "x.png", (1, 2, 3), 0)
    assert train.main(["--dataset=folder", f"--data_dir={photos}", "--translate=0"]) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert error.startswith(f"error: data_dir ({photos}): the image 'x.png' lies in no folder")


def test_paths_of_many_files_are_made_when_asked_for(tmp_path):
    files = FilesBelow(tmp_path, ["a/b.png", "c.png"])
    assert [*files] == [tmp_path / "a/b.png", tmp_path / "c.png"]
    assert files[1:][0] == tmp_path / "c.png"
    assert len(files) == 2


# The file of labels.


def file_of(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode(encoding))
    return path


IDS = ["a.jpg", "b c.jpg", "\u00e9.jpg", "f/d.jpg"]
SAME = {
    "plain": "file,label\na.jpg,cat\nb c.jpg,\n",
    "byte order mark": "\ufefffile,label\na.jpg,cat\nb c.jpg,\n",
    "semicolons": "file;label\na.jpg;cat\nb c.jpg;\n",
    "tabs": "file\tlabel\na.jpg\tcat\nb c.jpg\t\n",
    "carriage returns": "file,label\r\na.jpg,cat\r\nb c.jpg,\r\n",
    "no last line break": "file,label\na.jpg,cat\nb c.jpg,",
    "empty fields at the end": "file,label\na.jpg,cat,,\nb c.jpg,,,\n",
    "quotes": '"file","label"\n"a.jpg","cat"\n"b c.jpg",""\n',
    "other columns": "note,label,file\nx,cat,a.jpg\ny,,b c.jpg\n",
    "capitals and spaces": " File , LABEL\na.jpg, cat \nb c.jpg,\n",
    "a short row": "file,label\na.jpg,cat\nb c.jpg\n",
    "empty lines": "file,label\n\na.jpg,cat\n,\n\nb c.jpg,\n",
    "a row twice": "file,label\na.jpg,cat\nb c.jpg,\na.jpg,cat\n",
    "paths": "file,label\n./a.jpg,cat\n.\\b c.jpg,\n",
}


@pytest.mark.parametrize("kind", SAME)
def test_files_of_labels_are_read_however_they_were_written(kind, tmp_path):
    table = read_labels(file_of(tmp_path, SAME[kind]))
    labels = dict(zip(rows_named(table, IDS).tolist(), table.labels, strict=True))
    assert labels == {0: "cat", 1: ""}


def test_a_split_may_be_written_in_capitals(tmp_path):
    assert read_labels(file_of(tmp_path, "file,label,split\na.jpg,cat,Train\nb c.jpg,cat,TEST\n")).splits == ["train", "test"]


def test_accents_may_be_composed_otherwise(tmp_path):
    other = unicodedata.normalize("NFD", IDS[2])
    assert other != IDS[2]
    assert rows_named(read_labels(file_of(tmp_path, f"file,label\n{other},cat\nf\\d.jpg,dog\n")), IDS).tolist() == [2, 3]


BAD_FILES = {
    "wrong header": ("name,class\na.jpg,cat\n", "has no columns file and label (it begins with 'name,class')"),
    "no header": ("a.jpg,cat\n", "has no columns file and label (it begins with 'a.jpg,cat')"),
    "empty": ("", "has no columns file and label"),
    "unknown file": (
        "file,label\na.jpg,cat\nb_c.jpg,cat\n",
        "line 3: 'b_c.jpg' names no image of this data set: did you mean",
    ),
    "many unknown files": ("file,label\nx,cat\ny,cat\n", "line 2: 'x' names no image of this data set (2 lines name none)"),
    "two labels": ("file,label\na.jpg,cat\n\na.jpg,dog\n", "line 4: 'a.jpg' is 'dog' here and 'cat' in line 2: remove one"),
    "label and none": ("file,label\na.jpg,cat\na.jpg,\n", "line 3: 'a.jpg' is 'unlabeled' here and 'cat' in line 2"),
    "another split": ("file,label,split\na.jpg,cat,valid\n", "'a.jpg' has the split 'valid': write train or test"),
    "a name over lines": ('file,label\n"a\nb.jpg",x\nz.jpg,y\n', r"line 2: 'a\nb.jpg' names no image"),
    "a label cut in two": (
        "file,label\na.jpg,cat\nb c.jpg,dog, large\n",
        "line 3 has 3 fields, and the first line has 2: put what",
    ),
    "an endless field": ("file,label\n" + "x" * 200_000 + ",cat\n", "cannot be read: field larger than field limit"),
}


@pytest.mark.parametrize(("text", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_of_labels_that_cannot_be_used_is_one_line_that_names_the_line(text, message, tmp_path):
    path = file_of(tmp_path, text)
    with pytest.raises(ValueError, match=r".") as caught:
        rows_named(read_labels(path), IDS)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_encoding_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"is no UTF-8 text .*, line 2: '\u00e9.jpg,cat': save it as CSV in UTF-8"):
        read_labels(file_of(tmp_path, "file,label\n\u00e9.jpg,cat\n", "latin-1"))


def test_what_is_no_file_of_labels_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "nowhere.csv", tmp_path / "pipe"):
        with pytest.raises(ValueError, match=r"cannot be read: it does not exist, or is no file; name another file"):
            read_labels(path)


def test_labels_that_are_numbers_are_whole_and_minus_one_is_none(tmp_path):
    text = "file,label\na.jpg,3.0\nb c.jpg,-1\nf/d.jpg,12\n"
    assert read_labels(file_of(tmp_path, text)).labels == ["3", "", "12"]
    assert read_labels(file_of(tmp_path, text + "\u00e9.jpg,1.5\n")).labels == ["3.0", "", "12", "1.5"], "names, then"
    assert class_names_in(["10", "9", "", "2"]) == ("2", "9", "10")
    assert class_names_in(["b10", "b9", ""]) == ("b10", "b9")


def test_the_labels_of_a_set_whose_classes_are_known_are_their_names_or_numbers(tmp_path):
    text = "file,label\na.jpg,dog\nb c.jpg,0\nf/d.jpg,\n"
    assert labels_in(read_labels(file_of(tmp_path, text)), IDS, ("cat", "dog")).tolist() == [1, 0, -1, -1]
    for label in ("2", "dig", "-2"):
        table = read_labels(file_of(tmp_path, f"file,label\na.jpg,{label}\n"))
        with pytest.raises(ValueError, match=f"line 2: 'a.jpg' has a label that is no class: '{label}'; did you mean"):
            labels_in(table, IDS, ("cat", "dog"))
    table = read_labels(file_of(tmp_path, "file,label,split\na.jpg,cat,test\n"))
    with pytest.raises(ValueError, match="has the split test, and this data set has test images: write train"):
        labels_in(table, IDS, ("cat", "dog"))
