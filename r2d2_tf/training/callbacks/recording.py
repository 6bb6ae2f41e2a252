"""From the logs of an epoch to its row of metrics.csv."""

import time
from typing import Any

import keras
import numpy as np

from r2d2_tf.runs.metrics_log import COLUMNS, MetricsLog
from r2d2_tf.training.callbacks.diagnostics import Logs
from r2d2_tf.training.stages import Stage


class EpochMeans(keras.callbacks.Callback):
    """Puts what the model measured into the logs of each epoch, under the metrics' names."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        logs.update(self.model.get_metrics_result())


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
