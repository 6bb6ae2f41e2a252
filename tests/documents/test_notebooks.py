"""The notebooks of docs/: they parse, use what is public, are stored with their outputs, and run."""

import ast
import json
import os

import pytest
from conftest import ROOT
from markdown_pages import DOCS

import r2d2_tf

_LARGEST = 300_000
"""Bytes of a notebook with its pictures."""
NOTEBOOKS = sorted(DOCS.glob("*.ipynb"))
EACH = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def code_cells(path):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def program(path):
    """Its code without the lines that are for the shell."""
    lines = "\n".join("".join(cell["source"]) for cell in code_cells(path)).splitlines()
    return ast.parse("\n".join(line for line in lines if not line.startswith("!")))


def test_there_are_two():
    assert [path.name for path in NOTEBOOKS] == ["digits.ipynb", "photographs.ipynb"]


@EACH
def test_it_uses_public_names_and_what_a_classifier_has(path):
    nodes = list(ast.walk(program(path)))
    imported = {a.name for node in nodes if isinstance(node, ast.ImportFrom) and node.module == "r2d2_tf" for a in node.names}
    assert imported == {"R2D2Classifier"}
    assert not [node for node in nodes if isinstance(node, ast.ImportFrom) and str(node.module).startswith("r2d2_tf.")]
    of_classifiers = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("classifier", "again")
    }
    # classes_ is set by fit.
    assert of_classifiers
    assert not [name for name in of_classifiers - {"classes_"} if not hasattr(r2d2_tf.R2D2Classifier, name)]


@EACH
def test_it_is_stored_as_it_ran_in_order(path):
    cells = code_cells(path)
    assert path.stat().st_size < _LARGEST
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.get("name") == "stderr"]


@pytest.mark.slow
@EACH
def test_it_runs(path, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="runs notebooks: make .venv/installed-dev")
    import nbformat

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
    book = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(book, timeout=3000, kernel_name="python3", resources=where).execute()
    assert not list(tmp_path.iterdir())
