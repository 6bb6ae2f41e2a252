"""What is trained in a benchmark: noise in the shape of a data set, and the project's own models on it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from r2d2_tf import backbones
from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.data.image_data import UNLABELED
from r2d2_tf.method.losses import CLASS_LOSSES
from r2d2_tf.method.model import R2D2Model
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from r2d2_tf.runs.checkpoints import Checkpoints
from r2d2_tf.runs.predictions import PredictionHistory
from r2d2_tf.runs.run_state import RunState
from tools.benchmark.measuring import PartFailed, Work
from tools.benchmark.settings import Settings

Action = Callable[[], None]
LEARNING_RATE = 1e-4
"""Low: trained on noise for long, a network would else end where numbers are tiny, and slow."""


def prepare(settings: Settings) -> None:
    """Sets threads and seed, before TensorFlow does anything in this process."""
    tf.config.threading.set_intra_op_parallelism_threads(settings.threads)
    tf.config.threading.set_inter_op_parallelism_threads(settings.threads)
    keras.utils.set_random_seed(0)


def noise(shape: Sequence[int], count: int) -> np.ndarray:
    """uint8 images, `[count, *shape]`."""
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def some_labels(num_rows: int, num_classes: int, *, num_labeled: int) -> np.ndarray:
    """Given classes of the first `num_labeled` rows, -1 for the others, `[num_rows]`."""
    rows = np.arange(num_rows)
    return np.where(rows < num_labeled, rows % num_classes, UNLABELED)


def build_backbone(config: Config, num_classes: int = 0) -> keras.Model:
    """The network of a config, for as many classes as its data set has, or for `num_classes`."""
    spec = DATASETS[config.dataset]
    return backbones.build(config.backbone, spec.image_shape, num_classes or spec.num_classes, mean=spec.mean, std=spec.std)


def build_model(config: Config, table: PseudoLabelTable, strategy: tf.distribute.Strategy | None = None) -> R2D2Model:
    """The model of stage 2, compiled as the project does."""
    with (strategy or tf.distribute.get_strategy()).scope():
        model = R2D2Model(
            build_backbone(config, table.num_classes),
            table,
            class_loss=CLASS_LOSSES[config.class_loss],
            alpha=config.alpha,
            beta=config.beta,
            pseudo_label_lr=config.pseudo_label_lr,
        )
        model.use_unlabeled = model.learn_pseudo_labels = True
        model.checks_batches = False
        model.weight_decay = config.weight_decay
        optimizer = keras.optimizers.SGD(LEARNING_RATE, momentum=config.momentum, nesterov=True)
        optimizer.build(model.trainable_variables)
        model.compile(optimizer=optimizer, jit_compile=False)
    return model


def repeated(*batch: np.ndarray) -> tf.data.Dataset:
    """One ready batch again and again, without a copy."""
    return untuned(tf.data.Dataset.from_tensors(tuple(tf.constant(part) for part in batch)).repeat())


def untuned(ready: tf.data.Dataset) -> tf.data.Dataset:
    """Ready batches without tf.data's own tuning, under which they halve the speed of a network for seconds, at random.

    Idle cores were then seen beside a step that waited. Batches that are made step by step, as the project's are, do not have
    that.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.inject_prefetch = False
    return ready.with_options(options)


def fitting(model: keras.Model, batches: tf.data.Dataset) -> Work:
    def fit(steps: int) -> None:
        model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)

    return fit


def checkpointing(folder: Path, variables: Sequence[keras.Variable], table: PseudoLabelTable) -> tuple[Action, Action]:
    """How a run saves its variables and table in a checkpoint in `folder`, and how it restores them from there."""
    named = {f"{number:04d}": variable for number, variable in enumerate(variables)}
    history = PredictionHistory(table.unlabeled_rows)
    checkpoints = Checkpoints(folder, "")

    def restore() -> None:
        newest = checkpoints.newest(print)
        if newest is None:
            raise PartFailed("the checkpoint that was written is not there")
        newest.restore(named, table, history)

    return lambda: checkpoints.save(RunState(2), named, table, history), restore
