"""Weights for images whose pseudo-labels are hard: what a doubtful row teaches counts less."""

import math

import tensorflow as tf

from r2d2_tf.method.losses import prediction_entropy


def certainty(log_pseudo_p: tf.Tensor, labeled: tf.Tensor) -> tf.Tensor:
    """1 - entropy / log(classes) of a pseudo-label, 0..1; 1 of a labeled row (Iscen et al. 2019), `[batch]`.

    Args:
        log_pseudo_p: `[batch, classes]`.
        labeled: which rows have a given label, `[batch]` bool.

    >>> certainty(tf.math.log([[0.5, 0.5], [0.9, 0.1], [0.5, 0.5]]), tf.constant([False, False, True])).numpy().round(3)
    array([0.   , 0.531, 1.   ], dtype=float32)
    """
    of_rows = 1.0 - prediction_entropy(log_pseudo_p) / math.log(log_pseudo_p.shape[-1])
    return tf.stop_gradient(tf.where(labeled, 1.0, tf.maximum(of_rows, 0.0)))


def certainty_weights(log_pseudo_p: tf.Tensor, labeled: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """In a replica: the certainty of its images over the mean certainty of the batch, `[batch]`.

    With them the mean of a batch's losses is sum_i w_i loss_i / sum_i w_i over the images i of all replicas, w their certainty;
    0 where no image has any.

    Args:
        log_pseudo_p: of the replica's rows, `[batch, classes]`.
        labeled: which of them have a given label, `[batch]` bool.
        count: images of all replicas, a float32 scalar.
    """
    weights = certainty(log_pseudo_p, labeled)
    total = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.reduce_sum(weights))
    return weights * tf.math.divide_no_nan(count, total)
