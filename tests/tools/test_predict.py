import csv
import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from export import inference
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.data.readers.file_search import find_images
from r2d2_tf.system import spreadsheets
from tools.predict import __main__ as predict
from tools.predict import photograph_files
from tools.shared import models


@pytest.fixture(scope="module")
def digits():
    return DATASETS["mnist5k"].load(None).test_images[::97]


@pytest.fixture
def photographs(digits, tmp_path):
    """A folder of eleven digits: three in it, eight below."""
    below = tmp_path / "photographs" / "b" / "deep"
    below.mkdir(parents=True)
    for number, pixels in enumerate(digits):
        folder = below if number >= 3 else tmp_path / "photographs"
        Image.fromarray(pixels[..., 0]).save(folder / f"{number:02}.png")
    return tmp_path / "photographs"


class Fixed:
    """Gives each image the probabilities that its first pixel names."""

    image_shape = (2, 2, 1)

    def __init__(self, *rows):
        self.rows = np.array(rows, np.float32)

    def predict(self, images):
        inference.check_images(images, self.image_shape)
        return self.rows[images[:, 0, 0, 0]]


def fixed_model(tmp_path, *rows, names=("cat", "dog", "owl")):
    return models.Model(tmp_path, Fixed(*rows), names, None)


def write(path, value, *, size=(2, 2)):
    Image.new("L", size, value).save(path, format="PNG")
    return str(path)


def table_of(model, names, **options):
    file = io.StringIO(newline="")
    tally = predict.classify(model, names, file, total=len(names), **{"batch_size": 2, "top": 3, **options})
    return list(csv.DictReader(io.StringIO(file.getvalue(), newline=""))), tally


@pytest.mark.parametrize("name", ["model.tflite", "saved_model", "RUN"])
def test_any_model_gives_the_networks_probabilities_in_sorted_order(
    name, exported, finished_run, photographs, digits, tmp_path, capsys
):
    model = finished_run if name == "RUN" else exported / name
    out = tmp_path / "new" / "table.csv"
    assert predict.main([f"--model={model}", str(photographs), f"--out={out}", "--batch_size=4", "--top=2"]) == 0
    with out.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [os.path.relpath(line["file"], photographs) for line in lines] == [
        *(f"{n:02}.png" for n in range(3)),
        *(f"b/deep/{n:02}.png" for n in range(3, 11)),
    ]
    expected = inference.load(exported / "model.tflite").predict(digits)
    likeliest = np.argsort(-expected, axis=1)
    assert [line["label"] for line in lines] == [str(n) for n in likeliest[:, 0]]
    assert [line["label_2"] for line in lines] == [str(n) for n in likeliest[:, 1]]
    np.testing.assert_allclose([float(line["probability"]) for line in lines], expected.max(1), atol=1e-4)
    assert list(lines[0]) == ["file", "label", "probability", "label_2", "probability_2", "error"]
    said = capsys.readouterr().out
    assert "11 photographs classified" in said
    assert f"written to {out}" in said


def test_what_to_type_next_names_the_run_of_a_model(finished_run, photographs, tmp_path, capsys):
    predict.main([f"--model={finished_run}", str(photographs), f"--out={tmp_path / 'x.csv'}"])
    assert f"-m tools.evaluate --run_dir={finished_run}\n" in capsys.readouterr().out


def test_lines_are_the_likeliest_classes_and_no_more_than_there_are(tmp_path):
    model = fixed_model(tmp_path, [0.2, 0.7, 0.1], [0.5, 0.1, 0.4])
    names = [write(tmp_path / "a.png", 0), write(tmp_path / "b.png", 1), write(tmp_path / "c.png", 0)]
    lines, tally = table_of(model, names, top=9)
    assert list(lines[1].values()) == [names[1], "cat", "0.5", "owl", "0.4", "dog", "0.1", ""]
    assert tally.labels == {"dog": 2, "cat": 1}
    assert tally.least_sure[0] == (0.5, names[1], "cat")
    assert list(table_of(model, names, top=1)[0][0].values()) == [names[0], "dog", "0.7", ""]


