import csv
import itertools

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from r2d2_tf.runs.metrics_log import COLUMNS, MetricsLog, plot_run
from tools.torture.exactness import events_of

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


def test_the_backend_of_who_draws_in_the_same_process_stays(tmp_path):
    pyplot.switch_backend("svg")
    plot_run([ROW], "title", tmp_path / "curves.png")
    assert pyplot.get_backend() == "svg"
    pyplot.switch_backend("agg")


@pytest.mark.parametrize("missing", ["pseudo_label_error", "argmax_changes"])
def test_a_picture_is_drawn_where_hidden_labels_are_unknown(tmp_path, missing):
    rows = [{**ROW, "run_epoch": i, "pseudo_label_error": 5.0, "argmax_changes": 3, "largest_prediction": 0.9} for i in (1, 2)]
    for row in rows:
        del row[missing]
    plot_run(rows, "title", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def drawn(rows, tmp_path, monkeypatch):
    """The figure that plot_run draws, laid out."""
    kept, savefig = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *where, **how: kept.append(figure) or savefig(figure, *where, **how))
    plot_run(rows, "a $x_$ title", tmp_path / "curves.png")
    monkeypatch.undo()
    return kept[0]


def made_rows(errors, stages, **more):
    same = {"largest_prediction": 0.9, **more}
    pairs = enumerate(zip(errors, stages, strict=True), start=1)
    return [{"run_epoch": i, "stage": stage, "test_error": error, **same} for i, (error, stage) in pairs]


def test_errors_of_0_are_in_the_picture(tmp_path, monkeypatch):
    axes = drawn(made_rows([90.0, 5.0, 0.0, 0.5], (1, 2, 2, 3)), tmp_path, monkeypatch).axes[0]
    low, high = axes.get_ylim()
    assert low < 0
    assert high > 90
    heights = axes.transData.transform([(1, 90.0), (2, 5.0), (4, 0.5), (3, 0.0)])[:, 1]
    # As on a logarithmic scale: 0 does not squeeze the others.
    assert (np.diff(heights) < -0.05 * axes.bbox.height).all()
    assert 0.0 in axes.get_yticks()


def test_the_legend_is_beside_the_curves_and_names_what_is_drawn(tmp_path, monkeypatch):
    figure = drawn(made_rows([86.0, 38.0, 79.0], (1, 2, 3)), tmp_path, monkeypatch)
    for axes in figure.axes:
        legend = axes.get_legend()
        assert not legend.get_window_extent().overlaps(axes.get_window_extent())
        assert figure.bbox.containsx(legend.get_window_extent().x1)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["test images"]
    with_all = drawn(made_rows([86.0, 38.0], (1, 2), predicted=1, pseudo_label_error=7.0), tmp_path, monkeypatch)
    assert len(with_all.axes[0].get_legend().get_texts()) == 3


def test_names_of_short_stages_do_not_lie_on_each_other(tmp_path, monkeypatch):
    figure = drawn(made_rows([9.0] * 16, (1,) * 12 + (2,) * 3 + (3,)), tmp_path, monkeypatch)
    names = figure.axes[0].texts
    assert [name.get_text() for name in names] == ["stage 1", "stage 2", "3"]
    places = [name.get_window_extent() for name in names]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(places))


def test_epochs_are_whole_numbers_on_the_axis(tmp_path, monkeypatch):
    axes = drawn(made_rows([9.0, 8.0, 7.0], (1, 2, 3)), tmp_path, monkeypatch).axes[1]
    assert all(tick == int(tick) for tick in axes.get_xticks())
