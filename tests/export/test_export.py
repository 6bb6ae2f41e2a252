import functools
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from conftest import ROOT, softmax
from PIL import Image

from export import __main__ as export_command
from export import checking, formats, inference
from export.serving_model import ServingModel
from r2d2_tf import backbones
from r2d2_tf.data import decoding
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.runs import run_directory

FILES = {
    "saved_model": "saved_model",
    "tflite": "model.tflite",
    "tflite_float16": "model_float16.tflite",
    "tflite_dynamic": "model_dynamic.tflite",
    "tflite_int8": "model_int8.tflite",
    "onnx": "model.onnx",
}
FULL_PRECISION = ("saved_model", "tflite", "onnx")
DYNAMIC = "tflite_dynamic"
UNTIMED = "--latency_rounds=0"


@pytest.fixture(scope="module")
def network_probabilities(finished_run):
    import keras

    model = keras.saving.load_model(finished_run / "backbone.keras", compile=False)
    return np.asarray(keras.ops.softmax(model(DATASETS["mnist5k"].load(None).test_images)))


def test_the_formats_that_the_command_allows_are_those_that_exist():
    assert tuple(formats.EXPORTERS) == export_command.FORMATS == tuple(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_model_takes_uint8_in_any_number_and_returns_the_networks_probabilities(name, exported, network_probabilities):
    predictor = inference.load(exported / FILES[name])
    images = DATASETS["mnist5k"].load(None).test_images
    assert predictor.image_shape == (28, 28, 1)
    probabilities = predictor.predict(images)
    if name in FULL_PRECISION:
        np.testing.assert_allclose(probabilities, network_probabilities, atol=1e-5)
    assert np.mean(probabilities.argmax(1) == network_probabilities.argmax(1)) >= (1 if name in FULL_PRECISION else 0.99)
    for count in (1, 3, 1):
        # Dynamic ranges are those of a whole batch.
        np.testing.assert_allclose(
            predictor.predict(images[:count]), probabilities[:count], atol=1e-5 if name != DYNAMIC else 0.05
        )


@pytest.mark.parametrize("name", FILES)
def test_wrong_images_are_refused_with_what_the_model_takes(name, exported):
    predictor = inference.load(exported / FILES[name])
    for shape, dtype in (((1, 28, 28, 1), np.float32), ((1, 28, 28, 3), np.uint8), ((0, 28, 28, 1), np.uint8)):
        with pytest.raises(ValueError, match="the model takes uint8 of shape"):
            predictor.predict(np.zeros(shape, dtype))


def test_the_command_prints_difference_agreement_and_what_to_type_next(light_run, tmp_path, capsys):
    export_command.main([f"--run_dir={light_run}", "--format=tflite", f"--output_dir={tmp_path}", UNTIMED])
    out = capsys.readouterr().out
    assert "FAKE" not in out
    assert "On 1,000 test images." in out
    row = next(line for line in out.splitlines() if line.startswith("| tflite"))
    assert " 100.00 " in row
    assert " ms " not in row
    assert "Milliseconds" not in out
    assert "8-bit" not in out
    assert f" -m export.inference --model={tmp_path / 'model.tflite'}" in out


def test_a_model_that_differs_from_the_network_fails(light_run, tmp_path, capsys, monkeypatch):
    """The network that is written is another than that whose predictions it is held against."""
    monkeypatch.setattr(ServingModel, "predict", lambda self, images: 1 - np.asarray(self.probabilities(images)))
    arguments = [f"--run_dir={light_run}", "--format=tflite,tflite_int8", f"--output_dir={tmp_path}", UNTIMED]
    assert export_command.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.count("was not written") == 2
    assert {path.name for path in tmp_path.iterdir()} == {"metadata.json", "report.md", "MODEL_CARD.md", "examples"}


def test_exporting_again_replaces_the_files(finished_run, exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "again")
    files = [folder / "saved_model" / "1" / "saved_model.pb", folder / "model.tflite"]
    before = [path.stat().st_ino for path in files]
    again = [f"--run_dir={finished_run}", "--format=saved_model,tflite", f"--output_dir={folder}", UNTIMED]
    assert export_command.main(again) == 0
    assert {path.name for path in folder.iterdir()} == {
        *FILES.values(),
        "metadata.json",
        "report.md",
        "MODEL_CARD.md",
        "examples",
    }
    assert [path.name for path in (folder / "saved_model").iterdir()] == ["1"]
    assert all(path.stat().st_ino != number for path, number in zip(files, before, strict=True))


def test_the_report_compares_all_formats(exported):
    report = (exported / "report.md").read_text()
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in report.splitlines() if line.startswith("| ")}
    assert list(rows) == ["format", "network", *FILES]
    assert len({len(cells) for cells in rows.values()}) == 1
    assert "8-bit scales come from 300 training images at most." in report
    kib = {name: float(rows[name][1].replace(",", "")) for name in FILES}
    assert kib["tflite_int8"] < kib["tflite_float16"] < kib["tflite"]
    for name in FULL_PRECISION:
        assert float(rows[name][2]) <= 1e-5
        assert float(rows[name][3]) == 100
    for column in (5, 6):
        assert all(re.fullmatch(r" [\d.e+]+ \([\d.e+]+\) *", rows[name][column]) for name in FILES)


