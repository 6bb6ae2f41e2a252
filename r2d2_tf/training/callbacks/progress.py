"""What a person watching a run sees: a bar with the time left, and a line an epoch."""

import math
import sys
import time

import keras
from tqdm import tqdm

from r2d2_tf.method.metrics import Logs
from r2d2_tf.runs.run_state import RunState
from r2d2_tf.system import terminal
from r2d2_tf.training.callbacks import epoch_table
from r2d2_tf.training.callbacks.evaluation import TOP5_ABOVE_CLASSES
from r2d2_tf.training.stages import Stage
from r2d2_tf.training.timing import work
from r2d2_tf.training.timing.run_progress import RunProgress

_WIDEST_BAR = 100
"""Columns."""
_OFTEN = 0.2
"""Seconds after which the time left is reckoned anew."""
_ROWS_ON_FEATURES = 20
"""Rows of a stage at most, beside those of its predictions, where an epoch takes a fraction of a second."""


class Locator(keras.callbacks.Callback):
    """Keeps `progress.location` true; the first callback in the list, so that what stops a run can be placed."""

    def __init__(self, progress: RunProgress, stage: Stage, state: RunState) -> None:
        super().__init__()
        self.progress, self.stage, self.state = progress, stage, state

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._locate(self.state.step)

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        self._locate(self.state.step + 1)

    def _locate(self, step: int) -> None:
        self.progress.location = self.stage.place(self.state.epoch, step)


class ProgressReport(keras.callbacks.Callback):
    """A progress bar an epoch (on a terminal) and a line after it, on features after several; after all callbacks that measure.

    Args:
        progress: of the run.
        stage: that is trained.
        state: of the run.
        num_classes: of the data set.
        has_hidden_labels: whether the error of pseudo-labels is known.
    """

    def __init__(
        self, progress: RunProgress, stage: Stage, state: RunState, *, num_classes: int, has_hidden_labels: bool
    ) -> None:
        super().__init__()
        self.progress, self.stage, self.state = progress, stage, state
        self._measured = {"has_hidden_labels": has_hidden_labels, "has_top5": num_classes > TOP5_ABOVE_CLASSES}
        self._heading = ""
        self._seconds = 0.0
        self._epochs_a_row = math.ceil(stage.epochs / _ROWS_ON_FEATURES) if stage.on_features else 1

    def print_heading(self) -> None:
        """Prints the stage and the titles of the columns."""
        stage, each = self.stage, self._epochs_a_row
        how = f", a line for every {each} epochs" if each > 1 else ""
        print(f"\nStage {stage.number} of {self.progress.stages[-1].number}: {stage.words.title}{how}")
        self._columns()
        self.progress.go_to(self.state)
        self._kind_before = ""

    def _columns(self) -> list[epoch_table.Column]:
        """Those that the terminal has room for, as wide as it is now; prints their titles where they are others than before."""
        columns = epoch_table.columns_of(self.stage, **self._measured, width=terminal.columns())
        if (heading := epoch_table.heading(columns)) != self._heading:
            self._heading = heading
            print(heading, flush=True)
        return columns

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        stage, progress = self.stage, self.progress
        self._began = self._told = time.perf_counter()
        if epoch in stage.prediction_epochs and not self.state.step:
            progress.done(work.PREDICTION, stage)
        # disable=None: no bar where the output is a file.
        self._bar = tqdm(
            total=progress.steps[stage.number],
            bar_format="{desc} |{bar}| {n_fmt}/{total_fmt} steps{postfix}",
            ncols=_width_of_bar(),
            initial=self.state.step,
            desc=f" {self._epoch_text(epoch)}",
            leave=False,
            disable=None,
        )
        self._kind = work.HEAD_STEP if epoch < stage.head_epochs else work.STEP
        progress.restart_clock()

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        # The first step of a kind is traced.
        self.progress.done(self._kind, self.stage, is_first=self._kind != self._kind_before)
        self._kind_before = self._kind
        if not self._bar.disable and time.perf_counter() - self._told > _OFTEN:
            self._told = time.perf_counter()
            self._bar.set_postfix_str(f"run: {self.progress.time_left()} left", refresh=False)
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self.progress.done(work.EPOCH_END, self.stage)
        self._bar.close()
        self._seconds += time.perf_counter() - self._began
        if logs["predicted"] or (epoch + 1) % self._epochs_a_row == 0 or epoch + 1 == self.stage.epochs:
            self._print_row(epoch, logs)
        self.progress.restart_clock()

    def _print_row(self, epoch: int, logs: Logs) -> None:
        columns = self._columns()
        if logs["predicted"]:
            changes = logs.get("argmax_changes")
            print("     pseudo-labels predicted" + ("" if changes is None else f" anew: {changes:,} changed class"))
        texts = {"epoch": self._epoch_text(epoch), "time_left": self.progress.time_left()}
        print(epoch_table.row(columns, {**logs, **texts, "seconds": self._seconds}), flush=True)
        self._seconds = 0.0

    def _epoch_text(self, epoch: int) -> str:
        return f"{epoch + 1:{len(str(self.stage.epochs))}}/{self.stage.epochs}"

    def close(self) -> None:
        """Removes an unfinished bar from the terminal."""
        if hasattr(self, "_bar"):
            self._bar.close()


def _width_of_bar() -> int | None:
    """A bar that filled the last column would make a terminal begin another line."""
    width = terminal.columns(sys.stderr)
    return None if width is None else min(_WIDEST_BAR, width - 1)
