"""The test error after each epoch."""

import keras

from r2d2_tf.distributed.workers import Batches
from r2d2_tf.method.metrics import Logs

TOP5_ABOVE_CLASSES = 20
"""With so few classes or fewer, the top-5 error says nothing."""


class Evaluation(keras.callbacks.Callback):
    """Logs `test_error` and `evaluated_classes` after each epoch, and with many classes `test_top5_error`.

    Errors are in percent, and nothing reads them but people; the classes are how many test images were given each.

    Args:
        batches: (images, true classes).
        num_images: how many images the batches hold.
    """

    def __init__(self, batches: Batches, num_images: int) -> None:
        super().__init__()
        self.batches, self.num_images = batches, num_images

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        errors, top5_errors, logs["evaluated_classes"] = self.model.evaluate_images(self.batches)
        logs["test_error"] = 100.0 * errors / self.num_images
        if len(logs["evaluated_classes"]) > TOP5_ABOVE_CLASSES:
            logs["test_top5_error"] = 100.0 * top5_errors / self.num_images
