"""Callbacks: reprediction, evaluation, what the table shows, and checkpoints.

None keeps anything from one epoch or step to the next but in the RunState, so a run can begin at any step. Each adds what
it measured to the epoch's logs, where the callbacks after it in the list find it.
"""

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from r2d2_tf.collapse import labeled_shares
from r2d2_tf.history import PredictionHistory
from r2d2_tf.pseudo_labels import PseudoLabelTable
from r2d2_tf.run_state import RunState
from r2d2_tf.stages import Stage
from r2d2_tf.workers import Batches

Logs = dict[str, Any]


TOP5_ABOVE_CLASSES = 20
"""With so few classes or fewer, the top-5 error says nothing."""
_CHEAP = 0.02
"""Share of a run's time that checkpoints may take beyond those that --checkpoint_minutes asks for."""


class EpochMeans(keras.callbacks.Callback):
    """Puts what the model measured into the logs of each epoch, under the metrics' names."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        logs.update(self.model.get_metrics_result())


class HeadFirst(keras.callbacks.Callback):
    """In the first epochs of a stage, as many as it says, has the network's head be trained alone."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self.model.train_head_alone(epoch < self.stage.head_epochs)


class RepetitiveReprediction(keras.callbacks.Callback):
    """R2: before the epochs that the stage names, the network's predictions replace the unlabeled rows.

    The learning rate drops with them: both are functions of the epoch, from the stage's rounds.
    Logs `learning_rate`; `predicted`, whether the epoch began with a prediction (0 or 1); and, if it did and the rows
    had been predicted before, `argmax_changes`: how many rows changed their largest class.

    How the rows compared with the predictions that replaced them goes into the history, and so does, after the last
    epoch of a stage that learns them, how they compare with the network then.

    Args:
        stage: gives the learning rate of each epoch and the epochs to predict before.
        batches: (unaugmented images, rows) of all unlabeled images.
        history: of the run.
        state: of the run.
    """

    def __init__(self, stage: Stage, batches: Batches, history: PredictionHistory, state: RunState) -> None:
        super().__init__()
        self.stage = stage
        self.batches = batches
        self.history = history
        self.state = state

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self.model.optimizer.learning_rate.assign(self.stage.learning_rates[epoch])
        if self.state.step:
            return
        self.state.argmax_changes = None
        if epoch in self.stage.prediction_epochs:
            self.state.consistent = False
            self.state.argmax_changes = self.model.repredict(self.batches)
            self._remember(epoch, replaced=True, first=self.stage.predicts_first_at(epoch))

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.stage.learn_pseudo_labels:
            self.model.compare(self.batches)
            self._remember(self.stage.epochs, replaced=False, first=False)

    def _remember(self, epoch: int, *, replaced: bool, first: bool) -> None:
        values = self.model.table.notes(self.history.rows)
        self.history.add(values, stage=self.stage.number, epoch=epoch, replaced=replaced, first=first)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        logs["learning_rate"] = self.stage.learning_rates[epoch]
        changes = self.state.argmax_changes
        logs["predicted"] = int(changes is not None)
        if changes is not None and not self.stage.predicts_first_at(epoch):
            logs["argmax_changes"] = changes


class Evaluation(keras.callbacks.Callback):
    """Logs `test_error` and `evaluated_classes` after each epoch, and with many classes `test_top5_error`.

    Errors are in percent, and nothing reads them but people; the classes are how many test images were given each.

    Args:
        batches: (images, true classes).
        num_images: how many images the batches hold.
    """

    def __init__(self, batches: Batches, num_images: int) -> None:
        super().__init__()
        self.batches = batches
        self.num_images = num_images

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        errors, top5_errors, logs["evaluated_classes"] = self.model.evaluate_images(self.batches)
        logs["test_error"] = 100.0 * errors / self.num_images
        if len(logs["evaluated_classes"]) > TOP5_ABOVE_CLASSES:
            logs["test_top5_error"] = 100.0 * top5_errors / self.num_images


