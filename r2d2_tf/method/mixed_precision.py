"""Mixed precision: how a float16 run keeps gradients that are too small, or too large, for 16 bits.

The network computes in bfloat16 or float16 and keeps its weights in float32; loss and table are float32 always. float16 has 5
bits of exponent, so Keras' LossScaleOptimizer multiplies the loss that the *weights* are differentiated by, and lowers the
factor where a gradient overflows: such a step leaves the weights alone. The rows have a gradient of their own, float32 all the
way and without that factor, so that they descend in every step, whatever becomes of the weights.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

LOWEST_SCALE = 1.0
"""A gradient that overflows without any factor is a run gone wrong; then nothing is skipped any longer."""


def built(
    optimizer: keras.optimizers.Optimizer, weights: Sequence[keras.Variable], mixed_precision: str
) -> keras.optimizers.Optimizer:
    """The optimizer with the variables that it needs for `weights`; for float16 with dynamic loss scaling around it."""
    if mixed_precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(weights)
    return optimizer


def scales_loss(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether the optimizer takes gradients of a scaled loss, and skips steps where they are not finite."""
    return isinstance(optimizer, keras.optimizers.LossScaleOptimizer)


def may_skip(optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
    """Whether a step may be skipped because a weight's gradient is not finite, a bool scalar."""
    if not scales_loss(optimizer):
        return tf.constant(False)
    return tf.convert_to_tensor(optimizer.dynamic_scale) > LOWEST_SCALE


def agreed(optimizer: keras.optimizers.Optimizer, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The gradients of a replica; where another's are not finite, and the loss is scaled, all NaN.

    Keras' LossScaleOptimizer asks the first replica alone whether to skip the step, and adds up all replicas' gradients if it
    is not to: an overflow on another replica would reach every weight.
    """
    if not scales_loss(optimizer):
        return list(gradients)
    # As in model._finite: a sum shows what is not finite at one number a tensor.
    finite = tf.math.is_finite(tf.stack([tf.reduce_sum(gradient) for gradient in gradients]))
    wrong = tf.cast(~tf.reduce_all(finite), tf.float32)
    anywhere = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, wrong) > 0.0
    return [tf.where(anywhere, tf.constant(float("nan"), gradient.dtype), gradient) for gradient in gradients]
