"""The loss of R2-D2 (eq. 2): a class loss that ties predictions to pseudo-labels, and an entropy.

Every function takes log-probabilities `[batch, classes]` and returns one value an image, `[batch]`,
in nats (`squared_l2` has no unit). Gradients flow into both arguments: into the prediction to train
the network, into the pseudo-label to train the table.
"""

from collections.abc import Callable

import tensorflow as tf

ClassLoss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def reverse_kl(log_p: tf.Tensor, log_pseudo_p: tf.Tensor) -> tf.Tensor:
    """KL(prediction || pseudo-label), the paper's L_c (eq. 2).

    >>> log_p, log_pseudo_p = tf.math.log([[0.5, 0.5]]), tf.math.log([[0.9, 0.1]])
    >>> reverse_kl(log_p, log_pseudo_p).numpy().round(3)  # 0.5 log(0.5 / 0.9) + 0.5 log(0.5 / 0.1)
    array([0.511], dtype=float32)
    """
    return tf.reduce_sum(tf.exp(log_p) * (log_p - log_pseudo_p), axis=-1)


def forward_kl(log_p: tf.Tensor, log_pseudo_p: tf.Tensor) -> tf.Tensor:
    """KL(pseudo-label || prediction), the classic direction (eq. 14)."""
    return reverse_kl(log_pseudo_p, log_p)


def squared_l2(log_p: tf.Tensor, log_pseudo_p: tf.Tensor) -> tf.Tensor:
    """Squared Euclidean distance of the two distributions (eq. 15)."""
    return tf.reduce_sum(tf.square(tf.exp(log_pseudo_p) - tf.exp(log_p)), axis=-1)


CLASS_LOSSES: dict[str, ClassLoss] = {
    "reverse_kl": reverse_kl,
    "forward_kl": forward_kl,
    "squared_l2": squared_l2,
}


def name_of(class_loss: ClassLoss) -> str:
    """Its name in CLASS_LOSSES; raises ValueError if it has none."""
    names = [name for name, function in CLASS_LOSSES.items() if function is class_loss]
    if not names:
        raise ValueError(f"class_loss is a function of your own, without a name: those with one are {', '.join(CLASS_LOSSES)}")
    return names[0]


def cross_entropy(log_p: tf.Tensor, pseudo_logits: tf.Tensor, soft: tf.Tensor | None) -> tf.Tensor:
    """Of the predictions against the rows' largest classes, or, where `soft` (`[batch]` bool), all of the row."""
    hard = -tf.gather(log_p, tf.argmax(pseudo_logits, -1), axis=1, batch_dims=1)
    if soft is None:
        return hard
    return tf.where(soft, -tf.reduce_sum(tf.nn.softmax(pseudo_logits) * log_p, -1), hard)


def prediction_entropy(log_p: tf.Tensor) -> tf.Tensor:
    """Entropy of the prediction, the paper's L_e."""
    return -tf.reduce_sum(tf.exp(log_p) * log_p, axis=-1)


def compatibility(log_pseudo_p: tf.Tensor, given: tf.Tensor) -> tf.Tensor:
    """-log of the pseudo-label's probability of the given class: PENCIL's L_o (Yi and Wu 2019), 0 where there is none.

    Its gradient in the pseudo-logits is pseudo-label - onehot(given): it holds a row that is learned near a doubtful label.

    Args:
        log_pseudo_p: `[batch, classes]`.
        given: class of each image, `[batch]` int64; -1: none.

    >>> compatibility(tf.math.log([[0.9, 0.1]]), tf.constant([1])).numpy().round(3)
    array([2.303], dtype=float32)
    """
    onehot = tf.one_hot(given, tf.shape(log_pseudo_p)[-1], dtype=log_pseudo_p.dtype)
    return -tf.reduce_sum(onehot * log_pseudo_p, axis=-1)


def r2d2_loss(class_loss: tf.Tensor, entropy: tf.Tensor, *, alpha: float, beta: float) -> tf.Tensor:
    """L = alpha * L_c + beta * L_e (eq. 2), one value an image."""
    return alpha * class_loss + beta * entropy
