"""What steps measure, summed over the images of an epoch or an evaluation."""

from typing import Any

import keras
import tensorflow as tf

from r2d2_tf.data.image_data import UNLABELED

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
        self, of_all: tuple[tf.Tensor, ...], log_p: tf.Tensor, log_pseudo_p: tf.Tensor, described: tf.Tensor
    ) -> None:
        """Adds the images of a step.

        Args:
            of_all: values of MEANS_OF_ALL, `[batch]` float32 each.
            log_p: of the predictions, `[batch, classes]`.
            log_pseudo_p: of the rows, `[batch, classes]`.
            described: 1 where an image counts for MEANS_OF_DESCRIBED and the classes, else 0, `[batch]` float32.
        """
        of_described = [tf.exp(tf.reduce_max(log_probabilities, -1)) for log_probabilities in (log_p, log_pseudo_p)]
        classes = tf.argmax(log_p, -1)
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


class EvaluationMeasures(keras.metrics.Metric):
    """Cross entropy and error over the images of an evaluation."""

    def __init__(self) -> None:
        # Without return_dict=True Keras gives what a metric is named after first, and the rest by the alphabet.
        super().__init__(name="loss")
        self.totals = self.add_variable([3], keras.initializers.Zeros(), name="totals")

    def update_state(self, log_p: tf.Tensor, classes: tf.Tensor) -> None:
        """Adds the images of a step.

        Args:
            log_p: of the predictions, `[batch, classes]`.
            classes: true ones, `[batch]` int64; images of which it is UNLABELED (-1) count nowhere.
        """
        known = tf.cast(classes != UNLABELED, tf.float32)
        losses = -tf.gather(log_p, tf.where(classes == UNLABELED, tf.zeros_like(classes), classes), axis=1, batch_dims=1)
        errors = tf.cast(tf.argmax(log_p, -1) != classes, tf.float32)
        self.totals.assign_add(tf.linalg.matvec(tf.stack([losses, errors, tf.ones_like(known)]), known))

    def result(self) -> dict[str, tf.Tensor]:
        """`loss`, the mean cross entropy in nats, and `error` in percent."""
        loss, errors, images = tf.unstack(tf.convert_to_tensor(self.totals))
        return {"loss": tf.math.divide_no_nan(loss, images), "error": 100.0 * tf.math.divide_no_nan(errors, images)}


def true_classes(batch: tf.Tensor | tuple[tf.Tensor, ...]) -> tf.Tensor:
    """The second of a batch of (images, true classes), `[batch]` int64.

    Raises:
        ValueError: if there is no second, a third, or more than a number an image.
    """
    # test_on_batch has a None for weights of images.
    parts = batch if isinstance(batch, tuple) else (batch,)
    batch = tuple(tf.convert_to_tensor(part) for part in parts if part is not None)
    # Of labels of several ranks, one call after the other, the rank is not known.
    if len(batch) != 2 or (batch[1].shape.rank is not None and batch[1].shape[1:].num_elements() != 1):
        found = " and ".join(str(part.shape) for part in batch)
        raise ValueError(f"an evaluation takes images and the number of each one's class, [images]; it was given {found}")
    return tf.cast(tf.reshape(batch[1], [-1]), tf.int64)
