"""What a run measures, epoch by epoch: metrics.csv, TensorBoard events, and a picture. Reading needs no TensorFlow."""

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from r2d2_tf.system import spreadsheets

COLUMNS = (
    "run_epoch",
    "stage",
    "epoch",
    "learning_rate",
    "loss",
    "class_loss",
    "entropy",
    "test_error",
    "test_top5_error",
    "pseudo_label_error",
    "largest_prediction",
    "largest_pseudo_label",
    "table_largest_probability",
    "flat_rows",
    "row_sum_drift",
    "predicted",
    "argmax_changes",
    "class_histogram_distance",
    "predicted_classes",
    "seconds",
)
"""Of metrics.csv. docs/run.md says what each is; an empty cell was not measured in that epoch."""
_WIDTH = 8.0
"""Of a picture, in inches; a narrower one has its legends in one column."""
_MOST_POINTS = 30
"""Epochs from which a curve is drawn without a point for each."""
_ROOM_FOR_A_NAME = 0.16
"""Share of the picture's width that the name of a stage needs beside another's; else its number alone stands there."""


class MetricsLog:
    """Keeps one row an epoch in metrics.csv and in TensorBoard events.

    Made again for a run that goes on, it writes both anew from the rows that the run has: what was written of epochs that
    will be trained again is gone.

    Args:
        folder: of the run.
        file_name: of the table in it.
        rows: of the epochs that are done; `add` appends to this list. Values are plain numbers and lists.
        writes: whether there are to be files; else only the rows are kept.
    """

    def __init__(self, folder: Path, file_name: str, rows: list[dict[str, Any]], *, writes: bool = True) -> None:
        import tensorflow as tf

        self.rows, self._writes, self._path = rows, writes, folder / file_name
        self._events = tf.summary.create_noop_writer()
        if writes:
            events = folder / "tensorboard"
            shutil.rmtree(events, ignore_errors=True)
            self._events = tf.summary.create_file_writer(str(events))
        self._write(rows)

    def add(self, row: dict[str, Any]) -> None:
        """Adds one epoch; keys are among COLUMNS."""
        self.rows.append(row)
        self._write([row])

    def close(self) -> None:
        """Ends the events file."""
        self._events.close()

    def _write(self, new: list[dict[str, Any]]) -> None:
        """Writes the table anew, and the events of new rows."""
        import tensorflow as tf

        if not self._writes:
            return
        spreadsheets.write(self._path, [COLUMNS, *([_cell(row.get(column)) for column in COLUMNS] for row in self.rows)])
        for row in new:
            with self._events.as_default(step=row["run_epoch"]):
                for name, value in row.items():
                    if name == "predicted_classes":
                        tf.summary.histogram(name, np.repeat(np.arange(len(value)), value))
                    elif name != "run_epoch":
                        tf.summary.scalar(name, value)
        self._events.flush()


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else value


