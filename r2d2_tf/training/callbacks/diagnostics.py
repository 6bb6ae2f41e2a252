"""What the predictions and the table look like after each epoch."""

import keras
import numpy as np

from r2d2_tf.method.class_balance import labeled_shares
from r2d2_tf.method.metrics import Logs
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from r2d2_tf.training.stages import Stage


class Diagnostics(keras.callbacks.Callback):
    """Logs after each epoch what the predictions and the unlabeled rows look like.

    Adds `class_histogram_distance`, how far the classes predicted in the epoch are from those of the labeled images
    (total variation, 0..1), and, where unlabeled images are trained on, `table_statistics`.

    Args:
        stage: tells whether the table is in use.
        table: the pseudo-labels.
        hidden_labels: true classes `[rows]`, -1 where they are not known, or None. For reports only.
    """

    def __init__(self, stage: Stage, table: PseudoLabelTable, hidden_labels: np.ndarray | None) -> None:
        super().__init__()
        self.stage, self.table, self.hidden_labels = stage, table, hidden_labels

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        counts = np.asarray(logs["predicted_classes"])
        shares, given = counts / max(1.0, counts.sum()), labeled_shares(self.table.labels, self.table.num_classes)
        logs["class_histogram_distance"] = 0.5 * float(np.abs(shares - given).sum())
        if self.stage.images.use_unlabeled:
            logs.update(table_statistics(self.table, self.hidden_labels))


def table_statistics(table: PseudoLabelTable, hidden_labels: np.ndarray | None) -> Logs:
    """What the unlabeled rows look like, read in chunks.

    Returns:
        `table_largest_probability`, its mean over the rows (theorem 2: it stays below the predictions');
        `flat_rows`, the share (0..1) of rows in which no class has half of the probability;
        `row_sum_drift`, the largest |change| of a row's sum since its last prediction (eq. 12-13: rounding alone);
        `pseudo_label_error` in percent of the rows whose hidden label is known, if there are any.
    """
    largest = flat = wrong = known = drift = 0.0
    for rows, logits in table.walk(table.unlabeled_rows):
        probabilities = np.exp(logits - logits.max(1, keepdims=True))
        top = 1.0 / probabilities.sum(1)
        largest += float(top.sum())
        flat += float((top < 0.5).sum())
        drift = max(drift, float(np.abs(logits.sum(1) - table.predicted_sums(rows)).max()))
        if hidden_labels is not None:
            hidden = hidden_labels[rows]
            known += float((hidden >= 0).sum())
            wrong += float(((logits.argmax(1) != hidden) & (hidden >= 0)).sum())
    count = max(1, len(table.unlabeled_rows))
    statistics = {"table_largest_probability": largest / count, "flat_rows": flat / count, "row_sum_drift": drift}
    if hidden_labels is not None:
        statistics["pseudo_label_error"] = 100.0 * wrong / max(1.0, known)
    return statistics