def test_a_model_card_lies_beside_the_files(exported):
    card = (exported / "MODEL_CARD.md").read_text()
    assert "after stage 3, this model" in card
    assert all(f"| {name}" in card for name in FILES.values())
    assert "unknown" not in card.partition("## Use")[2].partition("## Limits")[0]


def test_metadata_say_what_a_model_does_not(exported):
    metadata = json.loads((exported / "metadata.json").read_text())
    assert metadata["class_names"] == [str(digit) for digit in range(10)]
    assert metadata["image_shape"] == [28, 28, 1]
    assert metadata["preprocessing"].startswith("grey, 28x28 pixels")


@pytest.fixture(scope="module")
def signatures(exported):
    model = tf.saved_model.load(exported / "saved_model" / "1")
    yield model.signatures
    # The signatures hold no reference to their variables.
    del model


def test_the_default_signature_names_the_class(signatures, network_probabilities):
    images = DATASETS["mnist5k"].load(None).test_images[:50]
    answer = signatures["serving_default"](images=images)
    np.testing.assert_allclose(answer["probabilities"], network_probabilities[:50], atol=1e-6)
    largest = network_probabilities[:50].argmax(1)
    np.testing.assert_array_equal(answer["class_index"], largest)
    assert [name.decode() for name in answer["class_name"].numpy()] == [str(index) for index in largest]


def test_a_signature_gives_logits(signatures, network_probabilities):
    images = DATASETS["mnist5k"].load(None).test_images[:50]
    logits = signatures["logits"](images=images)["logits"]
    np.testing.assert_allclose(softmax(np.asarray(logits)), network_probabilities[:50], atol=1e-6)


def encoded(pixels, kind, mode=None):
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("mode", [None, "RGB", "RGBA", "LA"])
def test_a_signature_takes_encoded_images(mode, signatures, network_probabilities):
    images = DATASETS["mnist5k"].load(None).test_images[:5, ..., 0]
    answer = signatures["image_bytes"](image_bytes=tf.constant([encoded(image, "PNG", mode) for image in images]))
    np.testing.assert_allclose(answer["probabilities"], network_probabilities[:5], atol=1e-6)
    assert set(answer) == {"probabilities", "class_index", "class_name"}


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_colors_become_the_grey_that_inference_sees(kind, exported, signatures, tmp_path):
    colors = np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8)
    (tmp_path / f"colors.{kind.lower()}").write_bytes(encoded(colors, kind))
    predictor = inference.load(exported / "saved_model")
    pixels = inference.read_image(tmp_path / f"colors.{kind.lower()}", predictor.image_shape)
    answer = signatures["image_bytes"](image_bytes=tf.constant([encoded(colors, kind)]))
    np.testing.assert_allclose(answer["probabilities"], predictor.predict(pixels[None]), atol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not an image", "it is damaged, or no image"),
        (encoded(np.zeros((20, 30), np.uint8), "PNG"), "an image came of 30x20 pixels; the model takes 28x28"),
        (encoded(np.zeros((20, 30), np.uint8), "JPEG"), "an image came of 30x20 pixels; the model takes 28x28"),
    ],
)
def test_what_is_no_image_of_its_size_is_refused(content, message, signatures):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        signatures["image_bytes"](image_bytes=tf.constant([content]))


