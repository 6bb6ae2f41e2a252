"""Other methods as other updates of the same table: pseudo-labels (Lee 2013), temporal ensembling (Laine and Aila 2017).

Each replaces two methods of R2D2Model: what an image's loss is, and what a step makes of its row. Departures from the papers:
rows with a given label are clamped, so the consistency of temporal ensembling is asked of unlabeled images alone; network,
optimizer, batches and augmentation are those of the experiment that they are compared in.
"""

import math
from collections.abc import Callable

import keras
import tensorflow as tf

from r2d2_tf.method.losses import cross_entropy
from r2d2_tf.method.model import R2D2Model
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from r2d2_tf.method.steps.seen import Seen

Weight = Callable[[tf.Tensor], tf.Tensor]
"""Of the steps done, float32, to the weight of what unlabeled images teach."""
_EMPTY = -60.0
"""Log of what is in a row of temporal ensembling before the first visit: next to nothing, in each class as much."""


class LeePseudoLabels(R2D2Model):
    """Pseudo-labels (Lee 2013): at each step an unlabeled image's target is the class that the network then finds likeliest.

    L = mean over labeled images of CE(given class) + weight * mean over unlabeled ones of CE(likeliest class)

    An unlabeled row is the prediction of the last step that saw it: its largest class is that target.

    Args:
        backbone: images to logits.
        table: pseudo-logits of all training images.
        weight: of the second mean, the paper's alpha(t).
    """

    def __init__(self, backbone: keras.Model, table: PseudoLabelTable, *, weight: Weight) -> None:
        super().__init__(backbone, table)
        self.weight = weight

    def image_losses(self, seen: Seen) -> tuple[tf.Tensor, tf.Tensor]:
        """The terms of the two means, times the images of the batch, as the step divides by these."""
        targets = tf.where(seen.labeled[:, None], seen.pseudo_logits, tf.stop_gradient(seen.log_p))
        class_loss = cross_entropy(seen.log_p, targets, None)
        labeled = _of_all_replicas(tf.cast(seen.labeled, tf.float32))
        of_labeled = tf.math.divide_no_nan(seen.count, labeled)
        of_unlabeled = tf.math.divide_no_nan(seen.count, seen.count - labeled) * self.weight(_steps(self))
        return class_loss * tf.where(seen.labeled, of_labeled, of_unlabeled), class_loss

    def update_rows(self, seen: Seen, gradient: tf.Tensor | None) -> None:
        """The rows are the predictions."""
        self.table.repredict(*self.shared(seen.rows, seen.log_p))


class TemporalEnsembling(R2D2Model):
    """Temporal ensembling (Laine and Aila 2017): predictions are to agree with an average of those of earlier epochs.

    L = mean over all images of CE(given class), 0 where there is none, + weight * |p - z|^2 / classes, 0 where there is one
    Z <- momentum * Z + (1 - momentum) * p,  z = Z / (1 - momentum^t) at the t-th visit

    An unlabeled row is log Z. Z adds up to 1 - momentum^t, so that the softmax of the row is z, the paper's correction for
    the start included.

    Args:
        backbone: images to logits.
        table: pseudo-logits of all training images; the rows of unlabeled ones are emptied.
        weight: the paper's w(t), 0 in the first epoch, when rows hold nothing.
        momentum: the paper's alpha.
    """

    def __init__(self, backbone: keras.Model, table: PseudoLabelTable, *, weight: Weight, momentum: float = 0.6) -> None:
        super().__init__(backbone, table)
        self.weight, self.momentum = weight, momentum
        for rows, logits in table.walk():
            table.repredict(tf.constant(rows), tf.fill(logits.shape, _EMPTY))

    def image_losses(self, seen: Seen) -> tuple[tf.Tensor, tf.Tensor]:
        """Cross entropy of labeled images, distance of unlabeled ones."""
        distance = tf.reduce_mean(tf.square(tf.exp(seen.log_p) - tf.exp(seen.log_pseudo_p)), -1)
        supervised = cross_entropy(seen.log_p, seen.pseudo_logits, None)
        return tf.where(seen.labeled, supervised, self.weight(_steps(self)) * distance), tf.where(
            seen.labeled, supervised, distance
        )

    def update_rows(self, seen: Seen, gradient: tf.Tensor | None) -> None:
        """The rows take the predictions in."""
        total = self.momentum * tf.exp(seen.pseudo_logits) + (1 - self.momentum) * tf.exp(seen.log_p)
        self.table.repredict(*self.shared(seen.rows, tf.math.log(tf.maximum(total, math.exp(_EMPTY)))))


def lee_ramp(most: float, first: int, last: int) -> Weight:
    """0 before step `first`, then a line to `most` at step `last`; the paper's `most` is 3."""
    return lambda step: most * tf.clip_by_value((step - first) / (last - first), 0.0, 1.0)


def gaussian_ramp(most: float, steps_per_epoch: int, epochs: int) -> Weight:
    """0 in the first epoch, then most * exp(-5 (1 - epoch / epochs)^2) up to `most`; epochs count from 0."""

    def weight(step: tf.Tensor) -> tf.Tensor:
        epoch = tf.floor(step / steps_per_epoch)
        share = tf.minimum(epoch / epochs, 1.0)
        return most * tf.where(epoch > 0, tf.exp(-5.0 * tf.square(1.0 - share)), 0.0)

    return weight


def _steps(model: R2D2Model) -> tf.Tensor:
    return tf.cast(model.optimizer.iterations, tf.float32)


def _of_all_replicas(values: tf.Tensor) -> tf.Tensor:
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.reduce_sum(values))
