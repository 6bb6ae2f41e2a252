import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from export import __main__ as export_command
from export import formats, inference
from r2d2_tf.datasets import DATASETS

FILES = {"saved_model": "saved_model", "tflite": "model.tflite"}


@pytest.fixture(scope="module")
def exported(finished_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    assert export_command.main([f"--run_dir={finished_run}", "--format=saved_model,tflite", f"--output_dir={folder}"]) == 0
    return folder


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
    np.testing.assert_allclose(predictor.predict(images), network_probabilities, atol=1e-5)
    for count in (1, 3, 1):
        np.testing.assert_allclose(predictor.predict(images[:count]), network_probabilities[:count], atol=1e-5)


@pytest.mark.parametrize("name", FILES)
def test_wrong_images_are_refused_with_what_the_model_takes(name, exported):
    predictor = inference.load(exported / FILES[name])
    for shape, dtype in (((1, 28, 28, 1), np.float32), ((1, 28, 28, 3), np.uint8), ((0, 28, 28, 1), np.uint8)):
        with pytest.raises(ValueError, match="the model takes uint8 of shape"):
            predictor.predict(np.zeros(shape, dtype))


def test_the_command_prints_difference_agreement_and_what_to_type_next(finished_run, tmp_path, capsys):
    export_command.main([f"--run_dir={finished_run}", "--format=tflite", f"--output_dir={tmp_path}"])
    out = capsys.readouterr().out
    assert "FAKE" not in out
    assert "on 1,000 test images: largest difference to the network" in out
    assert "top-1 agreement 100.00 %" in out
    assert f" -m export.inference --model={tmp_path / 'model.tflite'}" in out


def test_a_model_that_differs_from_the_network_fails(finished_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export_command, "TOLERANCE", -1.0)
    assert export_command.main([f"--run_dir={finished_run}", "--format=tflite", f"--output_dir={tmp_path}"]) == 1
    assert "do not use it" in capsys.readouterr().err


def test_exporting_again_replaces_the_files(finished_run, exported):
    arguments = [f"--run_dir={finished_run}", "--format=saved_model,tflite", f"--output_dir={exported}"]
    assert export_command.main(arguments) == 0
    assert {path.name for path in exported.iterdir()} == {"saved_model", "model.tflite", "metadata.json", "examples"}
    assert json.loads((exported / "metadata.json").read_text())["class_names"] == [str(digit) for digit in range(10)]


BAD = {
    "no run": (["--format=tflite"], "--run_dir=runs/NAME"),
    "missing run": (["--run_dir=nowhere"], "nowhere is not the folder of a run"),
    "unknown format": (["--run_dir=x", "--format=tflight"], "format (tflight) must be among saved_model, tflite"),
    "unknown flag": (["--rundir=x"], "did you mean --run_dir?"),
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
    """Runs a copy of inference.py in a process where importing `blocked` fails."""
    for name in blocked:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise ImportError('blocked')")
    shutil.copy(ROOT / "export" / "inference.py", folder)
    return subprocess.run(
        [sys.executable, "inference.py", f"--model={exported / model}", f"--images={exported / 'examples'}"],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )


@pytest.mark.parametrize(
    ("model", "blocked"), [("model.tflite", ["tensorflow", "keras", "r2d2_tf"]), ("saved_model", ["keras", "r2d2_tf"])]
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
    ],
)
def test_a_bad_image_is_one_line_that_names_it(name, content, message, exported, tmp_path, capsys):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content:
        Image.new("L", content).save(tmp_path / name)
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


def test_an_export_of_a_run_on_fake_data_says_so(finished_run, tmp_path, capsys):
    shutil.copytree(finished_run, tmp_path / "run", ignore=shutil.ignore_patterns("export"))
    summary = json.loads((finished_run / "summary.json").read_text())
    (tmp_path / "run" / "summary.json").write_text(json.dumps(summary | {"fake_data": True}))
    assert export_command.main([f"--run_dir={tmp_path / 'run'}", "--format=tflite"]) == 0
    assert re.search(r"error \d+\.\d\d % \(FAKE DATA: it means nothing\)", capsys.readouterr().out)
    metadata = json.loads(next((tmp_path / "run" / "export").glob("*.json")).read_text())
    assert metadata["run"].endswith("(FAKE DATA)")
