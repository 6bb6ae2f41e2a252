"""The table that a run prints, a row an epoch: which columns fit a terminal, and what is in them. Pure functions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from r2d2_tf.training.stages import Stage

Measured = Mapping[str, Any]
"""What was measured of an epoch, by name, and the texts `epoch` and `time_left`."""
_KEPT = 100
"""Rank of a column that is in every table."""
_GAP = "  "


class Column(NamedTuple):
    """A column of the table.

    Attributes:
        title: above it.
        width: of its cells, at least.
        rank: where the terminal is too narrow, columns of the lowest rank are left out first.
        cell: what is in it; "-" where that was not measured.
    """

    title: str
    width: int
    rank: int
    cell: Callable[[Measured], str]


def columns_of(stage: Stage, *, has_hidden_labels: bool, has_top5: bool, width: int | None) -> list[Column]:
    """The columns of a stage's table that a terminal of so many columns has room for; None: all of them.

    What says the same as another column, or nothing, has none of its own: where no pseudo-labels are learned, the class loss is
    the loss.
    """
    epoch = 2 * len(str(stage.epochs)) + 1
    found = [
        Column("epoch", epoch, _KEPT, lambda logs: logs["epoch"]),
        Column("rate", 8, 3, _number("learning_rate", "{:.3g}")),
        Column("loss", 6, 7, _loss("loss")),
        *([Column("class", 6, 5, _loss("class_loss"))] if stage.learn_pseudo_labels else []),
        Column("entropy", 6, 4, _loss("entropy")),
        Column("test error", 8, _KEPT, _number("test_error", "{:.2f} %")),
        *([Column("top-5 error", 8, 2, _number("test_top5_error", "{:.2f} %"))] if has_top5 else []),
        *(
            [Column("pseudo-label error", 8, 6, _number("pseudo_label_error", "{:.2f} %"))]
            if has_hidden_labels and stage.images.use_unlabeled
            else []
        ),
        Column("confidence", 5, 0, _number("largest_prediction", "{:.3f}")),
        Column("seconds", 7, 1, _number("seconds", "{:.1f}")),
        Column("time left", 12, _KEPT, lambda logs: logs["time_left"]),
    ]
    while width is not None and width_of(found) > width and (least := min(found, key=lambda column: column.rank)).rank < _KEPT:
        found.remove(least)
    return found


def width_of(columns: Sequence[Column]) -> int:
    """Characters of a row."""
    return len(heading(columns))


def heading(columns: Sequence[Column]) -> str:
    """The titles."""
    return _line(columns, [column.title for column in columns])


def row(columns: Sequence[Column], logs: Measured) -> str:
    """An epoch."""
    return _line(columns, [column.cell(logs) for column in columns])


def _line(columns: Sequence[Column], cells: Sequence[str]) -> str:
    widths = (max(column.width, len(column.title)) for column in columns)
    return " " + _GAP.join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))


def _number(name: str, form: str) -> Callable[[Measured], str]:
    return lambda logs: form.format(logs[name]) if name in logs else "-"


def _loss(name: str) -> Callable[[Measured], str]:
    """Six characters, whatever the loss is."""

    def cell(logs: Measured) -> str:
        value = float(logs[name])
        if abs(value) >= 1e5:
            return f"{value:.0e}"
        return f"{value:.4f}" if abs(value) < 9.99995 else f"{value:.5g}"

    return cell
