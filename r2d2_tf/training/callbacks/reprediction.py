"""Repetitive reprediction (R2) as a callback."""

import keras

from r2d2_tf.distributed.workers import Batches
from r2d2_tf.runs.predictions import PredictionHistory
from r2d2_tf.runs.run_state import RunState
from r2d2_tf.training.callbacks.diagnostics import Logs
from r2d2_tf.training.stages import Stage


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
