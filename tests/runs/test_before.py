"""A finished run, an unfinished one and exports of an earlier commit still open: tests/before/README.md says what they are."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from serving import RunningServer

from export import __main__ as export_command
from r2d2_tf import backbones, train
from tools import pseudo_labels, suspects
from tools.evaluate import __main__ as evaluate
from tools.label_queue import __main__ as label_queue
from tools.predict import __main__ as predict
from tools.report import __main__ as report
from tools.shared import models
from tools.torture.exactness import content_of

BEFORE = ROOT / "tests" / "before"
MODELS = {
    "network": "finished",
    "saved_model": "finished/export/saved_model",
    "tflite": "finished/export/model.tflite",
    "onnx": "finished/export/model.onnx",
}
MADE_ON = ("AuthenticAMD", "25", "17", 2, "2.21.0")
"""Vendor, family and model of the processor, number of cores, TensorFlow: elsewhere sums may be rounded otherwise."""


def this_machine() -> tuple:
    cpuinfo = Path("/proc/cpuinfo")
    lines = [line.partition(":") for line in cpuinfo.read_text().splitlines()] if cpuinfo.exists() else []
    # Of several processors the last.
    about = {name.strip(): value.strip() for name, _, value in lines}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return *(about.get(name) for name in ("vendor_id", "cpu family", "model")), cores, tf.__version__


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of it all, which is the current folder, as the runs name their data and network."""
    copy = shutil.copytree(BEFORE, tmp_path / "before")
    # The run knows its file of images by size and time.
    time = int(json.loads((copy / "finished" / "summary.json").read_text())["data_content"].split("-")[1])
    os.utime(copy / "images.npz", ns=(time, time))
    monkeypatch.chdir(copy)
    monkeypatch.syspath_prepend(str(copy))
    return copy


def images_and_probabilities():
    with np.load(BEFORE / "images.npz") as data, np.load(BEFORE / "probabilities.npz") as recorded:
        return data["test_images"][..., None], dict(recorded)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_same_command_shows_the_result_of_a_finished_run(folder, capsys):
    assert train.main(["--flagfile=finished/config.cfg", "--run_dir=finished"]) == 0
    said = capsys.readouterr()
    assert "This run is finished already" in said.out
    assert "stage 3        8.33 %" in said.out
    assert said.err == ""


def test_tools_read_a_finished_run(folder, capsys):
    assert report.main(["--run_dir=finished"]) == 0
    assert "after stage\N{NO-BREAK SPACE}3, the result</dt><dd>8.33 %" in Path("finished/report.html").read_text()
    assert evaluate.main(["--run_dir=finished"]) == 0
    evaluation = json.loads(Path("finished/evaluation/backbone.keras/evaluation.json").read_text())
    assert evaluation["error_percent"] == pytest.approx(25 / 3)
    assert suspects.main(["--run_dir=finished"]) == 0
    # The two whose labels were made wrong.
    assert {line["file"] for line in rows_of(Path("finished/suspects.csv"))[:2]} == {"images_000000", "images_000010"}
    assert label_queue.main(["--run_dir=finished", "--count=5"]) == 0
    assert len([row for row in rows_of(Path("finished/queue.csv")) if row["suggestion"]]) == 5
    assert pseudo_labels.main(["--run_dir=finished", "--out=labels.csv"]) == 0
    assert len(rows_of(Path("labels.csv"))) == 60
    assert capsys.readouterr().err.count("error") == 0


def test_a_finished_run_is_exported_and_its_network_classifies_files(folder):
    examples = "finished/export/examples"
    assert export_command.main(["--run_dir=finished", "--format=tflite", "--output_dir=again", "--latency_rounds=0"]) == 0
    for model, out in (("finished", "by_network.csv"), ("again/model.tflite", "by_export.csv")):
        assert predict.main([f"--model={model}", examples, f"--out={out}"]) == 0
    labels = [[row["label"] for row in rows_of(Path(out))] for out in ("by_network.csv", "by_export.csv")]
    assert labels[0] == labels[1]
    assert len(labels[0]) == 3


@pytest.mark.parametrize("name", MODELS)
def test_networks_and_exports_give_the_recorded_probabilities(name, folder):
    images, recorded = images_and_probabilities()
    np.testing.assert_allclose(models.load(Path(MODELS[name])).probabilities(images), recorded[name], atol=1e-5)


def test_files_are_seen_as_they_are_stored_by_what_was_made_before_there_was_a_choice(folder):
    assert not any(models.load(Path(MODELS[name])).as_shown for name in MODELS)


def test_an_export_is_served(folder):
    images, recorded = images_and_probabilities()
    with RunningServer(folder / "finished" / "export" / "saved_model") as server:
        status, answer = server.predict({"instances": images.tolist()})
    assert status == 200
    served = np.array([row["probabilities"] for row in answer["predictions"]])
    np.testing.assert_allclose(served, recorded["saved_model"], atol=1e-5)


def test_another_run_starts_from_the_networks_of_a_finished_one(folder, capsys):
    flags = ["--flagfile=finished/config.cfg", "--rounds=1:0.01", "--finetune_epochs=0"]
    assert train.main([*flags, "--stage_1_from=finished", "--run_dir=other"]) == 0
    assert "stage 1       16.67 %" in capsys.readouterr().out


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def test_an_unfinished_run_goes_on_to_the_end_that_the_earlier_commit_came_to(folder, capsys):
    assert train.main(["--flagfile=unfinished/config.cfg", "--run_dir=unfinished"]) == 0
    assert "Going on from the checkpoint" in capsys.readouterr().out
    (ours, table), (theirs, other) = (
        (backbones.load(run / "backbone.keras").get_weights(), np.load(run / "pseudo_labels.npz")["pseudo_logits"])
        for run in (folder / "unfinished", folder / "ended")
    )
    distances = [relative(table, other), *(relative(w, v) for w, v in zip(ours, theirs, strict=True))]
    assert max(distances) < 1e-5
    if this_machine() == MADE_ON:
        for name in ("metrics.csv", "pseudo_labels.npz", "predictions.npz", "backbone.keras"):
            assert content_of(folder / "unfinished" / name) == content_of(folder / "ended" / name), name
