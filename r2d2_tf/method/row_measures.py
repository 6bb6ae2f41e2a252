"""How a row of the table compares with the network's prediction for its image."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from r2d2_tf.method.losses import ClassLoss, prediction_entropy


class RowMeasures(NamedTuple):
    """What is measured of rows, `[rows]` each: tensors in a step, arrays of TYPES once they were read.

    Attributes:
        pseudo_label_class: largest class of the row; -1: it held nothing yet.
        predicted_class: n, the largest class of the prediction.
        pseudo_label_probability: of n in the row, the paper's p~_n.
        predicted_probability: of n in the prediction, the paper's p^_n.
        class_loss: L_c in nats (`squared_l2` has no unit).
        entropy: L_e in nats.
    """

    pseudo_label_class: Any
    predicted_class: Any
    pseudo_label_probability: Any
    predicted_probability: Any
    class_loss: Any
    entropy: Any

    @classmethod
    def of(cls, log_p: tf.Tensor, log_pseudo_p: tf.Tensor, class_loss: ClassLoss) -> "RowMeasures":
        """Measures predictions against rows, log-probabilities `[rows, classes]` both."""
        predicted = tf.argmax(log_p, -1)
        return cls(
            pseudo_label_class=tf.argmax(log_pseudo_p, -1),
            predicted_class=predicted,
            pseudo_label_probability=tf.exp(tf.gather(log_pseudo_p, predicted, axis=1, batch_dims=1)),
            predicted_probability=tf.exp(tf.reduce_max(log_p, -1)),
            class_loss=class_loss(log_p, log_pseudo_p),
            entropy=prediction_entropy(log_p),
        )

    def stacked(self) -> tf.Tensor:
        """`[rows, measures]` float32, which holds every class number exactly."""
        return tf.stack([tf.cast(values, tf.float32) for values in self], axis=1)

    @classmethod
    def from_stacked(cls, values: np.ndarray) -> "RowMeasures":
        """The arrays of what `stacked` gave."""
        return cls(*(values[:, number].astype(kind) for number, kind in enumerate(TYPES)))

    def of_prediction_alone(self) -> "RowMeasures":
        """The same of rows that held nothing yet: what needs the row is -1 or NaN."""
        nothing = np.full_like(self.class_loss, np.nan)
        unknown = np.full_like(self.pseudo_label_class, -1)
        return self._replace(pseudo_label_class=unknown, pseudo_label_probability=nothing, class_loss=nothing)


TYPES = RowMeasures(np.int16, np.int16, np.float32, np.float32, np.float32, np.float32)
"""Of the arrays, as `predictions.npz` keeps them."""
