"""Numbers that are not finite: found in a step before they reach weights or table, and named."""

import re
from collections.abc import Collection

import tensorflow as tf

from r2d2_tf.method.pseudo_labels import NotFinite

_NOT_FINITE = "not finite:"


def checked(
    tensors: dict[str, tf.Tensor],
    *,
    excused: Collection[str] = (),
    excuse: tf.Tensor | bool = False,
    in_all_replicas: bool = False,
) -> dict[str, tf.Tensor]:
    """The tensors; if one holds a NaN or infinity, what uses them stops, with the name of the first such tensor.

    Args:
        tensors: name -> tensor.
        excused: names of those that may hold some where `excuse`, a bool scalar, is true.
        excuse: whether they may.
        in_all_replicas: stop where another replica's tensor does. Within one process TensorFlow stops them all; of several
            processes those that went on would wait for the others for ever.
    """
    # A sum shows them, too, at one number a tensor; a finite sum that overflows is a run gone wrong as well.
    finite = tf.math.is_finite(tf.stack([tf.reduce_sum(tensor) for tensor in tensors.values()]))
    finite |= tf.constant([name in set(excused) for name in tensors]) & excuse
    if in_all_replicas:
        context = tf.distribute.get_replica_context()
        finite = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(~finite, tf.int32)) == 0
    with tf.device("/CPU:0"):
        first = tf.gather(tf.constant(list(tensors)), tf.argmin(tf.cast(finite, tf.int32)))
        check = tf.debugging.Assert(tf.reduce_all(finite), [tf.strings.join([_NOT_FINITE, first], " ")])
    # Passed on behind the check: by itself nothing would make an update wait for it.
    with tf.control_dependencies([check]):
        return {name: tf.identity(tensor) for name, tensor in tensors.items()}


def name_of(error: Exception) -> str | None:
    """What was NaN or infinite, in words, if that is why a step, a prediction or a checkpoint failed; else None."""
    if isinstance(error, NotFinite):
        return str(error)
    found = re.search(rf"{_NOT_FINITE} ([^\]\n]*)", str(error))
    return found[1].strip() if found else None
