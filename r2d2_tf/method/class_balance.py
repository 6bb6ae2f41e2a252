"""Distribution alignment: predictions are shifted until, on average, they have the labels' shares of the classes."""

from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf

from r2d2_tf.data.image_data import UNLABELED
from r2d2_tf.distributed.workers import Batches
from r2d2_tf.method.model import R2D2Model
from r2d2_tf.method.pseudo_labels import PseudoLabelTable

CLOSE = 1e-3
"""Total variation (0..1) between the mean prediction and the shares that is close enough: one image of a thousand."""
MOST_PASSES = 200
"""Over the table: where predictions are very sure, each pass moves little."""
_SMALLEST = 1e-12


def labeled_shares(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Share of each class among the labeled images, `[classes]`, of given classes `[rows]`, -1 for none."""
    given = labels[labels != UNLABELED]
    return np.bincount(given, minlength=num_classes) / len(given)


def class_shift(chunks: Callable[[], Iterable[np.ndarray]], shares: np.ndarray) -> np.ndarray:
    """What to add to logits so that the mean of their softmax is `shares`, `[classes]` float32, of sum 0.

        shift <- shift + log(shares) - log(mean over images of softmax(logits + shift))

    until both are CLOSE, or for MOST_PASSES. The first pass is the distribution alignment of ReMixMatch (Berthelot et al.
    2020); repeated, it is Sinkhorn's iteration of the matrix softmax(logits), whose rows are to sum to 1 and whose columns to
    the shares: of all such matrices it finds the one nearest to the predictions in Kullback-Leibler divergence.

    Args:
        chunks: gives, for each pass, the logits of all images, in parts `[images, classes]`.
        shares: of the classes, `[classes]`, adding up to 1.
    """
    shift = np.zeros(len(shares))
    for _ in range(MOST_PASSES):
        mean = _mean_prediction(chunks(), shift)
        if 0.5 * np.abs(mean - shares).sum() <= CLOSE:
            break
        shift += np.log(np.maximum(shares, _SMALLEST)) - np.log(np.maximum(mean, _SMALLEST))
    return (shift - shift.mean()).astype(np.float32)


def _mean_prediction(chunks: Iterable[np.ndarray], shift: np.ndarray) -> np.ndarray:
    total, images = np.zeros(len(shift)), 0
    for chunk in chunks:
        logits = chunk + shift
        probabilities = np.exp(logits - logits.max(1, keepdims=True))
        total += (probabilities / probabilities.sum(1, keepdims=True)).sum(0)
        images += len(chunk)
    return total / images


def balance(table: PseudoLabelTable) -> None:
    """Adds to all unlabeled rows, as they were predicted, the `class_shift` to the labels' shares.

    Each process does it to its own table, which is the same in all, chunk by chunk.
    """
    rows = table.unlabeled_rows
    if not len(rows):
        return
    shares = labeled_shares(table.labels, table.num_classes)
    shift = class_shift(lambda: (logits for _, logits in table.walk(rows)), shares)
    for chunk, logits in table.walk(rows):
        table.repredict(tf.constant(chunk), tf.constant(logits + shift))


def repredict_balanced(model: R2D2Model, batches: Batches) -> int:
    """`model.repredict` of all unlabeled images, and `balance`; returns how many rows both changed the largest class of."""
    table = model.table
    before = table.largest_classes(table.unlabeled_rows)
    model.repredict(batches)
    balance(table)
    return int(np.count_nonzero(table.largest_classes(table.unlabeled_rows) != before))
