import csv

import numpy as np
import pytest

from r2d2_tf.metrics_log import COLUMNS, MetricsLog, plot_run

ROW = {"run_epoch": 1, "stage": 2, "epoch": 1, "loss": 0.25, "test_error": 12.5, "predicted_classes": np.array([3.0, 4.0])}


def test_each_epoch_is_a_row_with_empty_cells_for_what_was_not_measured(tmp_path):
    log = MetricsLog(tmp_path, "metrics.csv")
    log.add(ROW)
    log.add({**ROW, "run_epoch": 2, "argmax_changes": 7})
    with (tmp_path / "metrics.csv").open() as file:
        first, second = csv.DictReader(file)
    assert tuple(first) == COLUMNS
    assert (first["loss"], first["test_error"], first["predicted_classes"]) == ("0.25", "12.5", "3 4")
    assert (first["argmax_changes"], second["argmax_changes"]) == ("", "7")


def test_tensorboard_gets_the_same_numbers(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = MetricsLog(tmp_path, "metrics.csv")
    log.add(ROW)
    log.add({**ROW, "run_epoch": 2, "loss": 0.5})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    from tensorboard.util.tensor_util import make_ndarray

    values = [(event.step, float(make_ndarray(event.tensor_proto))) for event in events.Tensors("loss")]
    assert values == [(1, 0.25), (2, 0.5)]
    assert "predicted_classes" in events.Tags()["tensors"]


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