def test_photographs_are_cropped_as_in_evaluation():
    model = photograph_model()
    content = tf.constant(encoded(np.random.default_rng(0).integers(0, 256, (90, 60, 3), dtype=np.uint8), "JPEG"))
    cropped = decoding.central_crop(decoding.decode(content), 40, 32)
    np.testing.assert_array_equal(model.classify_bytes(content[None])["probabilities"], model.probabilities(cropped[None]))


@functools.cache
def photograph_model():
    backbone = backbones.build("conv_small", (32, 32, 3), 10, mean=[0.2] * 3, std=[0.5] * 3)
    return ServingModel(backbone, [str(i) for i in range(10)], np.zeros((0, 32, 32, 3), np.uint8), resize_shorter_side=40)


def png_that_says(width, height):
    """A PNG whose header speaks of a size, and whose pixels are not there."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


@pytest.mark.parametrize(("width", "height"), [(9_500, 9_500), (1, 6_000), (2**31 - 1, 2**31 - 1), (2**32 - 1, 2**32 - 1)])
def test_a_photograph_that_would_fill_the_memory_is_refused_by_its_header(width, height):
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"an image came of {width}x{height} pixels; it may have"):
        photograph_model().classify_bytes(tf.constant([png_that_says(width, height)]))


def test_a_long_photograph_is_classified():
    strip = encoded(np.zeros((50, 4_000, 3), np.uint8), "PNG")
    assert photograph_model().classify_bytes(tf.constant([strip]))["probabilities"].shape == (1, 10)


def test_tflite_and_onnx_carry_their_names(exported):
    from ai_edge_litert.interpreter import Interpreter

    for name in FILES.values():
        if name.endswith(".tflite"):
            signature = Interpreter(str(exported / name)).get_signature_list()
            assert signature == {"serving_default": {"inputs": ["images"], "outputs": ["probabilities"]}}
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    (images,), (probabilities,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.shape) == ("images", ["batch", 28, 28, 1])
    assert (probabilities.name, probabilities.shape) == ("probabilities", ["batch", 10])
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == [str(digit) for digit in range(10)]


def test_a_later_version_stands_beside_the_first_and_is_taken(finished_run, exported, tmp_path):
    shutil.copytree(exported, tmp_path, dirs_exist_ok=True)
    (tmp_path / "saved_model" / "1").rename(tmp_path / "saved_model" / "2")
    assert export_command.main([f"--run_dir={finished_run}", f"--output_dir={tmp_path}", UNTIMED, "--model_version=10"]) == 0
    assert sorted(path.name for path in (tmp_path / "saved_model").iterdir()) == ["10", "2"]
    assert inference.saved_model_folder(tmp_path / "saved_model") == tmp_path / "saved_model" / "10"
    assert (
        inference.metadata(tmp_path / "saved_model").class_names
        == inference.metadata(tmp_path / "saved_model" / "2").class_names
    )


@pytest.mark.parametrize("name", ["0", "01", "007"])
def test_what_is_no_number_of_a_version_is_not_taken(name, tmp_path):
    (tmp_path / name).mkdir()
    (tmp_path / name / "saved_model.pb").touch()
    assert inference.saved_model_folder(tmp_path) == (tmp_path / "0" if name == "0" else None)


def test_a_file_does_not_take_the_names_of_another_export_above_it(exported, tmp_path):
    shutil.copy(exported / "metadata.json", tmp_path)
    (tmp_path / "other").mkdir()
    shutil.copy(exported / "model.tflite", tmp_path / "other")
    assert inference.metadata(tmp_path / "other" / "model.tflite").class_names is None


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        '{"class_names": 3}',
        '{"class_names": [1]}',
        "not JSON",
        '{"class_names": ["a"], "resize_shorter_side": "x"}',
    ],
)
def test_damaged_metadata_are_one_line(content, exported, tmp_path, capsys):
    shutil.copy(exported / "model.tflite", tmp_path)
    (tmp_path / "metadata.json").write_text(content)
    assert inference.main([f"--model={tmp_path / 'model.tflite'}", f"--images={exported / 'examples'}"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {tmp_path / 'metadata.json'} is damaged")


def test_too_few_names_are_one_line(exported, tmp_path, capsys):
    shutil.copy(exported / "model.tflite", tmp_path)
    (tmp_path / "metadata.json").write_text('{"class_names": ["a", "b"]}')
    assert inference.main([f"--model={tmp_path / 'model.tflite'}", f"--images={exported / 'examples'}"]) == 2
    assert "the model has 10 classes, and metadata.json names 2" in capsys.readouterr().err


def test_eight_bit_scales_come_from_different_training_images():
    rows = formats.representative_rows(1000, count=300, seed=0)
    assert len(np.unique(rows)) == 300
    assert rows.max() < 1000
    np.testing.assert_array_equal(rows, formats.representative_rows(1000, count=300, seed=0))
    assert (rows != formats.representative_rows(1000, count=300, seed=1)).any()
    np.testing.assert_array_equal(formats.representative_rows(20, count=300, seed=0), np.arange(20))


def test_eight_bit_scales_come_from_the_runs_own_training_images(finished_run):
    config = run_directory.load_config(finished_run)
    data = DATASETS[config.dataset].load(None)
    model = export_command._serving_model(finished_run / "backbone.keras", config, data)
    trained_on = {image.tobytes() for image in data.train_images}
    assert len(model.representative) == export_command.NUM_REPRESENTATIVE
    assert all(image.tobytes() in trained_on for image in model.representative)


def test_a_difference_that_is_no_number_is_never_allowed():
    assert all(format.allows(0.0, 100.0, 0.0) for format in formats.EXPORTERS.values())
    assert not any(format.allows(float("nan"), 100.0, 0.0) for format in formats.EXPORTERS.values())


@pytest.mark.parametrize(
    ("wrong", "allowed", "words"),
    [
        (0, True, "as many"),
        (3, True, "the network on 0: no more than chance (p = 0.25)"),
        (9, True, "worse (p = 0.0039)"),
        (11, False, "is wrong on 11 of 1,000 test images, the network on 0: worse (p = 0.00098)"),
    ],
)
def test_eight_bits_may_be_wrong_a_point_more_often_and_by_chance(wrong, allowed, words):
    expected = np.eye(2, dtype=np.float32)[np.zeros(1000, int)]
    actual = np.concatenate([1 - expected[:wrong], expected[wrong:]])
    row = checking.compared("x", ROOT, 0, actual=actual, expected=expected, labels=np.zeros(1000, int))
    assert formats.EXPORTERS["tflite_int8"].allows(row.difference, row.agreement, row.worse) == allowed
    assert words in str(row)


def test_many_images_are_checked_a_few_at_a_time():
    sizes = []
    images = np.arange(100)
    np.testing.assert_array_equal(checking.in_batches(lambda part: sizes.append(len(part)) or part, images), images)
    assert max(sizes) == checking.LARGE_BATCH


def test_latency_is_of_each_call_in_turn():
    calls = []

    class Recorder:
        def __init__(self, name):
            self.name = name

        def predict(self, images):
            calls.append(self.name)
            time.sleep(0.002 if self.name == "slow" else 0.0)
            return images

    latency = checking.latencies({name: Recorder(name).predict for name in ("quick", "slow")}, np.zeros(1), rounds=3)
    a_turn = checking.CALLS_A_TURN
    assert calls == ["quick", "slow"] + (["quick"] * a_turn + ["slow"] * a_turn) * 3
    assert 2 <= latency["slow"].median <= latency["slow"].p95


BAD = {
    "no run": (["--format=tflite"], "--run_dir=runs/NAME"),
    "missing run": (["--run_dir=nowhere"], "nowhere is not the folder of a run"),
    "unknown format": (
        ["--run_dir=x", "--format=tflight"],
        "format (tflight) must be among saved_model, tflite, tflite_float16",
    ),
    "unknown flag": (["--rundir=x"], "did you mean --run_dir?"),
    "version 0": (["--run_dir=x", "--model_version=0"], "model_version"),
    "no thread": (["--run_dir=x", "--threads=0"], "threads"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(arguments, message, capsys):
    assert export_command.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_unfinished_run_is_not_exported(finished_run, tmp_path, capsys):
    shutil.copy(finished_run / "config.cfg", tmp_path)
    assert export_command.main([f"--run_dir={tmp_path}"]) == 2
    assert "is not finished" in capsys.readouterr().err


def run_isolated(model, blocked, exported, folder):
    """Runs a copy of inference.py and what it needs in a process where importing `blocked` fails."""
    for name in blocked:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise ImportError('blocked')")
    for name in ("inference.py", "picture_files.py"):
        shutil.copy(ROOT / "export" / name, folder)
    return subprocess.run(
        [sys.executable, "inference.py", f"--model={exported / model}", f"--images={exported / 'examples'}"],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )


@pytest.mark.parametrize(
    ("model", "blocked"),
    [
        ("model.tflite", ["tensorflow", "keras", "r2d2_tf", "onnxruntime"]),
        ("model.onnx", ["tensorflow", "keras", "r2d2_tf", "ai_edge_litert"]),
        ("saved_model", ["keras", "r2d2_tf"]),
    ],
)
def test_inference_runs_as_a_copy_without_this_project(model, blocked, exported, tmp_path):
    done = run_isolated(model, blocked, exported, tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 10
    assert lines[3].startswith("true_class_3.png  ")
    assert lines[3].endswith(" %")


def test_the_blocking_in_that_test_works(exported, tmp_path):
    assert "blocked" in run_isolated("saved_model", ["tensorflow"], exported, tmp_path).stderr


def test_an_example_reads_back_as_the_test_image_it_was(exported):
    data = DATASETS["mnist5k"].load(None)
    for digit in (0, 7):
        pixels = inference.read_image(exported / "examples" / f"true_class_{digit}.png", (28, 28, 1))
        np.testing.assert_array_equal(pixels, data.test_images[data.test_labels == digit][0])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.png", None, "there is no image at"),
        ("text.png", b"not an image", "cannot be read as an image"),
        ("large.png", (30, 20), "is 30x20 pixels; the model takes 28x28"),
        ("enormous.png", (20_000, 10_000), "cannot be read as an image"),
        ("strip.png", (1, 101), "one side is more than 100 times the other"),
    ],
)
def test_a_bad_image_is_one_line_that_names_it(name, content, message, exported, tmp_path, capsys):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content:
        Image.new("1", content).save(tmp_path / name)
    assert inference.main([f"--model={exported / 'model.tflite'}", f"--images={tmp_path / name}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert name in error


def test_an_empty_folder_and_a_missing_model_are_named(exported, tmp_path, capsys):
    assert inference.main([f"--model={exported / 'model.tflite'}", f"--images={tmp_path}"]) == 2
    assert "there is no image at" in capsys.readouterr().err
    assert inference.main([f"--model={tmp_path}", f"--images={tmp_path}"]) == 2
    assert "there is no model at" in capsys.readouterr().err


def test_without_metadata_classes_are_numbered(exported, tmp_path, capsys):
    shutil.copy(exported / "model.tflite", tmp_path)
    assert inference.main([f"--model={tmp_path / 'model.tflite'}", f"--images={exported / 'examples'}"]) == 0
    assert "class " in capsys.readouterr().out


def test_an_export_of_a_run_on_fake_data_says_so(light_run, tmp_path, capsys):
    shutil.copytree(light_run, tmp_path / "run", ignore=shutil.ignore_patterns("export"))
    summary = json.loads((light_run / "summary.json").read_text())
    (tmp_path / "run" / "summary.json").write_text(json.dumps(summary | {"fake_data": True}))
    assert export_command.main([f"--run_dir={tmp_path / 'run'}", "--format=tflite", UNTIMED]) == 0
    assert "FAKE DATA: the errors mean nothing" in capsys.readouterr().out
    metadata = json.loads(next((tmp_path / "run" / "export").glob("*.json")).read_text())
    assert metadata["run"].endswith("(FAKE DATA)")
