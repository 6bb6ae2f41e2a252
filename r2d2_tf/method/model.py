"""R2D2Model: one Keras model for all three stages; two switches tell them apart."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from r2d2_tf.backbones.layers import head_of
from r2d2_tf.distributed.workers import Batches, of_all_processes
from r2d2_tf.method import finite, mixed_precision
from r2d2_tf.method.certainty import certainty_weights
from r2d2_tf.method.losses import CLASS_LOSSES, ClassLoss, compatibility, cross_entropy, name_of, prediction_entropy, r2d2_loss
from r2d2_tf.method.metrics import EvaluationMeasures, Measures, true_classes
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from r2d2_tf.method.row_measures import RowMeasures
from r2d2_tf.method.weight_average import WeightAverage, predicts_with_average

Batch = tuple[tf.Tensor, tf.Tensor]
_NUMBERS = ("alpha", "beta", "pseudo_label_lr", "processes")
_SWITCHES = ("weight_decay", "compatibility", "use_unlabeled", "learn_pseudo_labels", "trains_head_alone", "weighs_certainty")


@keras.saving.register_keras_serializable(package="r2d2_tf")
class R2D2Model(keras.Model):
    """Trains `backbone` on batches of (images, rows); the pseudo-label table is the only source of targets.

    Two switches tell the stages apart. While `learn_pseudo_labels` is on, the loss is eq. 2 and the rows of the batch
    descend (eq. 7); while it is off, the loss is cross entropy against each row's largest class, which for a labeled
    row is its given class, unless `table.labeled_step` let it be learned, and against all of a soft label; with
    `weighs_certainty` doubtful rows then count less (`certainty`). `use_unlabeled` says whose predictions the metrics describe:
    the unlabeled images', or, where batches hold none, the labeled images'. `weight_decay` is the coupled L2 on every trainable
    weight, and `compatibility` the weight of what ties labeled rows that are learned to their labels. Set all, then `compile`,
    before each stage: the step is traced anew.

    While `trains_head_alone` is on, only the network's last layer learns, of what the others compute as in evaluation: their
    running statistics stay, and no image is dropped out. `train_head_alone` turns it on and off between steps.

    `evaluate`, of (images, true classes), and so `fit` with `validation_data`, gives `loss`, the cross entropy, and `error`, in
    percent; images of class -1 do not count. Network and table are saved apart: `backbone.save` and `table.save`.

    `resumes_epoch`, set before `fit`, makes it add to what was measured of the epoch before an interruption. `average`, also a
    callback of the `fit`, is what evaluation and prediction have in place of the weights. `between_batches` is called before
    each batch of an evaluation or prediction; what it raises abandons them.

    Make it inside the strategy's scope, and the table outside. Where several processes share the strategy, each has a table,
    and applies what all of them learn: so the tables stay the same.

    Args:
        backbone: pixels `[batch, height, width, channels]` to logits `[batch, classes]`.
        table: pseudo-logits of all training images.
        class_loss: L_c, a value of losses.CLASS_LOSSES.
        alpha: weight of the class loss.
        beta: weight of the prediction's entropy.
        pseudo_label_lr: lambda, quoted for a batch of 512.
        processes: that share the strategy.
    """

    def __init__(
        self,
        backbone: keras.Model,
        table: PseudoLabelTable,
        *,
        class_loss: ClassLoss,
        alpha: float,
        beta: float,
        pseudo_label_lr: float,
        processes: int = 1,
    ) -> None:
        super().__init__(name="r2d2")
        self.backbone, self.table, self.class_loss = backbone, table, class_loss
        self.alpha, self.beta, self.pseudo_label_lr = alpha, beta, pseudo_label_lr
        self.weight_decay = self.compatibility = 0.0
        self.use_unlabeled = self.learn_pseudo_labels = self.trains_head_alone = self.weighs_certainty = False
        self.processes, self.shares_rows = processes, processes > 1
        self._num_local_replicas = self.distribute_strategy.num_replicas_in_sync // processes
        self.average: WeightAverage | None = None
        self.measures, self.evaluation = Measures(table.num_classes), EvaluationMeasures()
        self._evaluates = self.resumes_epoch = False
        self.between_batches: Callable[[], object] = lambda: None
        self._functions: dict[str, Callable[..., tf.Tensor]] = {}
        self.built = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """What is measured over the images of an epoch, or in `evaluate`; `fit` and `evaluate` reset it."""
        # Never both: a validation between the last step of an epoch and its end would reset what the epoch measured.
        return [self.evaluation if self._evaluates else self.measures]

    def reset_metrics(self) -> None:
        """Forgets what was measured, but of an epoch for the first time after `resumes_epoch` was set."""
        if self._evaluates or not self.resumes_epoch:
            super().reset_metrics()
        self.resumes_epoch &= self._evaluates

    def train_head_alone(self, alone: bool) -> None:
        """Switches, and has the step traced anew if that changes it; the optimizer, with all weights' momenta, stays."""
        if alone != self.trains_head_alone:
            self.trains_head_alone = alone
            self.make_train_function(force=True)

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Logits of `images`, `[batch, classes]`."""
        return self.backbone(images, training=training)

    def train_step(self, data: Batch) -> dict[str, tf.Tensor]:
        """One step on a replica's part of a batch: the network by SGD, the rows by eq. 7."""
        images, rows = data
        replica = tf.distribute.get_replica_context()
        global_count = tf.cast(replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.shape(rows)[0]), tf.float32)
        weights = head_of(self.backbone).trainable_weights if self.trains_head_alone else self.trainable_variables
        pseudo_logits, labeled = self.table.gather(rows), self.table.is_labeled(rows)
        with tf.GradientTape(watch_accessed_variables=False) as row_tape, tf.GradientTape() as tape:
            row_tape.watch(pseudo_logits)
            log_p = tf.nn.log_softmax(self._logits(images, training=not self.trains_head_alone))
            log_pseudo_p = tf.nn.log_softmax(pseudo_logits)
            entropy = prediction_entropy(log_p)
            if self.learn_pseudo_labels:
                class_loss = self.class_loss(log_p, log_pseudo_p)
                losses = r2d2_loss(class_loss, entropy, alpha=self.alpha, beta=self.beta)
                if self.table.labeled_step:
                    losses += self.compatibility * compatibility(log_pseudo_p, self.table.given_labels(rows))
            else:
                soft = labeled if self.table.has_soft_labels else None
                losses = class_loss = cross_entropy(log_p, pseudo_logits, soft)
                if self.weighs_certainty:
                    losses *= certainty_weights(log_pseudo_p, labeled, global_count)
            # Divided by the count over *all* replicas: Keras' optimizer sums the replicas' gradients.
            loss = tf.reduce_sum(losses) / global_count
            scaled_loss = self.optimizer.scale_loss(loss)
        # Loss scaling, where there is any, is the weights' affair, not the rows'.
        gradients = mixed_precision.agreed(self.optimizer, tape.gradient(scaled_loss, weights))
        row_gradient = row_tape.gradient(loss, pseudo_logits)
        names = [f"the gradient of {weight.path}" for weight in weights]
        row_gradients = {"a pseudo-logit's gradient": row_gradient} if self.learn_pseudo_labels else {}
        checked = self._finite(
            {"a pseudo-logit": pseudo_logits, "the loss": loss} | row_gradients | dict(zip(names, gradients, strict=True)),
            excused=names,
            excuse=mixed_precision.may_skip(self.optimizer),
        )
        # Coupled L2, as the authors; the optimizer's own weight_decay would be decoupled and so much weaker.
        decay = self.optimizer.scale_loss(self.weight_decay / replica.num_replicas_in_sync)
        self.optimizer.apply([checked[name] + decay * w for name, w in zip(names, weights, strict=True)], weights)
        # Theorem 2 speaks of the learned rows: labeled ones, clamped near 1, would blur the comparison.
        described = tf.cast(labeled != self.use_unlabeled, tf.float32)
        self.measures.update_state((losses, class_loss, entropy), log_p, log_pseudo_p, described)
        if self.learn_pseudo_labels:
            # A row's step is that of its own loss, whatever the batch: undo the mean.
            own_gradient = checked["a pseudo-logit's gradient"] * global_count
            rows, own_gradient = self._shared(rows, own_gradient)
            self.table.descend(rows, own_gradient, self.pseudo_label_lr)
        if self.shares_rows:
            # Keras averages, in each step and over the network, whatever is returned, and wants something, of rank 1:
            # training.loop reads the metrics of an epoch instead.
            return {"images": tf.reshape(global_count, [1])}
        # All that the metric knows, under its names: Keras then reads an epoch's values over all replicas itself.
        return self.measures.result()

    def _logits(self, images: tf.Tensor, *, training: bool) -> tf.Tensor:
        # Where a last batch has fewer images than there are replicas, a replica gets none, and oneDNN's convolution
        # fails on an empty batch: show it one blank image, whose logits nobody sees. `num_images` keeps the blank out of
        # statistics that replicas share.
        count = tf.shape(images)[0]
        if self.distribute_strategy.num_replicas_in_sync == 1:
            # It has at least one image, and a copy of all would cost a small network a hundredth of its step.
            return tf.cast(self.backbone(images, training=training, num_images=count), tf.float32)
        blank = tf.cast(count == 0, tf.int32)
        padded = tf.pad(images, [[0, blank], *[[0, 0]] * (images.shape.rank - 1)])
        return tf.cast(self.backbone(padded, training=training, num_images=count), tf.float32)[:count]

    def _predicted(self, images: tf.Tensor) -> tf.Tensor:
        return self._finite({"a prediction": self._logits(images, training=False)})["a prediction"]

    def _shared(self, *values: tf.Tensor) -> Sequence[tf.Tensor]:
        """`values`, `[n, ...]` each, as they are to be applied to this process's table: those of all processes."""
        return of_all_processes(self._num_local_replicas, values) if self.shares_rows else values

    def _finite(self, tensors: dict[str, tf.Tensor], **excuse: Any) -> dict[str, tf.Tensor]:
        return finite.checked(tensors, in_all_replicas=self.shares_rows, **excuse)

    @predicts_with_average
    def evaluate(self, *arguments: Any, **options: Any) -> Any:
        """Keras' own, which its `fit` calls with a private argument: cross entropy and error of (images, true classes)."""
        self._evaluates = True
        try:
            return super().evaluate(*arguments, **options)
        finally:
            self._evaluates = False

    def test_step(self, data: Batch) -> dict[str, tf.Tensor]:
        """One step of `evaluate` on a replica's part of a batch of (images, true classes)."""
        classes = true_classes(data)
        self.evaluation.update_state(tf.nn.log_softmax(self._predicted(data[0])), classes)
        # Keras then reads the metric over all replicas; of several processes it averages this, which must be of rank 1, first.
        return {name: tf.reshape(value, [1]) if self.shares_rows else value for name, value in self.evaluation.result().items()}

    def get_config(self) -> dict[str, Any]:
        """All that the constructor takes but the table, and the switches; ValueError if the class loss is none of ours."""
        named = {"class_loss": name_of(self.class_loss), "backbone": keras.saving.serialize_keras_object(self.backbone)}
        return named | {name: getattr(self, name) for name in (*_NUMBERS, *_SWITCHES)}

    @classmethod
    def from_config(cls, config: dict[str, Any], table: PseudoLabelTable | None = None) -> "R2D2Model":
        """The model of a config, its network freshly initialised, on `table`."""
        if table is None:
            raise ValueError(f"a config has no table of pseudo-labels: {cls.__name__}.from_config(config, table)")
        numbers = {name: config[name] for name in _NUMBERS}
        network, class_loss = keras.saving.deserialize_keras_object(config["backbone"]), CLASS_LOSSES[config["class_loss"]]
        model = cls(network, table, class_loss=class_loss, **numbers)
        for name in config.keys() & _SWITCHES:
            setattr(model, name, config[name])
        return model

    def save(self, *_: Any, **__: Any) -> None:
        """Raises ValueError: a file of Keras would lose the table, which belongs to its training images."""
        how = "model.backbone.save('network.keras') and model.table.save('pseudo_labels.npz', ids)"
        raise ValueError(f"an R2D2Model is not saved in one file: save its network and its pseudo-labels, by {how}")

    def evaluate_images(self, batches: Batches, labels: np.ndarray) -> tuple[np.ndarray, int]:
        """Predicts all of some images in evaluation mode, whichever replica or process has which of them.

        Args:
            batches: (images, places): each image's place in `labels`, int64.
            labels: true classes, `[images]`.

        Returns:
            The predicted classes, `[images]` int64, and of how many images the true class is not among the five likeliest.

        Raises:
            tf.errors.InvalidArgumentError: if a logit is not finite.
        """
        top5_errors, *predicted = self._sum_over(batches, self._evaluation_step, tf.constant(labels, tf.int64))
        return np.array(predicted, np.int64), int(top5_errors)

    def repredict(self, batches: Batches) -> int:
        """Replaces the unlabeled rows by the network's logits (R2), in evaluation mode, batch by batch.

        Args:
            batches: unaugmented (images, rows).

        Returns:
            Number of rows whose largest class changed.
        """
        return int(self._sum_over(batches, self._repredict_step))

    def compare(self, batches: Batches) -> None:
        """Notes in the table how every row in `batches` of (images, rows) compares with the network's prediction for it."""
        self._sum_over(batches, self._compare_step)

    def _evaluation_step(self, images: tf.Tensor, places: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        logits = self._predicted(images)
        in_top5 = tf.math.in_top_k(tf.gather(labels, places), logits, k=min(5, self.table.num_classes))
        # Each image has its own place, the others hold zeros: sums over batches and replicas put all of them together.
        predicted = tf.scatter_nd(places[:, None], tf.argmax(logits, -1), tf.shape(labels, tf.int64))
        return tf.concat([tf.math.count_nonzero(~in_top5, keepdims=True), predicted], 0)

    def _repredict_step(self, images: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        logits = self._predicted(images)
        changes = self.table.argmax_changes(rows, logits)
        # The old rows must have been read before new ones are written.
        with tf.control_dependencies([self._note_comparison(rows, logits), changes]):
            self.table.repredict(*self._shared(rows, logits))
        return changes

    def _compare_step(self, images: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        return tf.cast(self._note_comparison(rows, self._logits(images, training=False)), tf.int64)

    def _note_comparison(self, rows: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Notes the RowMeasures of `rows`, and returns how many there are."""
        measures = RowMeasures.of(tf.nn.log_softmax(logits), tf.nn.log_softmax(self.table.gather(rows)), self.class_loss)
        self.table.note(*self._shared(rows, measures.stacked()))
        return tf.shape(rows)[0]

    @predicts_with_average
    def _sum_over(self, batches: Batches, replica_step: Callable[..., tf.Tensor], *arguments: tf.Tensor) -> Any:
        """Runs `replica_step` on every batch and the `arguments`, spread over the replicas, and adds up its integers."""
        strategy = self.distribute_strategy
        key = replica_step.__name__
        if key not in self._functions:

            def step(batch: Batch, arguments: tuple[tf.Tensor, ...]) -> tf.Tensor:
                summed = strategy.run(replica_step, args=(*batch, *arguments))
                return strategy.reduce(tf.distribute.ReduceOp.SUM, summed, axis=None)

            self._functions[key] = tf.function(step, reduce_retracing=True, jit_compile=False)
        if isinstance(batches, tf.data.Dataset):
            batches = strategy.experimental_distribute_dataset(batches)
        total = np.int64(0)
        for batch in batches:
            self.between_batches()
            total = total + self._functions[key](batch, arguments).numpy()
        return total

    def _maybe_symbolic_build(self, iterator: object = None, data_batch: object = None) -> None:
        # Keras would average a batch over the replicas to build the model, which fails on an uneven last batch.
        # Everything is built in the constructor. The name is private: Keras is pinned and a test watches it.
        return