class Diagnostics(keras.callbacks.Callback):
    """Logs after each epoch what the predictions and the unlabeled rows look like.

    Adds `class_histogram_distance`, how far the classes predicted in the epoch are from those of the labeled images
    (total variation, 0..1), and, where unlabeled images are trained on, `table_statistics`.

    Args:
        stage: tells whether the table is in use.
        table: the pseudo-labels.
        hidden_labels: true classes `[rows]`, -1 where they are not known, or None. For reports only.
    """

    def __init__(self, stage: Stage, table: PseudoLabelTable, hidden_labels: np.ndarray | None) -> None:
        super().__init__()
        self.stage = stage
        self.table = table
        self.hidden_labels = hidden_labels

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        counts = np.asarray(logs["predicted_classes"])
        shares = counts / max(1.0, counts.sum())
        logs["class_histogram_distance"] = 0.5 * float(np.abs(shares - labeled_shares(self.table)).sum())
        if self.stage.use_unlabeled:
            logs.update(table_statistics(self.table, self.hidden_labels))


def table_statistics(table: PseudoLabelTable, hidden_labels: np.ndarray | None) -> Logs:
    """What the unlabeled rows look like, read in chunks.

    Returns:
        `table_largest_probability`, its mean over the rows (theorem 2: it stays below the predictions');
        `flat_rows`, the share (0..1) of rows in which no class has half of the probability;
        `row_sum_drift`, the largest |change| of a row's sum since its last prediction (eq. 12-13: rounding alone);
        `pseudo_label_error` in percent of the rows whose hidden label is known, if there are any.
    """
    largest = flat = wrong = known = drift = 0.0
    for rows, logits in table.walk(table.unlabeled_rows):
        probabilities = np.exp(logits - logits.max(1, keepdims=True))
        top = 1.0 / probabilities.sum(1)
        largest += float(top.sum())
        flat += float((top < 0.5).sum())
        drift = max(drift, float(np.abs(logits.sum(1) - table.predicted_sums(rows)).max()))
        if hidden_labels is not None:
            hidden = hidden_labels[rows]
            known += float((hidden >= 0).sum())
            wrong += float(((logits.argmax(1) != hidden) & (hidden >= 0)).sum())
    count = max(1, len(table.unlabeled_rows))
    statistics = {"table_largest_probability": largest / count, "flat_rows": flat / count, "row_sum_drift": drift}
    if hidden_labels is not None:
        statistics["pseudo_label_error"] = 100.0 * wrong / max(1.0, known)
    return statistics


class RunCheckpoint(keras.callbacks.Callback):
    """Keeps the place of the run true and saves it; the last callback in the list.

    A checkpoint is written when `minutes` have gone since the last one; at the end of an epoch if that is cheap (the last
    one took less than a fiftieth of the time since then); and always before the pseudo-labels are predicted, as a prediction
    that is interrupted cannot be gone back from. After each step a stop that was asked for takes place.

    Args:
        stage: that is trained.
        steps: in an epoch.
        state: of the run.
        save: writes a checkpoint.
        minutes: between checkpoints, at most.
        ask: whether to stop and whether to save, as all processes agree: takes whether this one would save, and returns
            whether all do; raises RunInterrupted where a stop was asked for.
    """

    def __init__(
        self, stage: Stage, steps: int, state: RunState, save: Callable[[], None], minutes: float, ask: Callable[[bool], bool]
    ) -> None:
        super().__init__()
        self.stage = stage
        self.steps = steps
        self.state = state
        self.save = save
        self.minutes = minutes
        self.ask = ask
        self._saved = time.monotonic()
        self._cost = 0.0

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self.state.step += 1
        self.state.consistent = True
        # An epoch that is resumed has fewer steps than Keras was told.
        self.model.stop_training = self.state.step == self.steps
        if self.ask(time.monotonic() - self._saved >= 60 * self.minutes):
            self._save()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.model.stop_training = False
        self.state.begin_epoch()
        since = time.monotonic() - self._saved
        if self.ask(
            self.state.epoch in self.stage.prediction_epochs or self._cost < _CHEAP * since or since >= 60 * self.minutes
        ):
            self._save()

    def _save(self) -> None:
        began = time.monotonic()
        self.save()
        self._saved = time.monotonic()
        self._cost = self._saved - began
        self.ask(False)
