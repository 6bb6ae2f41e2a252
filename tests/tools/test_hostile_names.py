"""A real run on a folder whose files and classes are called as somebody would who means harm: through every program."""

import csv
import json
import re

import numpy as np
import pytest
from own_photographs import photograph
from test_folder import TINY

from export import __main__ as export_command
from export import inference
from r2d2_tf import train
from r2d2_tf.config.config import Config
from r2d2_tf.runs.dataset import spec_of
from tools import pseudo_labels, suspects
from tools.check_data import __main__ as check_data
from tools.compare import __main__ as compare
from tools.evaluate import __main__ as evaluate
from tools.label_queue import __main__ as label_queue
from tools.predict import __main__ as predict
from tools.report import __main__ as report

CLASSES = ('=HYPERLINK("http:evil")', "<script>alert(1)</script>".replace("/", "\u2215"), "@SUM(1)")
TITLE = "\x1b]0;owned\x07"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.fixture(scope="module")
def run_of_harm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("harm")
    photos, run = folder / "photos", folder / "run"
    for c, name in enumerate(CLASSES):
        color = np.eye(3)[c] * 200
        for i in range(4):
            photograph(photos / "train" / name / f"-cmd|calc;=x{TITLE}{i}\u202egnp.png", color, i)
        photograph(photos / "test" / name / f"+t{TITLE}\n=1.png", color, 10 + c)
    for i in range(12):
        photograph(photos / "unlabeled" / f"=u{TITLE}{i}<img src=x onerror=alert(1)>.png", np.eye(3)[i % 3] * 200, 20 + i)
    (photos / "unlabeled" / f"{TITLE}broken.jpg").write_bytes(b"no image")
    flags = ["--dataset=folder", f"--data_dir={photos}", "--learn_labeled_rows", "--skip_bad_images"]
    assert train.main([*TINY, *flags, f"--run_dir={run}"]) == 0
    return photos, run


def said(capsys):
    out, error = capsys.readouterr()
    # A bar for people moves back to the beginning of its line.
    assert not CONTROL.search(out + error.replace("\r", "")), ascii(out + error)
    return out


def cells(path):
    with path.open(newline="", encoding="utf-8") as file:
        found = [cell for line in csv.reader(file) for cell in line]
    assert not [cell for cell in found if CONTROL.search(cell)]
    is_number = re.compile(r"[+-]?[0-9.]+(e-?[0-9]+)?").fullmatch
    assert not [cell for cell in found if re.search(r"(^|;)[=+\-@\t\r]", cell) and not is_number(cell)]
    return found


def read_back(photos, path):
    return spec_of(Config(dataset="folder", data_dir=str(photos), labels=str(path), image_size=32, num_labels=0)).load(None)


@pytest.mark.slow
def test_queue_and_suspects_show_names_as_text_and_their_files_come_back(run_of_harm, capsys):
    photos, run = run_of_harm
    by_folder = spec_of(Config(dataset="folder", data_dir=str(photos), image_size=32)).load(None)
    assert label_queue.main([f"--run_dir={run}", "--count=3"]) == 0
    assert suspects.main([f"--run_dir={run}"]) == 0
    assert pseudo_labels.main([f"--run_dir={run}", f"--out={run / 'all.csv'}", "--soft"]) == 0
    said(capsys)
    assert any(cell.startswith("'=HYPERLINK") for cell in cells(run / "suspects.csv"))
    for name in ("labeled.csv", "queue.csv", "all.csv"):
        cells(run / name)
        data = read_back(photos, run / name)
        assert sorted(data.class_names) == sorted(CLASSES)
        assert (data.train_ids, data.test_ids) == (by_folder.train_ids, by_folder.test_ids)
        known = by_folder.given_labels >= 0
        np.testing.assert_array_equal(data.given_labels[known], by_folder.given_labels[known])
    for name in ("queue.html", "suspects.html"):
        text = (run / name).read_text()
        assert not re.search(r"<script>alert|<img src=x|\x1b", text)
        page = json.loads(text.split('id="data">')[1].split("</script>")[0])
        # What the page saves.
        assert '\'=HYPERLINK("http:evil")' in page["labels"]
        assert not [c for line in [*(i["cells"] for i in page["items"]), *page["rest"]] for c in line if c[:1] in list("=+-@")]


@pytest.mark.slow
def test_every_other_program_prints_plain_text_and_writes_harmless_files(run_of_harm, tmp_path, capsys):
    photos, run = run_of_harm
    programs = {
        evaluate: [f"--run_dir={run}"],
        report: [f"--run_dir={run}"],
        compare: [str(run), f"--out={tmp_path / 'compared'}"],
        check_data: [f"--data_dir={photos}"],
        export_command: [f"--run_dir={run}", "--format=tflite", "--latency_rounds=0"],
        inference: [f"--model={run / 'export' / 'model.tflite'}", f"--images={photos / 'train' / CLASSES[0]}"],
    }
    for program, arguments in programs.items():
        assert program.main(arguments) in (0, 1), program
        said(capsys)
    # One file cannot be read.
    assert predict.main([f"--model={run}", str(photos), f"--out={tmp_path / 'predicted.csv'}"]) == 1
    assert predict.main([f"--model={run}", str(photos), "--out=-"]) == 1
    said(capsys)
    paths = [*run.rglob("*.csv"), *tmp_path.rglob("*.csv")]
    assert len(paths) > 4
    for path in paths:
        cells(path)
    assert not re.search(r"<script>alert|<img src=x|\x1b", (run / "report.html").read_text())
