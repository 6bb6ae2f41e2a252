import csv

import pytest

from r2d2_tf.metrics_log import COLUMNS, MetricsLog, plot_run
from tools.exactness import events_of

ROW = {"run_epoch": 1, "stage": 2, "epoch": 1, "loss": 0.25, "test_error": 12.5, "predicted_classes": [3, 4]}


def test_each_epoch_is_a_row_with_empty_cells_for_what_was_not_measured(tmp_path):
    log = MetricsLog(tmp_path, "metrics.csv", [])
    log.add(ROW)
    log.add({**ROW, "run_epoch": 2, "argmax_changes": 7})
    with (tmp_path / "metrics.csv").open() as file:
        first, second = csv.DictReader(file)
    assert tuple(first) == COLUMNS
    assert (first["loss"], first["test_error"], first["predicted_classes"]) == ("0.25", "12.5", "3 4")
    assert (first["argmax_changes"], second["argmax_changes"]) == ("", "7")


def test_tensorboard_gets_the_same_numbers(tmp_path):
    log = MetricsLog(tmp_path, "metrics.csv", [])
    log.add(ROW)
    log.add({**ROW, "run_epoch": 2, "loss": 0.5})
    assert events_of(tmp_path, "loss") == [(1, 0.25), (2, 0.5)]


def test_a_log_made_again_holds_the_epochs_that_count_and_no_others(tmp_path):
    log = MetricsLog(tmp_path, "metrics.csv", [])
    for epoch in (1, 2, 3):
        log.add({**ROW, "run_epoch": epoch, "loss": epoch / 4})
    log.close()
    # As after a kill: a checkpoint knows of the first epoch alone.
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("4,2,")
    log = MetricsLog(tmp_path, "metrics.csv", [{**ROW, "loss": 0.25}])
    log.add({**ROW, "run_epoch": 2, "loss": 0.75})
    with (tmp_path / "metrics.csv").open() as file:
        assert [(row["run_epoch"], row["loss"]) for row in csv.DictReader(file)] == [("1", "0.25"), ("2", "0.75")]
    assert events_of(tmp_path, "loss") == [(1, 0.25), (2, 0.75)]


def test_a_picture_is_drawn_even_of_one_epoch(tmp_path):
    plot_run([{"run_epoch": 1, "stage": 1, "test_error": 0.0}], "title", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("missing", ["pseudo_label_error", "argmax_changes"])
def test_a_picture_is_drawn_where_hidden_labels_are_unknown(tmp_path, missing):
    rows = [{**ROW, "run_epoch": i, "pseudo_label_error": 5.0, "argmax_changes": 3, "largest_prediction": 0.9} for i in (1, 2)]
    for row in rows:
        del row[missing]
    plot_run(rows, "title", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
