"""Callbacks: reprediction, evaluation, what the table shows, the stop at a collapse, and checkpoints.

None keeps anything from one epoch or step to the next but in the RunState, so a run can begin at any step. Each adds what
it measured to the epoch's logs, where the callbacks after it in the list find it.
"""

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from r2d2_tf.history import PredictionHistory
from r2d2_tf.interrupts import StopSignals
from r2d2_tf.pseudo_labels import PseudoLabelTable
from r2d2_tf.run_state import RunState
from r2d2_tf.stages import Stage

Logs = dict[str, Any]


TOP5_ABOVE_CLASSES = 20
"""With so few classes or fewer, the top-5 error says nothing."""
_ENOUGH_A_CLASS = 100
"""Predictions a class from which a collapse can be told in the middle of an epoch."""
_CHEAP = 0.02
"""Share of a run's time that checkpoints may take beyond those that --checkpoint_minutes asks for."""


class RunStopped(RuntimeError):
    """Training cannot go on; the message says where it stopped and what to change.

    Attributes:
        rate_matters: whether a smaller learning rate, from an earlier checkpoint on, might help.
    """

    def __init__(self, message: str, *, rate_matters: bool = True) -> None:
        super().__init__(message)
        self.rate_matters = rate_matters


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

    def __init__(self, stage: Stage, batches: tf.data.Dataset, history: PredictionHistory, state: RunState) -> None:
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

    def __init__(self, batches: tf.data.Dataset, num_images: int) -> None:
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
        hidden_labels: true classes `[rows]` where they are known, else None. For reports only.
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


def labeled_shares(table: PseudoLabelTable) -> np.ndarray:
    """Share of each class among the labeled images, `[classes]`."""
    return np.bincount(table.labels[table.labeled_rows], minlength=table.num_classes) / len(table.labeled_rows)


def table_statistics(table: PseudoLabelTable, hidden_labels: np.ndarray | None) -> Logs:
    """What the unlabeled rows look like, read in chunks.

    Returns:
        `table_largest_probability`, its mean over the rows (theorem 2: it stays below the predictions');
        `flat_rows`, the share (0..1) of rows in which no class has half of the probability;
        `row_sum_drift`, the largest |change| of a row's sum since its last prediction (eq. 12-13: rounding alone);
        `pseudo_label_error` in percent, where hidden labels are known.
    """
    largest = flat = wrong = drift = 0.0
    for rows, logits in table.walk(table.unlabeled_rows):
        probabilities = np.exp(logits - logits.max(1, keepdims=True))
        top = 1.0 / probabilities.sum(1)
        largest += float(top.sum())
        flat += float((top < 0.5).sum())
        drift = max(drift, float(np.abs(logits.sum(1) - table.predicted_sums(rows)).max()))
        if hidden_labels is not None:
            wrong += float((logits.argmax(1) != hidden_labels[rows]).sum())
    count = max(1, len(table.unlabeled_rows))
    statistics = {"table_largest_probability": largest / count, "flat_rows": flat / count, "row_sum_drift": drift}
    if hidden_labels is not None:
        statistics["pseudo_label_error"] = 100.0 * wrong / count
    return statistics


class CollapseGuard(keras.callbacks.Callback):
    """Stops a run whose predictions have collapsed into few classes; see `is_collapsed`.

    Looks at the first predictions of pseudo-labels and at every later one, and at what was predicted in training and, after
    each epoch, in evaluation (classes only: it never sees a true label). Not in stage 1, whose first epochs are allowed to
    know nothing. A long epoch is looked at after 1, 2, 4, 8, ... steps too, once it has predicted enough images.

    Args:
        stage: that is trained.
        table: the pseudo-labels.
        state: of the run.

    Raises:
        RunStopped: with the classes and the likely flag.
    """

    def __init__(self, stage: Stage, table: PseudoLabelTable, state: RunState) -> None:
        super().__init__()
        self.stage = stage
        self.table = table
        self.state = state

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        step = self.state.step + 1
        if self.stage.use_unlabeled and step & (step - 1) == 0:
            counts = np.asarray(self.model.predicted_classes.result())
            if counts.sum() >= _ENOUGH_A_CLASS * len(counts):
                self._check(counts, "unlabeled", self.stage.advice)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        if epoch in self.stage.prediction_epochs and not self.state.step:
            largest = [logits.argmax(1) for _, logits in self.table.walk(self.table.unlabeled_rows)]
            counts = np.bincount(np.concatenate(largest), minlength=self.table.num_classes)
            if epoch:
                self._check(counts, "unlabeled", self.stage.advice)
            else:
                # Stage 1 is done: what it learned is not for this stage's rates to mend.
                self._check(counts, "unlabeled", self.stage.advice_before, rate_matters=False)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self.stage.use_unlabeled:
            self._check(np.asarray(logs["predicted_classes"]), "unlabeled", self.stage.advice)
            self._check(logs["evaluated_classes"], "test", self.stage.advice)

    def _check(self, counts: np.ndarray, kind: str, advice: str, *, rate_matters: bool = True) -> None:
        shares = labeled_shares(self.table)
        if is_collapsed(counts, shares):
            top = int(counts.argmax())
            raise RunStopped(
                f"the predictions collapsed: {100 * counts[top] / counts.sum():.0f} % of the {kind} images fall into class "
                f"{top}, which has {100 * shares[top]:.0f} % of the labeled ones; {advice} "
                "(--nostop_on_collapse goes on regardless)",
                rate_matters=rate_matters,
            )


def is_collapsed(counts: np.ndarray, shares: np.ndarray) -> bool:
    """Whether predictions have collapsed into few classes.

    A class is *lost* when it gets under a tenth of its share among the labeled images. It is a collapse when lost
    classes make up a third or more of what lies outside the largest class, which holds for unequal classes too and
    which no drift of proportions brings about; or when the total variation between the two histograms is above 0.7.

    Args:
        counts: images predicted in each class, `[classes]`.
        shares: of each class among the labeled images, `[classes]`, adding up to 1.
    """
    predicted = counts / max(1.0, counts.sum())
    lost = shares[predicted < 0.1 * shares].sum()
    distance = 0.5 * np.abs(predicted - shares).sum()
    return bool(lost > 0 and lost >= (1.0 - shares.max()) / 3 - 1e-9) or bool(distance > 0.7)


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
        signals: that ask for a stop.
    """

    def __init__(
        self, stage: Stage, steps: int, state: RunState, save: Callable[[], None], minutes: float, signals: StopSignals
    ) -> None:
        super().__init__()
        self.stage = stage
        self.steps = steps
        self.state = state
        self.save = save
        self.minutes = minutes
        self.signals = signals
        self._saved = time.monotonic()
        self._cost = 0.0

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self.state.step += 1
        self.state.consistent = True
        # An epoch that is resumed has fewer steps than Keras was told.
        self.model.stop_training = self.state.step == self.steps
        self.signals.check()
        if time.monotonic() - self._saved >= 60 * self.minutes:
            self._save()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.model.stop_training = False
        self.state.begin_epoch()
        self.signals.check()
        since = time.monotonic() - self._saved
        if self.state.epoch in self.stage.prediction_epochs or self._cost < _CHEAP * since or since >= 60 * self.minutes:
            self._save()

    def _save(self) -> None:
        began = time.monotonic()
        self.save()
        self._saved = time.monotonic()
        self._cost = self._saved - began
        self.signals.check()