def test_a_photograph_of_any_size_is_cut_to_what_the_model_takes_where_it_says_how(tmp_path):
    model = dataclasses.replace(fixed_model(tmp_path, [0.2, 0.7, 0.1]), resize_shorter_side=4)
    lines, _ = table_of(model, [write(tmp_path / "a.png", 0, size=(9, 5)), write(tmp_path / "b.png", 0, size=(3, 30))])
    assert [(line["label"], line["error"]) for line in lines] == [("dog", "")] * 2


@pytest.mark.parametrize(
    "name",
    [
        "a,b.png",
        'quote".png',
        "new\nline.png",
        "carriage\rreturn.png",
        "\u00e9\u4e2d.png",
        " space.png",
        "=1+1.png",
        "tab\t.png",
    ],
)
def test_any_name_comes_back_from_the_table(name, tmp_path):
    lines, _ = table_of(fixed_model(tmp_path, [0.2, 0.7, 0.1]), [write(tmp_path / name, 0)])
    assert [spreadsheets.value(line["file"]) for line in lines] == [str(tmp_path / name)]
    assert lines[0]["label"] == "dog"


def test_a_name_that_is_no_utf8_leaves_the_table_readable(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff\xe9.png"
    Image.new("L", (2, 2), 0).save(os.fsdecode(path), format="PNG")
    lines, tally = table_of(fixed_model(tmp_path, [0.2, 0.7, 0.1]), list(photograph_files.walk([str(tmp_path)])))
    assert lines[0]["file"] == f"{tmp_path}/\\xff\\xe9.png"
    assert lines[0]["label"] == "dog"
    assert "\\xff" in "\n".join(predict.summary(tally, seconds=1.0, start=1.0))


def bad_files(folder):
    (folder / "text.jpg").write_text("not an image")
    write(folder / "large.png", 0, size=(3, 2))
    whole = io.BytesIO()
    Image.effect_noise((2, 2), 50).save(whole, "PNG")
    (folder / "cut.png").write_bytes(whole.getvalue()[:-30])
    (folder / "empty.png").touch()
    (folder / "link.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    return sorted(map(str, folder.iterdir()))


def test_a_file_that_is_no_photograph_is_a_line_with_its_error_and_the_others_are_classified(tmp_path, capsys):
    names = bad_files(tmp_path)
    model = fixed_model(tmp_path, [0.2, 0.7, 0.1])
    for batch_size in (1, 3, 100):
        good = write(tmp_path / "zz.png", 0)
        lines, tally = table_of(model, [*names, good, names[0]], batch_size=batch_size)
        assert [bool(line["error"]) for line in lines] == [True] * 6 + [False, True]
        assert {line["label"] for line in lines if line["error"]} == {""}
        assert tally.failed == 7
    errors = {os.path.basename(line["file"]): line["error"] for line in lines}
    assert errors["large.png"] == "is 3x2 pixels; the model takes 2x2"
    assert errors["text.jpg"].startswith("cannot be read as an image")
    assert errors["pipe.png"] == "it is no file, or cannot be opened"


def test_whatever_a_decoder_raises_is_a_line(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise SyntaxError("broken chunk")

    monkeypatch.setattr(inference, "read_image", fail)
    lines, _ = table_of(fixed_model(tmp_path, [0.2, 0.7, 0.1]), [write(tmp_path / "a.png", 0)])
    assert lines[0]["error"] == "broken chunk"


def test_probabilities_that_are_not_finite_are_an_error_of_that_photograph(tmp_path):
    model = fixed_model(tmp_path, [0.2, 0.7, 0.1], [np.nan, 0.1, 0.4])
    lines, _ = table_of(model, [write(tmp_path / "a.png", 1), write(tmp_path / "b.png", 0)])
    assert "not finite" in lines[0]["error"]
    assert lines[1]["label"] == "dog"


def test_failures_are_counted_told_and_the_exit_code(exported, photographs, tmp_path, capsys):
    for number in range(5):
        (photographs / f"{number}.jpg").write_text("no")
    assert predict.main([f"--model={exported / 'model.tflite'}", str(photographs), f"--out={tmp_path / 'x.csv'}"]) == 1
    out, error = capsys.readouterr()
    assert "11 photographs classified" in out
    assert error.startswith("error: 5 of 16 photographs could not be classified")
    assert "0.jpg: cannot be read as an image" in error
    assert "and 2 more" in error
    with (tmp_path / "x.csv").open(newline="") as file:
        assert sum(bool(line["error"]) for line in csv.DictReader(file)) == 5


def test_hidden_files_links_back_folders_of_systems_and_other_endings_are_left_out_of_folders(tmp_path):
    folder = tmp_path / "top"
    for name in ("b/2.JPG", "b/1.png", "a/x.txt", ".hidden/y.png", "b/.z.png", "c.jpeg", "b/@eaDir/t.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "loop").symlink_to(folder)
    assert list(photograph_files.walk([str(folder)])) == [f"{folder}/{n}" for n in ("b/1.png", "b/2.JPG", "c.jpeg")]
    assert photograph_files.count([str(folder)]) == (3, 1)
    assert next(photograph_files.walk([f"{folder}/a/x.txt"])) == f"{folder}/a/x.txt", "named, so tried"


def test_links_to_folders_are_followed_as_training_follows_them(tmp_path):
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/b.png"):
        (tmp_path / "disk" / name).touch()
    (tmp_path / "disk" / "deep" / "back").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "itself").symlink_to(tmp_path / "disk" / "itself")
    folder = tmp_path / "photographs"
    folder.mkdir()
    (folder / "linked").symlink_to(tmp_path / "disk")
    (folder / "twice").symlink_to(tmp_path / "disk" / "deep")
    walked = [name.removeprefix(f"{folder}/") for name in photograph_files.walk([str(folder)])]
    # By way of "twice" the link back leads to a folder that is not above it, and which is looked through once.
    assert walked == ["linked/a.png", "linked/deep/b.png", "twice/b.png", "twice/back/a.png"]
    trained_on = [name for name in find_images(folder).names if "back" not in name]
    assert trained_on == [name for name in walked if "back" not in name]


def test_a_class_name_of_several_lines_stays_in_its_line_of_what_is_told():
    tally = predict.Tally()
    tally.add("a.png", "dog\nor cat", 0.5)
    tally.add("b.png", "owl", 0.9)
    lines = predict.summary(tally, seconds=1.0, start=0.0)
    assert not [line for line in lines if "\n" in line]
    assert "  dog or cat         1   50.0 %  ##############################" in lines
    assert "  a.png  dog or cat, 50.0 %" in lines


def test_a_folder_that_cannot_be_listed_is_given_itself(tmp_path, monkeypatch):
    (tmp_path / "a.png").touch()
    closed = tmp_path / "closed"
    closed.mkdir()
    scandir = os.scandir

    def refuse(path):
        if path == str(closed):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert list(photograph_files.walk([str(tmp_path)])) == [str(tmp_path / "a.png"), str(closed)]


def test_few_photographs_are_decoded_ahead_of_the_model_however_many_there_are(tmp_path, monkeypatch):
    decoded, classified, most = [], 0, 0

    def read(path, image_shape, resize, **_):
        decoded.append(path)
        return np.zeros(image_shape, np.uint8)

    class Slow(Fixed):
        def predict(self, images):
            nonlocal classified, most
            time.sleep(0.005)  # Decoding is far faster.
            most = max(most, len(decoded) - classified)
            classified += len(images)
            return super().predict(images)

    monkeypatch.setattr(inference, "read_image", read)
    model = models.Model(tmp_path, Slow([0.2, 0.7, 0.1]), None, None)
    _, tally = table_of(model, [write(tmp_path / "a.png", 0)] * 200, batch_size=4)
    assert tally.labels.total() == 200
    assert 0 < most <= 3 * 4, "a batch that the model works on, and two that are decoded meanwhile"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["PHOTOGRAPHS"], "say which model to use: --model="),
        (["--model=MODEL"], "say which photographs to classify"),
        (["--model=nowhere.tflite", "PHOTOGRAPHS"], "there is no model at nowhere.tflite"),
        (["--model=MODEL", "nowhere"], "there is no nowhere"),
        (["--model=MODEL", "EMPTY"], "there is no photograph in"),
        (["--model=MODEL", "PHOTOGRAPHS", "--out=EMPTY"], "is a folder: name a file"),
        (["--model=MODEL", "PHOTOGRAPHS", "--out=MODEL/x.csv"], "is a file; choose another place"),
        (["--model=MODEL", "PHOTOGRAPHS", "--top=0"], "top"),
        (["--model=MODEL", "PHOTOGRAPHS", "--batchsize=2"], "did you mean --batch_size?"),
        (["--model=EXPORT", "PHOTOGRAPHS"], "holds several models: give one of"),
        (["--model=UNFINISHED", "PHOTOGRAPHS"], "is not finished"),
        (["--model=DAMAGED", "PHOTOGRAPHS"], "cannot be loaded"),
    ],
)
def test_bad_input_is_one_line(arguments, message, exported, finished_run, photographs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = {"PHOTOGRAPHS": photographs, "MODEL": exported / "model.tflite", "EMPTY": tmp_path / "empty", "EXPORT": exported}
    places |= {"UNFINISHED": tmp_path / "unfinished", "DAMAGED": tmp_path / "damaged.tflite"}
    for name in ("EMPTY", "UNFINISHED"):
        places[name].mkdir()
    shutil.copy(finished_run / "config.cfg", places["UNFINISHED"])
    places["DAMAGED"].write_bytes(b"TFL3 no model" * 20)
    for name, place in places.items():
        arguments = [argument.replace(name, str(place)) for argument in arguments]
    assert predict.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("**/*.csv"))


