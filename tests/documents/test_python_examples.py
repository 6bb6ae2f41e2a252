"""The Python that pages show does what they say: the blocks of a page, one after the other, as one program."""

import keras
import markdown_pages
import numpy as np
import pytest
from markdown_pages import DOCS


def ran(page, monkeypatch, tmp_path):
    """Runs the Python of a page of docs/ in an empty folder; returns the names that it leaves."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page}
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
