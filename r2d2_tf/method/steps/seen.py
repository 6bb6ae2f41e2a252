"""What a step sees, for losses and for updates of the rows."""

from typing import NamedTuple

import tensorflow as tf

from r2d2_tf.method.losses import prediction_entropy


class Seen(NamedTuple):
    """What a step sees of a replica's images.

    Attributes:
        rows: their rows, `[batch]`.
        labeled: which have a given label, `[batch]` bool.
        count: images of all replicas, a float32 scalar.
        pseudo_logits: of the rows, `[batch, classes]`.
        log_pseudo_p: their log-softmax.
        log_p: of the predictions, `[batch, classes]`.
        entropy: of the predictions, `[batch]`.
    """

    rows: tf.Tensor
    labeled: tf.Tensor
    count: tf.Tensor
    pseudo_logits: tf.Tensor
    log_pseudo_p: tf.Tensor
    log_p: tf.Tensor
    entropy: tf.Tensor

    @classmethod
    def of(cls, rows: tf.Tensor, labeled: tf.Tensor, count: tf.Tensor, pseudo_logits: tf.Tensor, logits: tf.Tensor) -> "Seen":
        """With what follows from the logits of rows and network."""
        log_p = tf.nn.log_softmax(logits)
        log_pseudo_p = tf.nn.log_softmax(pseudo_logits)
        return cls(rows, labeled, count, pseudo_logits, log_pseudo_p, log_p, prediction_entropy(log_p))

    def behind(self, check: tf.Tensor) -> "Seen":
        """The same, which waits for `check`."""
        with tf.control_dependencies([check]):
            return Seen(*(tf.identity(value) for value in self))
