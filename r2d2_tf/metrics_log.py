"""What a run measures, epoch by epoch: metrics.csv, TensorBoard events, and a picture."""

import csv
import shutil
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from r2d2_tf import files
from r2d2_tf.stages import Stage

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
"""Of metrics.csv. BUILD.md says what each is; an empty cell was not measured in that epoch."""


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
        self.rows = rows
        self._writes = writes
        self._path = folder / file_name
        if not writes:
            self._events = tf.summary.create_noop_writer()
            return
        events = folder / "tensorboard"
        shutil.rmtree(events, ignore_errors=True)
        self._events = tf.summary.create_file_writer(str(events))
        self._write_table()
        for row in rows:
            self._write_events(row)
        self._events.flush()

    def add(self, row: dict[str, Any]) -> None:
        """Adds one epoch; keys are among COLUMNS."""
        self.rows.append(row)
        if not self._writes:
            return
        self._write_table()
        self._write_events(row)
        self._events.flush()

    def close(self) -> None:
        """Ends the events file."""
        self._events.close()

    def _write_table(self) -> None:
        with files.written_whole(self._path) as path, path.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows([_cell(row.get(column)) for column in COLUMNS] for row in self.rows)

    def _write_events(self, row: dict[str, Any]) -> None:
        with self._events.as_default(step=row["run_epoch"]):
            for name, value in row.items():
                if name == "predicted_classes":
                    tf.summary.histogram(name, np.repeat(np.arange(len(value)), value))
                elif name != "run_epoch":
                    tf.summary.scalar(name, value)


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else value


class EpochRecorder(keras.callbacks.Callback):
    """Hands each epoch's logs to the MetricsLog.

    Args:
        log: of the run.
        stage: that is trained.
        first_run_epoch: number, over the whole run, of the stage's first epoch (from 1).
    """

    def __init__(self, log: MetricsLog, stage: Stage, first_run_epoch: int) -> None:
        super().__init__()
        self.log = log
        self.stage = stage
        self.first_run_epoch = first_run_epoch

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        row = {
            "run_epoch": self.first_run_epoch + epoch,
            "stage": self.stage.number,
            "epoch": epoch + 1,
            **logs,
            "predicted_classes": np.rint(logs["predicted_classes"]).astype(int).tolist(),
            "seconds": time.perf_counter() - self._began,
        }
        # Plain numbers: a checkpoint keeps them as text, exactly.
        self.log.add({column: np.asarray(row[column]).tolist() for column in COLUMNS if column in row})


def plot_run(rows: list[dict[str, Any]], title: str, path: Path, *, width: float = 8.0) -> None:
    """Draws error and confidence over the epochs of a run, `width` inches wide, with stages and predictions marked."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, (errors, confidence) = pyplot.subplots(2, 1, sharex=True, figsize=(width, 6), layout="constrained")
    epochs = [row["run_epoch"] for row in rows]
    for axes, lines in (
        (errors, (("test_error", "test images", "C0"), ("pseudo_label_error", "pseudo-labels of unlabeled images", "C1"))),
        (confidence, (("largest_prediction", "prediction", "C0"), ("table_largest_probability", "pseudo-label", "C1"))),
    ):
        for key, label, color in lines:
            # In stage 1 predictions are those of labeled images: no match for what follows.
            shown = [row.get(key, np.nan) if axes is errors or row["stage"] > 1 else np.nan for row in rows]
            axes.plot(epochs, shown, label=label, color=color)
    stage_numbers = sorted({row["stage"] for row in rows})
    for number in stage_numbers:
        own = [row["run_epoch"] for row in rows if row["stage"] == number]
        for axes in (errors, confidence):
            axes.axvspan(own[0] - 0.5, own[-1] + 0.5, color="gray", alpha=0.13 if number == 2 else 0.0, linewidth=0)
        errors.annotate(f"stage {number}", ((own[0] + own[-1]) / 2, 1.02), xycoords=("data", "axes fraction"), ha="center")
    for row in rows:
        if row.get("predicted"):
            for axes in (errors, confidence):
                axes.axvline(row["run_epoch"] - 0.5, color="C3", linestyle=":", linewidth=1)
    errors.plot([], [], color="C3", linestyle=":", linewidth=1, label="pseudo-labels predicted")
    scale = "log" if any(row["test_error"] > 0 for row in rows) else "linear"
    errors.set(ylabel="error (%)", yscale=scale, xlim=(0, epochs[-1] + 1))
    if scale == "log":
        errors.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        errors.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        errors.yaxis.set_minor_formatter(ticker.NullFormatter())
    confidence.set(xlabel="epoch", ylabel="mean largest probability\n(unlabeled images)")
    for axes in (errors, confidence):
        axes.legend(loc="upper right" if axes is errors else "lower left", framealpha=0.9, edgecolor="none")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="gray", alpha=0.2)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
