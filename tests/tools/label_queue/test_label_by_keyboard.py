"""A hundred images of a run, labelled on the page with one key each."""

import contextlib
import io
import json
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import browser
import pytest
from conftest import ROOT

from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.data.labels.matching import labels_in, read_labels
from tools.label_queue import __main__ as label_queue
from tools.shared import saved_table

COUNT = 100
UNSURE, NONE = ".", ","


@dataclass(frozen=True)
class Labelled:
    """A run, its queue as a person filled it in, the keys that were pressed, and what the command had printed."""

    run: Path
    queue: Path
    keys: list[str]
    printed: str


@pytest.fixture(scope="module")
def labelled(finished_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    run = Path(shutil.copytree(finished_run, folder / "run"))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert label_queue.main([f"--run_dir={run}", f"--count={COUNT}"]) == 0
    data = DATASETS["mnist5k"].load(None)
    known = dict(zip(data.train_ids, data.train_labels.tolist(), strict=True))
    queue = run / "queue.csv"
    files = read_labels(queue).files[:COUNT]
    keys = [UNSURE if i % 20 == 3 else NONE if i % 20 == 7 else str(known[file]) for i, file in enumerate(files)]
    half, page = COUNT // 2, (run / "queue.html").as_uri()
    with browser.opened(folder / "profile") as first:
        first.get(page)
        browser.press(first, *keys[:half])
    with browser.opened(folder / "profile", downloads=folder) as second:
        second.get(page)
        assert second.find_element("id", "place").text == f"Image {half + 1} of {COUNT}"
        assert second.find_element("id", "status").text.startswith(f"{half} of {COUNT} answered (3 unsure, 3 none of these)")
        browser.press(second, *keys[half:])
        assert second.find_element("id", "place").text == "The end"
        saved = browser.saved(second, folder / "queue.csv")
        assert browser.requests_of(second) == [page]
        assert second.get_log("browser") == []
    queue.write_bytes(saved.read_bytes())
    return Labelled(run, queue, keys, printed.getvalue())


def test_a_hundred_images_take_a_key_each_and_outlive_the_page(labelled):
    table, run = read_labels(labelled.queue), saved_table.read(labelled.run / "pseudo_labels.npz")
    said = [key if key.isdigit() else "" for key in labelled.keys]
    assert table.labels[:COUNT] == said
    assert labelled.keys.count(UNSURE) == labelled.keys.count(NONE) == 5
    given = labels_in(table, run.ids.tolist(), [str(number) for number in range(10)])
    assert (given >= 0).sum() == len(run.labeled_rows) + COUNT - 10
    assert (given[run.labeled_rows] == run.labels[run.labeled_rows]).all()


@pytest.mark.slow
def test_the_printed_command_trains_on_from_the_run(labelled):
    command = shlex.split(labelled.printed.splitlines()[-1].strip())
    assert any(word.startswith("--warm_start=") for word in command)
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    [later] = (Path(word.removeprefix("--run_dir=")) for word in command if word.startswith("--run_dir="))
    assert json.loads((later / "summary.json").read_text())["num_labels"] == 100 + COUNT - 10
    labels = read_labels(later / "labeled.csv").labels
    assert len(labels) == 100 + COUNT - 10
