"""Passes over images that do not train: predictions of a model, summed or written into its table, on all replicas."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from r2d2_tf.distributed.workers import Batches
from r2d2_tf.method.row_measures import RowMeasures
from r2d2_tf.method.steps.checks import FirstBatches
from r2d2_tf.method.weight_average import WeightAverage, predicts_with_average

Model: TypeAlias = Any
"""An R2D2Model, whose module imports this one."""
Step: TypeAlias = Callable[..., tf.Tensor]
"""Of a model, a batch and more: on a replica, returns integers to be added up."""


class Passes:
    """Runs steps of a model on every batch, each traced once."""

    def __init__(self, model: Model, checks: FirstBatches) -> None:
        self._model, self._checks = model, checks
        self._functions: dict[tuple[Any, ...], Callable[..., tf.Tensor]] = {}

    @property
    def average(self) -> WeightAverage | None:
        """That of the model, with which it predicts."""
        return self._model.average

    @predicts_with_average
    def sum_over(self, batches: Batches, step: Step, *arguments: tf.Tensor) -> Any:
        """Runs `step` on every batch and the `arguments`, spread over the replicas, and adds up its integers."""
        model, strategy = self._model, self._model.distribute_strategy
        key = step, model.class_loss
        if key not in self._functions:

            def on_all(batch: tuple[tf.Tensor, tf.Tensor], arguments: tuple[tf.Tensor, ...]) -> tf.Tensor:
                summed = strategy.run(step, args=(model, *batch, *arguments))
                return strategy.reduce(tf.distribute.ReduceOp.SUM, summed, axis=None)

            self._functions[key] = tf.function(on_all, reduce_retracing=True, jit_compile=False)
        if isinstance(batches, tf.data.Dataset):
            batches = strategy.experimental_distribute_dataset(batches)
        total = np.int64(0)
        with self._checks.told():
            for batch in batches:
                model.between_batches()
                total = total + self._functions[key](batch, arguments).numpy()
        return total


def evaluation_step(model: Model, images: tf.Tensor, places: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Of how many images the class is not among the five likeliest, and each one's predicted class, `[1 + labels]`."""
    logits = model.predicted(images)
    in_top5 = tf.math.in_top_k(tf.gather(labels, places), logits, k=min(5, model.table.num_classes))
    # Each image has its own place, the others hold zeros: sums over batches and replicas put all of them together.
    predicted = tf.scatter_nd(places[:, None], tf.argmax(logits, -1), tf.shape(labels, tf.int64))
    return tf.concat([tf.math.count_nonzero(~in_top5, keepdims=True), predicted], 0)


def repredict_step(model: Model, images: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Writes the predictions into the rows; of how many the largest class changed."""
    logits = model.predicted(images)
    changes = model.table.argmax_changes(rows, logits)
    # The old rows must have been read before new ones are written.
    with tf.control_dependencies([_note_comparison(model, rows, logits), changes]):
        model.table.repredict(*model.shared(rows, logits))
    return changes


def compare_step(model: Model, images: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Notes how the rows compare with predictions; how many there are."""
    return tf.cast(_note_comparison(model, rows, model.logits(images, training=False)), tf.int64)


def _note_comparison(model: Model, rows: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Notes the RowMeasures of `rows`, and returns how many there are."""
    log_pseudo_p = tf.nn.log_softmax(model.table.gather(rows))
    measures = RowMeasures.of(tf.nn.log_softmax(logits), log_pseudo_p, model.class_loss)
    model.table.note(*model.shared(rows, measures.stacked()))
    return tf.shape(rows)[0]
