"""An average of the network's weights over the steps of a stage, with which it predicts while it learns."""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from r2d2_tf.method.metrics import Logs


class WeightAverage(keras.callbacks.Callback):
    """Exponential moving average of a model's weights, debiased; a callback of the `fit` whose steps it follows.

    After step t of the optimizer, counted from 1,

        average <- average + (1 - momentum) / (1 - momentum^t) * (weights - average)

    which makes it sum_i momentum^(t-i) weights_i / sum_i momentum^(t-i), as in Adam's debiasing (Kingma and Ba 2015): what the
    weights were before the first step does not count, but that until then the average is just that. At the end of `fit` the
    weights become the average. Running statistics, which are no trained weights, stay the network's own.

        model.average = WeightAverage(model, momentum=0.99)
        model.fit(batches, callbacks=[model.average])

    Keras has an average of its own (`use_ema` of an optimizer, with SwapEMAWeights). It is not debiased, and on TensorFlow it
    changes places with the weights by sums and differences, which round: training would then depend on how often a run
    predicted. Here they change places bit for bit, and a run that is resumed ends as an undisturbed one.

    Args:
        model: built; with an optimizer when `fit` begins.
        momentum: above 0 and below 1.

    Attributes:
        variables: the average of each of the model's trainable weights, in their order.
    """

    def __init__(self, model: keras.Model, momentum: float) -> None:
        super().__init__()
        self._log_momentum = math.log(momentum)
        self._weights, self._strategy = list(model.trainable_variables), model.distribute_strategy
        with self._strategy.scope():
            self.variables = [
                keras.Variable(weight.numpy(), dtype=weight.dtype, trainable=False, name=f"average_{number}")
                for number, weight in enumerate(self._weights)
            ]
        # The others are rare, and TensorFlow warns of what is traced often.
        self._follow = tf.function(self._followed)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._follow(tf.convert_to_tensor(self.model.optimizer.iterations))

    def on_train_end(self, logs: Logs | None = None) -> None:
        self._each(self._weights, self.variables, lambda weight, average: weight.assign(average))

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """To the end of the block the network has the average in place of its weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _followed(self, steps: tf.Tensor) -> None:
        # With loss scaling the first steps may be skipped.
        exponent = self._log_momentum * tf.cast(tf.maximum(steps, 1), tf.float64)
        share = tf.cast(-math.expm1(self._log_momentum) / -tf.math.expm1(exponent), tf.float32)
        self._each(self.variables, self._weights, lambda average, weight: average.assign_add(share * (weight - average)))

    def _exchange(self) -> None:
        def exchange(weight: tf.Variable, average: tf.Variable) -> None:
            before = tf.identity(weight)
            weight.assign(average)
            average.assign(before)

        self._each(self._weights, self.variables, exchange)

    def _each(self, changed: list[Any], others: list[Any], change: Callable[[tf.Variable, tf.Variable], object]) -> None:
        """Calls `change` with the variables pair by pair, in each replica."""
        for variable, other in zip(changed, others, strict=True):
            self._strategy.extended.update(variable.value, change, args=(other.value,), group=False)


def predicts_with_average(method: Callable[..., Any]) -> Callable[..., Any]:
    """Of a method of a model: while it runs the network has its `average` in place of its weights, if there is one."""

    @functools.wraps(method)
    def wrapped(self: Any, *arguments: Any, **options: Any) -> Any:
        with self.average.in_place() if self.average else contextlib.nullcontext():
            return method(self, *arguments, **options)

    return wrapped
