"""What a run keeps of its epochs and predictions: rows of metrics.csv, comparisons in predictions.npz."""

import time

import keras
import numpy as np

from r2d2_tf.distributed.workers import Batches
from r2d2_tf.method.metrics import Logs
from r2d2_tf.method.reprediction import Reprediction
from r2d2_tf.runs.metrics_log import COLUMNS, MetricsLog
from r2d2_tf.runs.predictions import PredictionHistory
from r2d2_tf.runs.run_state import RunState
from r2d2_tf.training.stages import Stage


class EpochRecorder(keras.callbacks.Callback):
    """Hands each epoch's logs to the MetricsLog; the stage's first is number `first_run_epoch` (from 1) over the whole run."""

    def __init__(self, log: MetricsLog, stage: Stage, first_run_epoch: int) -> None:
        super().__init__()
        self.log, self.stage, self.first_run_epoch = log, stage, first_run_epoch

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
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


class PredictionRecorder(keras.callbacks.Callback):
    """Tells a run of its predictions; before the Reprediction in the list, which calls `begin` and `end`.

    Logs `learning_rate`; `predicted`, whether the epoch began with a prediction (0 or 1); and, if it did and the rows
    had been predicted before, `argmax_changes`: how many rows changed their largest class.

    How the rows compared with the predictions that replaced them goes into the history, and so does, after the last
    epoch of a stage that learns them, how they compare with the network then.
    """

    def __init__(self, stage: Stage, batches: Batches, history: PredictionHistory, state: RunState) -> None:
        super().__init__()
        self.stage, self.batches, self.history, self.state = stage, batches, history, state

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        if not self.state.step:
            self.state.argmax_changes = None

    def begin(self, epoch: int) -> None:
        """Before a prediction."""
        self.state.consistent = False

    def end(self, epoch: int, changes: int) -> None:
        """After it."""
        self.state.argmax_changes = changes
        self._remember(epoch, replaced=True, first=self.stage.predicts_first_at(epoch))

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        logs["learning_rate"] = self.stage.learning_rates[epoch]
        changes = self.state.argmax_changes
        logs["predicted"] = int(changes is not None)
        if changes is not None and not self.stage.predicts_first_at(epoch):
            logs["argmax_changes"] = changes

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.stage.learn_pseudo_labels:
            self.model.compare(self.batches)
            self._remember(self.stage.epochs, replaced=False, first=False)

    def _remember(self, epoch: int, *, replaced: bool, first: bool) -> None:
        measures = self.model.table.notes(self.history.rows)
        self.history.add(measures, stage=self.stage.number, epoch=epoch, replaced=replaced, first=first)


def recorded_reprediction(
    stage: Stage, batches: Batches, history: PredictionHistory, state: RunState
) -> list[keras.callbacks.Callback]:
    """The predictions of a stage, and what records them; `batches` are (unaugmented images, rows) of all unlabeled images."""
    recorder = PredictionRecorder(stage, batches, history, state)
    predicts = Reprediction(
        batches,
        stage.prediction_epochs,
        stage.learning_rates,
        before=recorder.begin,
        after=recorder.end,
        balances_classes=stage.balances_classes,
    )
    return [recorder, predicts]