_WHOLE = ("run_epoch", "stage", "epoch", "predicted")
_PERCENT = ("test_error", "test_top5_error", "pseudo_label_error")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.csv, one an epoch that is done; what was not measured in it is left out, and so are lists.

    Raises:
        ValueError: if the file is not there or is damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [
                {name: int(cell) if name in _WHOLE else float(cell) for name, cell in line.items() if _is_number(cell)}
                for line in csv.DictReader(file)
            ]
        if not all({"run_epoch", "stage", "test_error"} <= row.keys() for row in rows):
            raise ValueError("it lacks columns, or cells of an epoch")
        if not all(0 <= row[name] <= 100 for row in rows for name in _PERCENT if name in row):
            raise ValueError("an error in it is none of 0 to 100 percent")
    except (OSError, ValueError, AttributeError, TypeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as what a run measured: {error}; make the run again") from error
    return rows


def _is_number(cell: str) -> bool:
    return bool(cell) and " " not in cell


def plot_run(
    rows: list[dict[str, Any]],
    title: str,
    path: Path,
    *,
    width: float = _WIDTH,
    intervals: Sequence[tuple[float, float]] | None = None,
) -> None:
    """Draws error and confidence over the epochs of a run, `width` inches wide, with stages and predictions marked.

    `intervals` are of the test error in each row, lowest and highest in percent.
    """
    # Not by pyplot: it is the user's, who may draw by another backend in the same process.
    from matplotlib import ticker
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 6), layout="constrained")
    errors, confidence = figure.subplots(2, 1, sharex=True)
    epochs = [row["run_epoch"] for row in rows]
    # A stage of one epoch is a point, not a line.
    marker = "o" if len(epochs) < _MOST_POINTS else ""
    for axes, lines in (
        (errors, (("test_error", "test images", "C0"), ("pseudo_label_error", "pseudo-labels", "C1"))),
        (confidence, (("largest_prediction", "prediction", "C0"), ("table_largest_probability", "pseudo-label", "C1"))),
    ):
        for key, label, color in lines:
            # In stage 1 predictions are those of labeled images: no match for what follows.
            shown = [row.get(key, np.nan) if axes is errors or row["stage"] > 1 else np.nan for row in rows]
            if not np.isnan(shown).all():
                axes.plot(epochs, shown, label=label, color=color, marker=marker, markersize=3)
    is_narrow = width < _WIDTH
    _mark_stages(rows, errors, confidence, room=_ROOM_FOR_A_NAME * max(1.0, _WIDTH / width))
    scale_errors(errors, [row[key] for row in rows for key in ("test_error", "pseudo_label_error") if key in row])
    if intervals is not None:
        errors.fill_between(epochs, *np.transpose(intervals), color="C0", alpha=0.18, linewidth=0, label="95 % interval")
    errors.set(ylabel="error (%)", xlim=(0, epochs[-1] + 1))
    errors.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    confidence.set(xlabel="epoch", ylabel="mean largest probability\n(unlabeled images)")
    for axes, height in ((errors, 1.1), (confidence, 1.02)):
        if axes.get_legend_handles_labels()[0]:
            # Beside the curves, not over them.
            axes.legend(
                loc="lower left", bbox_to_anchor=(0, height), ncols=1 if is_narrow else 2, borderaxespad=0, frameon=False
            )
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="gray", alpha=0.2)
    figure.suptitle(title.replace("$", r"\$"))
    figure.savefig(path, dpi=120)


def _mark_stages(rows: list[dict[str, Any]], errors: Any, confidence: Any, *, room: float) -> None:
    """Names the stages, tints the second, and draws a line at each prediction of the pseudo-labels.

    A stage whose name is within `room` of another's, a share of all epochs, has its number alone.
    """
    before = -np.inf
    for number in sorted({row["stage"] for row in rows}):
        own = [row["run_epoch"] for row in rows if row["stage"] == number]
        middle = (own[0] + own[-1]) / 2
        for axes in (errors, confidence):
            axes.axvspan(own[0] - 0.5, own[-1] + 0.5, color="gray", alpha=0.13 if number == 2 else 0.0, linewidth=0)
        name = f"stage {number}" if middle - before > room * rows[-1]["run_epoch"] else str(number)
        errors.annotate(name, (middle, 1.02), xycoords=("data", "axes fraction"), ha="center")
        before = middle
    predicted = [row["run_epoch"] - 0.5 for row in rows if row.get("predicted")]
    for axes in (errors, confidence):
        for place in predicted:
            axes.axvline(place, color="C3", linestyle=":", linewidth=1)
    if predicted:
        errors.plot([], [], color="C3", linestyle=":", linewidth=1, label="pseudo-labels predicted")


def scale_errors(axes: Any, errors: Sequence[float]) -> None:
    """A logarithmic scale with plain numbers; an error of 0 has a place below the least other one."""
    from matplotlib import ticker

    least = min((error for error in errors if error > 0), default=None)
    if least is None:
        axes.set_ylim(-1, 100)
        return
    has_zero = min(errors) <= 0
    if has_zero:
        axes.set_yscale("symlog", linthresh=least)
        axes.set_ylim(-0.1 * least, 1.2 * max(errors))
        largest = int(np.ceil(np.log10(max(errors)))) + 1
        ticks = [number * 10.0**power for power in range(int(np.floor(np.log10(least))), largest) for number in (1, 2, 5)]
        axes.yaxis.set_major_locator(ticker.FixedLocator([0.0, *(tick for tick in ticks if tick >= least)]))
    else:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
