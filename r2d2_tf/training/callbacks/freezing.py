"""Epochs that train the network's head alone."""

import keras

from r2d2_tf.method.metrics import Logs
from r2d2_tf.training.stages import Stage


class HeadFirst(keras.callbacks.Callback):
    """In the first epochs of a stage, as many as it says, has the network's head be trained alone."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self.model.train_head_alone(epoch < self.stage.head_epochs)
