"""What a step measures, summed over the images of an epoch."""

from typing import Any

import keras
import tensorflow as tf

Logs = dict[str, Any]
"""What was measured of an epoch, by name: what callbacks are given, and add to."""

MEANS_OF_ALL = ("loss", "class_loss", "entropy")
MEANS_OF_DESCRIBED = ("largest_prediction", "largest_pseudo_label")


class Measures(keras.metrics.Metric):
    """Means over the images of an epoch, and how many images were given each class.

    All in one variable, to which a step adds once: a metric each would take a small network longer than its loss.

    Args:
        num_classes: classes that can be predicted.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(name="measures")
        self._sizes = [len(MEANS_OF_ALL), len(MEANS_OF_DESCRIBED), 1, 1, num_classes]
        self.totals = self.add_variable([sum(self._sizes)], keras.initializers.Zeros(), name="totals")

    def update_state(
        self, of_all: tuple[tf.Tensor, ...], of_described: tuple[tf.Tensor, ...], classes: tf.Tensor, described: tf.Tensor
    ) -> None:
        """Adds the images of a step.

        Args:
            of_all: values of MEANS_OF_ALL, `[batch]` float32 each.
            of_described: values of MEANS_OF_DESCRIBED, `[batch]` float32 each.
            classes: predicted, `[batch]` int64.
            described: 1 where an image counts for the second means and the classes, else 0, `[batch]` float32.
        """
        images = tf.cast(tf.shape(classes), tf.float32)
        sums = [
            tf.reduce_sum(tf.stack(of_all), axis=1),
            tf.linalg.matvec(tf.stack(of_described), described),
            images,
            tf.reduce_sum(described, keepdims=True),
            tf.math.unsorted_segment_sum(described, classes, self._sizes[-1]),
        ]
        self.totals.assign_add(tf.concat(sums, 0))

    def result(self) -> dict[str, tf.Tensor]:
        """The means, and `predicted_classes` `[classes]`, by name."""
        of_all, of_described, images, described, classes = tf.split(tf.convert_to_tensor(self.totals), self._sizes)
        means = [
            *tf.unstack(tf.math.divide_no_nan(of_all, images)),
            *tf.unstack(tf.math.divide_no_nan(of_described, described)),
        ]
        return dict(zip((*MEANS_OF_ALL, *MEANS_OF_DESCRIBED), means, strict=True)) | {"predicted_classes": classes}
