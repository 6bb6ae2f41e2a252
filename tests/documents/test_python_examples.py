"""The Python that pages show does what they say: the blocks of a page, one after the other, as one program."""

import functools

import keras
import markdown_pages
import numpy as np
import pytest
from conftest import ROOT
from markdown_pages import DOCS
from own_photographs import colored_folder

import r2d2_tf


def ran(page, monkeypatch, tmp_path, **given):
    """Runs the Python of a page of docs/ in a folder, with the names that are given; returns the names that it leaves."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page, **given}
    path = DOCS / page
    lines = path.read_text().splitlines()
    for block in markdown_pages.parts(path)[1]:
        if block.kind == "python":
            code = "\n".join(block.lines)
            # An error names the line of the page.
            first = next(n for n in range(len(lines)) if lines[n : n + len(block.lines)] == block.lines)
            exec(compile("\n" * first + code, str(path), "exec"), names)
    return names


@pytest.mark.slow
def test_own_fit_learns_from_unlabeled_digits(monkeypatch, tmp_path):
    left = ran("keras.md", monkeypatch, tmp_path)
    supervised, _, final = left["errors"]
    assert final < supervised - 1
    assert np.load(tmp_path / "pseudo_labels.npz")["pseudo_logits"].shape == (1300, 10)
    assert keras.models.load_model(tmp_path / "network.keras").output_shape == (None, 10)


@pytest.mark.parametrize("page", ["api.md"])
def test_the_python_of_a_page_runs(page, monkeypatch, tmp_path):
    ran(page, monkeypatch, tmp_path)


@pytest.mark.slow
def test_the_classifier_does_what_its_page_shows(monkeypatch, tmp_path):
    short = {"supervised_epochs": 1, "rounds": "1:0.01", "finetune_epochs": 1, "max_steps": 2, "stop_on_collapse": False}
    monkeypatch.setattr(r2d2_tf, "R2D2Classifier", functools.partial(r2d2_tf.R2D2Classifier, flags=short, weights="none"))
    colored_folder(tmp_path / "PHOTOS", labeled=4, unlabeled=40)
    images = np.random.default_rng(0).integers(0, 256, (90, 8, 8), np.uint8)
    labels = np.where(np.arange(90) < 30, np.arange(90) % 3, -1)
    left = ran("python.md", monkeypatch, tmp_path, images=images, labels=labels, new_images=images[:5])
    assert left["classifier"].predict([next((tmp_path / "PHOTOS").rglob("*.png"))]).shape == (1,)
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "runs" / "photos").is_dir()


def test_own_networks_are_as_the_page_says(monkeypatch, tmp_path):
    left = ran("own_network.md", monkeypatch, tmp_path)
    assert left["features"]((8, 8, 3)).output_shape == (None, 6, 6, 8)
    assert left["logits"]((8, 8, 3), 10).output_shape == (None, 10)


def test_all_python_of_pages_is_run_by_a_test():
    with_python = {page.name for page in DOCS.rglob("*.md") if any(b.kind == "python" for b in markdown_pages.parts(page)[1])}
    tests = " ".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert not {page for page in with_python if f'"{page}"' not in tests}
