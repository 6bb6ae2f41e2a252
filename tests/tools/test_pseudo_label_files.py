import csv
import json

import numpy as np
import pytest
from conftest import softmax
from pyarrow import parquet

from tools import pseudo_labels
from tools.shared import row_history, saved_table


@pytest.fixture(scope="module")
def known(finished_run):
    """What is to be found in each format: logits, given labels, ids and flips."""
    with np.load(finished_run / "pseudo_labels.npz") as saved:
        arrays = {name: saved[name] for name in saved.files}
    moves = row_history.read(finished_run / "predictions.npz", num_rows=4000, num_classes=10)
    arrays["flips"] = moves.flips_of_all(4000)
    return arrays


def written(finished_run, path, *flags):
    assert pseudo_labels.main([f"--run_dir={finished_run}", f"--out={path}", *flags]) == 0
    return path


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    # 4,000 rows in many parts, the last one short.
    monkeypatch.setattr(saved_table, "_CHUNK_BYTES", 4 * 10 * 300)


def check_rows(rows, known, *, soft):
    p = softmax(known["pseudo_logits"].astype(float))
    order = np.argsort(-known["pseudo_logits"], axis=1, kind="stable")
    ranked = np.take_along_axis(p, order, 1)
    assert [row["file"] for row in rows] == known["ids"].tolist()
    for k, name in enumerate(["", "_2", "_3", "_4"]):
        assert [row[f"label{name}"] for row in rows] == [str(c) for c in order[:, k]]
        np.testing.assert_allclose([float(row[f"probability{name}"]) for row in rows], ranked[:, k], rtol=1e-4, atol=1e-30)
    np.testing.assert_allclose([float(row["margin"]) for row in rows], ranked[:, 0] - ranked[:, 1], rtol=1e-4, atol=1e-6)
    entropy = -(p * np.log(p)).sum(1)
    np.testing.assert_allclose([float(row["entropy"]) for row in rows], entropy, rtol=1e-3, atol=1e-6)
    given = [row["given_label"] or None for row in rows]
    assert given == [None if c < 0 else str(c) for c in known["given_labels"]]
    flips = [None if row["flips"] in (None, "") else int(row["flips"]) for row in rows]
    assert flips == [None if c < 0 else c for c in known["flips"].tolist()]
    if soft:
        of_all = [row.get("probabilities") or [row[f"probability_of_{c}"] for c in range(10)] for row in rows]
        np.testing.assert_allclose(np.array(of_all, float), p, rtol=1e-4, atol=1e-30)


def test_csv_has_what_the_table_says(finished_run, known, tmp_path):
    path = written(finished_run, tmp_path / "labels.csv", "--top_k=4", "--soft")
    with path.open(newline="") as file:
        check_rows(list(csv.DictReader(file)), known, soft=True)


def test_parquet_has_what_the_table_says_and_the_classes(finished_run, known, tmp_path):
    path = written(finished_run, tmp_path / "labels.parquet", "--top_k=4", "--soft")
    check_rows(parquet.read_table(path).to_pylist(), known, soft=True)
    assert json.loads(parquet.read_schema(path).metadata[b"class_names"]) == [str(c) for c in range(10)]
    assert parquet.ParquetFile(path).num_row_groups == 14


def test_npz_has_numbers_in_place_of_names(finished_run, known, tmp_path):
    path = written(finished_run, tmp_path / "new" / "labels.npz", "--top_k=2", "--soft")
    assert [file.name for file in path.parent.iterdir()] == ["labels.npz"]
    with np.load(path) as saved:
        assert saved["class_names"][saved["label"]].tolist() == [str(c) for c in known["pseudo_logits"].argmax(1)]
        np.testing.assert_array_equal(saved["given_label"], known["given_labels"])
        np.testing.assert_array_equal(saved["flips"], known["flips"])
        np.testing.assert_array_equal(saved["files"], known["ids"])
        np.testing.assert_allclose(saved["probabilities"].sum(1), 1, rtol=1e-5)
        np.testing.assert_array_equal(saved["probabilities"].max(1), saved["probability"])
        assert saved["top_probabilities"].shape == (4000, 2)


def test_without_soft_there_are_no_probabilities_of_all_classes(finished_run, tmp_path):
    header = written(finished_run, tmp_path / "labels.csv", "--top_k=1").read_text().splitlines()[0]
    assert header == "file,label,split,probability,entropy,margin,given_label,flips"
    assert "probabilities" not in np.load(written(finished_run, tmp_path / "labels.npz")).files


def test_a_table_is_read_part_by_part(finished_run):
    table = saved_table.read(finished_run / "pseudo_labels.npz")
    sizes = [
        len(part["files"]) for part in pseudo_labels.PseudoLabels(table, np.zeros(4000, int), "0123456789", 3, False).parts()
    ]
    assert sizes == [300] * 13 + [100]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run_dir=x"], "must end in one of .csv, .parquet, .npz"),
        (["--run_dir=x", "--out=labels.xls"], "must end in one of"),
        (["--out=labels.csv"], "--run_dir=runs/NAME"),
        (["--run_dir=nowhere", "--out=labels.csv"], "nowhere is not the folder of a run"),
        (["--run_dir=x", "--out=labels.csv", "--top_k=0"], "top_k"),
    ],
)
def test_bad_input_is_one_line(arguments, message, capsys):
    assert pseudo_labels.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
