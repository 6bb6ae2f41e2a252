"""The test error after each epoch, and what was predicted of each image."""

import keras
import numpy as np

from r2d2_tf.distributed.workers import Batches
from r2d2_tf.method.metrics import Logs
from r2d2_tf.runs.run_state import HELD_OUT, TEST, RunState
from r2d2_tf.training.stages import Stage

TOP5_ABOVE_CLASSES = 20
"""With so few classes or fewer, the top-5 error says nothing."""


class Evaluation(keras.callbacks.Callback):
    """Logs `test_error` and `evaluated_classes` after each epoch, and with many classes `test_top5_error`.

    Errors are in percent, and nothing reads them but people; the classes are how many test images were given each. The
    predicted classes go into the state: those that stay there are of the stage's last epoch.

    Args:
        batches: (images, places in `labels`) of all test images.
        labels: their true classes, `[images]`.
        num_classes: of the data set.
        stage: that is trained.
        state: of the run.
    """

    def __init__(self, batches: Batches, labels: np.ndarray, num_classes: int, stage: Stage, state: RunState) -> None:
        super().__init__()
        self.batches, self.labels, self.num_classes, self.stage, self.state = batches, labels, num_classes, stage, state

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        predicted, top5_errors = self.model.evaluate_images(self.batches, self.labels)
        self.state.remember(TEST, self.stage.number, predicted)
        logs["evaluated_classes"] = np.bincount(predicted, minlength=self.num_classes)
        logs["test_error"] = 100.0 * int((predicted != self.labels).sum()) / len(self.labels)
        if self.num_classes > TOP5_ABOVE_CLASSES:
            logs["test_top5_error"] = 100.0 * top5_errors / len(self.labels)


class HeldOutEvaluation(keras.callbacks.Callback):
    """Puts into the state, after the last epoch of a stage, the classes that are predicted of the images held out.

    Args:
        batches: (images, places in `labels`) of them all.
        labels: theirs, `[images]`.
        stage: that is trained.
        state: of the run.
    """

    def __init__(self, batches: Batches, labels: np.ndarray, stage: Stage, state: RunState) -> None:
        super().__init__()
        self.batches, self.labels, self.stage, self.state = batches, labels, stage, state

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if epoch + 1 == self.stage.epochs:
            predicted, _ = self.model.evaluate_images(self.batches, self.labels)
            self.state.remember(HELD_OUT, self.stage.number, predicted)
