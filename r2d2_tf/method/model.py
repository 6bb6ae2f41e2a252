"""R2D2Model: one Keras model for all three stages; two switches tell them apart."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from r2d2_tf.backbones.layers import head_of
from r2d2_tf.distributed.workers import Batches, of_all_processes
from r2d2_tf.method import finite, mixed_precision
from r2d2_tf.method.certainty import certainty_weights
from r2d2_tf.method.losses import ClassLoss, compatibility, cross_entropy, name_of, r2d2_loss
from r2d2_tf.method.metrics import EvaluationMeasures, Measures, true_classes
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from r2d2_tf.method.steps import checks, passes
from r2d2_tf.method.steps.forward import Forward
from r2d2_tf.method.steps.seen import Seen
from r2d2_tf.method.steps.traced import Traced
from r2d2_tf.method.weight_average import WeightAverage, predicts_with_average

Batch = tuple[tf.Tensor, tf.Tensor]
Optimizer: TypeAlias = keras.optimizers.Optimizer | str
_NUMBERS = ("alpha", "beta", "pseudo_label_lr", "processes")
_SWITCHES = ("weight_decay", "compatibility", "use_unlabeled", "learn_pseudo_labels", "trains_head_alone", "weighs_certainty")


@keras.saving.register_keras_serializable(package="r2d2_tf")
class R2D2Model(keras.Model):
    """Trains `backbone` on batches of (images, rows); the pseudo-label table is the only source of targets.

        table = PseudoLabelTable(labels, num_classes=10)  # labels: -1 where there is none
        model = R2D2Model(network, table)
        model.set_stage(use_unlabeled=False, learn_pseudo_labels=False, optimizer=keras.optimizers.SGD(0.05))
        model.fit(images[table.labeled_rows], table.labeled_rows)

    Two switches tell the stages apart. While `learn_pseudo_labels` is on, the loss is eq. 2 and the rows of the batch
    descend (eq. 7); while it is off, the loss is cross entropy against each row's largest class, which for a labeled
    row is its given class, unless `table.labeled_step` let it be learned, and against all of a soft label; with
    `weighs_certainty` doubtful rows then count less (`certainty`). `use_unlabeled` says whose predictions the metrics
    describe: the unlabeled images', or, where batches hold none, the labeled images'. `weight_decay` is the coupled L2 on every
    trainable weight, and `compatibility` the weight of what ties labeled rows that are learned to their labels. While
    `trains_head_alone` is on, only the network's last layer learns, of what the others compute as in evaluation. All may be set
    at any time; a stage of the paper begins with a new optimizer, too: `set_stage`, or `compile`.

    `evaluate`, of (images, true classes), and so `fit` with `validation_data`, gives `loss`, the cross entropy, and `error`, in
    percent; images of class -1 do not count. `predict` gives logits. Network and table are saved apart: `backbone.save` and
    `table.save`. For another loss or another update of the rows, override `image_losses` or `update_rows`.

    `resumes_epoch`, set before `fit`, makes it add to what was measured of the epoch before an interruption. `average`, also a
    callback of the `fit`, is what evaluation and prediction have in place of the weights. `between_batches` is called before
    each batch of an evaluation or prediction; what it raises abandons them. `checks_batches` is for who makes batches by hand:
    the first of a `fit` are then looked at for classes in the place of rows, and for probabilities in the place of logits.

    Make it inside the strategy's scope, and the table outside. Where several processes share the strategy, each has a table,
    and applies what all of them learn: so the tables stay the same.

    Args:
        backbone: pixels `[batch, height, width, channels]` to logits `[batch, classes]`.
        table: pseudo-logits of all training images.
        class_loss: L_c, a name of losses.CLASS_LOSSES or a function of (log_p, log_pseudo_p).
        alpha: weight of the class loss.
        beta: weight of the prediction's entropy.
        pseudo_label_lr: lambda, quoted for a batch of 512.
        processes: that share the strategy.

    Raises:
        ValueError: in one line, if the network does not give logits of the table's classes, or there is no such class loss.
    """

    class_loss, alpha, beta, pseudo_label_lr = Traced(checks.class_loss_of), Traced(), Traced(), Traced()
    weight_decay, compatibility, use_unlabeled, learn_pseudo_labels = Traced(), Traced(), Traced(), Traced()
    trains_head_alone, weighs_certainty, checks_batches = Traced(), Traced(), Traced()

    def __init__(
        self,
        backbone: keras.Model,
        table: PseudoLabelTable,
        *,
        class_loss: ClassLoss | str = "reverse_kl",
        alpha: float = 0.1,
        beta: float = 0.03,
        pseudo_label_lr: float = 4000.0,
        processes: int = 1,
    ) -> None:
        super().__init__(name="r2d2")
        checks.check_parts(backbone, table)
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
        self.checks_batches, descends = True, type(self).update_rows is R2D2Model.update_rows
        self._first_batches = checks.FirstBatches(table, rows_descend=descends)
        self._passes = passes.Passes(self, self._first_batches)
        self.logits = Forward(backbone, self.distribute_strategy.num_replicas_in_sync, table.num_classes)
        self.built = True

    def set_stage(self, *, use_unlabeled: bool, learn_pseudo_labels: bool, optimizer: Optimizer | None = None) -> None:
        """Sets both switches and, if one is given, compiles the model with a new optimizer, as each stage of the paper does."""
        self.use_unlabeled, self.learn_pseudo_labels = use_unlabeled, learn_pseudo_labels
        if optimizer is not None:
            self.compile(optimizer)

    def compile(
        self,
        optimizer: Optimizer,
        loss: None = None,
        metrics: None = None,
        *,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str = False,
    ) -> None:
        """Keras' own, for an optimizer alone; ValueError for a loss or metrics, of which the model has its own, and for XLA."""
        checks.check_compiled(loss, metrics, jit_compile)
        with self.distribute_strategy.scope():
            super().compile(optimizer, run_eagerly=run_eagerly, steps_per_execution=steps_per_execution, jit_compile=False)
            if not self.optimizer.built:
                self.optimizer.build(self.trainable_variables)

    def fit(self, *arguments: Any, **options: Any) -> Any:
        """Keras' own, of batches (images, rows), with a mistake in them told in one line (ValueError)."""
        self._first_batches.begin(options, has_stage=self.compiled)
        with self._first_batches.told():
            return super().fit(*arguments, **options)

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

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Logits of `images`, `[batch, classes]`."""
        return self.backbone(images, training=training)

    def train_step(self, data: Batch) -> dict[str, tf.Tensor]:
        """One step on a replica's part of a batch: the network by SGD, the rows by `update_rows`."""
        images, rows = checks.images_and_rows(data, self.table.num_rows)
        replica = tf.distribute.get_replica_context()
        global_count = tf.cast(replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.shape(rows)[0]), tf.float32)
        weights = head_of(self.backbone).trainable_weights if self.trains_head_alone else self.trainable_variables
        pseudo_logits, labeled = self.table.gather(rows), self.table.is_labeled(rows)
        with tf.GradientTape(watch_accessed_variables=False) as row_tape, tf.GradientTape() as tape:
            row_tape.watch(pseudo_logits)
            logits = self.logits(images, training=not self.trains_head_alone)
            if self.checks_batches:
                logits = self._first_batches.look(self, logits, rows, pseudo_logits)
            seen = Seen.of(rows, labeled, global_count, pseudo_logits, logits)
            losses, class_loss = self.image_losses(seen)
            # Divided by the count over *all* replicas: Keras' optimizer sums the replicas' gradients.
            loss = tf.reduce_sum(losses) / global_count
            scaled_loss = self.optimizer.scale_loss(loss)
        # Loss scaling, where there is any, is the weights' affair, not the rows'.
        gradients = mixed_precision.agreed(self.optimizer, tape.gradient(scaled_loss, weights))
        row_gradient = row_tape.gradient(loss, pseudo_logits) if self.learn_pseudo_labels else None
        names = [f"the gradient of {weight.path}" for weight in weights]
        row_gradients = {} if row_gradient is None else {"a pseudo-logit's gradient": row_gradient}
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
        self.measures.update_state((losses, class_loss, seen.entropy), seen.log_p, seen.log_pseudo_p, described)
        # A row's step is that of its own loss, whatever the batch: undo the mean.
        own_gradient = None if row_gradient is None else checked["a pseudo-logit's gradient"] * global_count
        self.update_rows(seen.behind(checked["the loss"]), own_gradient)
        if self.shares_rows:
            # Keras averages, in each step and over the network, whatever is returned, and wants something, of rank 1:
            # training.loop reads the metrics of an epoch instead.
            return {"images": tf.reshape(global_count, [1])}
        # All that the metric knows, under its names: Keras then reads an epoch's values over all replicas itself.
        return self.measures.result()

    def image_losses(self, seen: Seen) -> tuple[tf.Tensor, tf.Tensor]:
        """The loss of each image, of which the network and its row learn, and its class loss, `[batch]` both."""
        if self.learn_pseudo_labels:
            class_loss = checks.one_an_image(self.class_loss(seen.log_p, seen.log_pseudo_p))
            losses = r2d2_loss(class_loss, seen.entropy, alpha=self.alpha, beta=self.beta)
            if self.table.labeled_step:
                losses += self.compatibility * compatibility(seen.log_pseudo_p, self.table.given_labels(seen.rows))
            return losses, class_loss
        soft = seen.labeled if self.table.has_soft_labels else None
        losses = class_loss = cross_entropy(seen.log_p, seen.pseudo_logits, soft)
        if self.weighs_certainty:
            losses *= certainty_weights(seen.log_pseudo_p, seen.labeled, seen.count)
        return losses, class_loss

    def update_rows(self, seen: Seen, gradient: tf.Tensor | None) -> None:
        """What a step makes of the rows: they descend (eq. 7).

        Whatever else writes into the table: first let `shared` put together what the replicas of other processes write.

        Args:
            seen: what the step has seen.
            gradient: of each row's own loss in its pseudo-logits, `[batch, classes]`; None while they are not learned, or
                where the loss does not depend on them.
        """
        if gradient is not None:
            rows, gradient = self.shared(seen.rows, gradient)
            self.table.descend(rows, gradient, self.pseudo_label_lr)

    def predicted(self, images: tf.Tensor) -> tf.Tensor:
        """The logits in evaluation mode; what uses them stops if they are not finite."""
        return self._finite({"a prediction": self.logits(images, training=False)})["a prediction"]

    def shared(self, *values: tf.Tensor) -> Sequence[tf.Tensor]:
        """`values`, `[n, ...]` each, as they are to be applied to this process's table: those of all processes."""
        return of_all_processes(self._num_local_replicas, values) if self.shares_rows else values

    def _finite(self, tensors: dict[str, tf.Tensor], **excuse: Any) -> dict[str, tf.Tensor]:
        return finite.checked(tensors, in_all_replicas=self.shares_rows, **excuse)

    @predicts_with_average
    def evaluate(self, *arguments: Any, **options: Any) -> Any:
        """Keras' own, which its `fit` calls with a private argument: cross entropy and error of (images, true classes)."""
        self._evaluates = True
        try:
            with self._first_batches.told():
                return super().evaluate(*arguments, **options)
        finally:
            self._evaluates = False

    def test_step(self, data: Batch) -> dict[str, tf.Tensor]:
        """One step of `evaluate` on a replica's part of a batch of (images, true classes)."""
        classes = checks.classes_in_range(true_classes(data), self.table.num_classes)
        self.evaluation.update_state(tf.nn.log_softmax(self.predicted(data[0])), classes)
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
        network = keras.saving.deserialize_keras_object(config["backbone"])
        model = cls(network, table, **{name: config[name] for name in ("class_loss", *_NUMBERS)})
        for name in config.keys() & _SWITCHES:
            setattr(model, name, config[name])
        return model

    def save(self, *_: Any, **__: Any) -> None:
        """Raises ValueError: a file of Keras would lose the table, which belongs to its training images."""
        raise ValueError(checks.HOW_TO_SAVE)

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
        top5_errors, *predicted = self._passes.sum_over(batches, passes.evaluation_step, tf.constant(labels, tf.int64))
        return np.array(predicted, np.int64), int(top5_errors)

    def repredict(self, batches: Batches) -> int:
        """Replaces the unlabeled rows of `batches`, unaugmented (images, rows), by the network's logits in evaluation (R2).

        Returns:
            Number of rows whose largest class changed.
        """
        return int(self._passes.sum_over(batches, passes.repredict_step))

    def compare(self, batches: Batches) -> None:
        """Notes in the table how every row in `batches` of (images, rows) compares with the network's prediction for it."""
        self._passes.sum_over(batches, passes.compare_step)

    def _maybe_symbolic_build(self, iterator: object = None, data_batch: object = None) -> None:
        # Keras would average a batch over the replicas to build the model, which fails on an uneven last batch.
        # Everything is built in the constructor. The name is private: Keras is pinned and a test watches it.
        return
