"""Which given labels a run's learned rows make doubtful."""

import csv
import dataclasses
import json
import shlex
import shutil

import numpy as np
import pytest

from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.data.datasets import DATASETS
from tools import suspects
from tools.shared.labelling.given_labels import given_lines


@pytest.fixture
def run_with_wrong_labels(finished_run, tmp_path):
    """Its folder: five labels are wrong, and their learned rows say so; and the ids of those images."""
    run = shutil.copytree(finished_run, tmp_path / "run")
    with (run / "config.cfg").open("a") as file:
        file.write("--learn_labeled_rows\n")
    with np.load(run / "pseudo_labels.npz") as table:
        arrays = {name: table[name] for name in table.files}
    given, wrong = arrays["given_labels"], np.flatnonzero(arrays["given_labels"] >= 0)[3:8]
    arrays["pseudo_logits"][wrong, given[wrong]] = np.arange(5.0, 0.0, -1.0)
    given[wrong] = (given[wrong] + 1) % 10
    np.savez(run / "pseudo_labels.npz", **arrays)
    return run, arrays["ids"][wrong].tolist()


def test_labels_that_their_rows_have_left_come_first_and_are_counted(run_with_wrong_labels, capsys):
    run, wrong = run_with_wrong_labels
    assert suspects.main([f"--run_dir={run}", "--count=5"]) == 0
    with (run / "suspects.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["file"] for line in lines[:5]] == wrong
    assert [line["file"] for line in lines if line["learned"] != line["given"]] == wrong
    assert len(lines) == 100
    out = capsys.readouterr().out
    assert "\n5 rows say another class than was given.\n" in out
    assert "\n5 given labels are wrong; average precision of this order: 1.000\n" in out


def test_the_page_asks_about_the_doubtful_and_saves_all_labels(run_with_wrong_labels, capsys):
    run, wrong = run_with_wrong_labels
    assert suspects.main([f"--run_dir={run}", "--count=2"]) == 0
    page = json.loads((run / "suspects.html").read_text().split('id="data">')[1].split("</script>")[0])
    # Those whose row says another class, though fewer are printed.
    assert [item["cells"][0] for item in page["items"]] == wrong
    lines = [*(item["cells"] for item in page["items"]), *page["rest"]]
    with np.load(run / "pseudo_labels.npz") as table:
        rows = np.flatnonzero(table["given_labels"] >= 0)
        given = dict(zip(table["ids"][rows].tolist(), table["given_labels"][rows].tolist(), strict=True))
    assert {line[0]: int(line[1]) for line in lines} == given
    first = page["items"][0]
    assert first["why"] == f"given: {first['likely'][0]}; the run learned {first['likely'][1]}"
    assert [extra["text"] for extra in page["extras"]] == ["Keep", "Drop the label"]
    command = shlex.split(capsys.readouterr().out.splitlines()[-1])
    config = from_command_line(command[3:])
    assert config.labels == str(run / "mended.csv")
    assert (config.num_labels, config.warm_start, config.learn_labeled_rows) == (0, "", True)


def test_true_classes_are_found_by_id_where_the_data_set_holds_more_images_than_the_run(
    run_with_wrong_labels, monkeypatch, capsys
):
    spec = DATASETS["mnist5k"]

    def load(data_dir):
        data = spec.load(data_dir)
        images, labels = (np.concatenate([values[-1:], values]) for values in (data.train_images, data.train_labels))
        return dataclasses.replace(data, train_images=images, train_labels=labels, train_ids=["unreadable", *data.train_ids])

    monkeypatch.setitem(DATASETS, "mnist5k", dataclasses.replace(spec, load=load))
    assert suspects.main([f"--run_dir={run_with_wrong_labels[0]}"]) == 0
    assert "\n5 given labels are wrong; average precision of this order: 1.000\n" in capsys.readouterr().out


def test_a_run_whose_labeled_rows_were_clamped_is_one_line(finished_run, capsys):
    assert suspects.main([f"--run_dir={finished_run}"]) == 2
    error = capsys.readouterr().err
    assert "were not learned: train with --learn_labeled_rows" in error
    assert error.count("\n") == 1


def test_labels_of_a_run_that_somebody_cut_are_one_line(tmp_path):
    (tmp_path / "labeled.csv").write_text("file,label\na,b\n")
    with pytest.raises(ValueError, match=r"labeled\.csv is damaged: it lacks the column split"):
        given_lines(tmp_path, None, ["b"])