def test_a_table_is_not_left_half_written(exported, photographs, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(predict, "_rows", interrupt)
    out = tmp_path / "out" / "x.csv"
    assert predict.main([f"--model={exported / 'model.tflite'}", str(photographs), f"--out={out}"]) == 130
    assert list(out.parent.iterdir()) == []


def test_names_of_classes_that_do_not_fit_the_model_are_told(exported, photographs, tmp_path, capsys):
    shutil.copy(exported / "model.tflite", tmp_path)
    metadata = json.loads((exported / "metadata.json").read_text())
    (tmp_path / "metadata.json").write_text(json.dumps(metadata | {"class_names": ["a", "b"]}))
    assert predict.main([f"--model={tmp_path / 'model.tflite'}", str(photographs), f"--out={tmp_path / 'x.csv'}"]) == 2
    assert "gives 10 classes, and 2 are named beside it" in capsys.readouterr().err


def test_standard_output_is_the_table_alone_and_a_mistake_is_told_without_tensorflow(exported, photographs):
    command = [sys.executable, "-X", "importtime", "-m", "tools.predict", f"--model={exported / 'model.tflite'}"]
    done = subprocess.run([*command, str(photographs), "--out=-", "--top=1"], cwd=ROOT, capture_output=True, check=True)
    lines = list(csv.reader(io.StringIO(done.stdout.decode(), newline="")))
    assert [len(line) for line in lines] == [4] * 12
    assert b"11 photographs classified" in done.stderr
    imported = set(re.findall(r"\| +(\w+)\n", done.stderr.decode()))
    assert "tensorflow" not in imported, "a .tflite file runs without it"
    assert "numpy" in imported


def test_two_models_of_one_name_get_names_of_their_own(tmp_path):
    names = [tmp_path / "a" / "model.tflite", tmp_path / "b" / "model.tflite", tmp_path / "saved_model" / "1"]
    names[2].mkdir(parents=True)
    (names[2] / "saved_model.pb").touch()
    assert models.short_names(names, None) == ["1_model.tflite", "2_model.tflite", "saved_model"]
    models.check(names[2])
    models.check(names[2].parent)
