"""`--dry_run`: what a run will need of time, memory and disk, by a few of its own steps. Writes nothing."""

import functools
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from r2d2_tf.data.photographs import Photographs
from r2d2_tf.method.model import R2D2Model
from r2d2_tf.runs import run_labels
from r2d2_tf.system import messages, resources
from r2d2_tf.training.callbacks import diagnostics
from r2d2_tf.training.experiment import Experiment
from r2d2_tf.training.loop import prepare
from r2d2_tf.training.pipeline import RunBatches
from r2d2_tf.training.stages import Stage

_FEWEST, _ENOUGH_SECONDS, _MOST_SECONDS = 3, 2.0, 20.0
"""Timed steps of a kind: at least so many, and for so long; but no more once this long has gone. Where one step takes that long
it is tried once, and other kinds are reckoned from it by their images."""
_CHECKPOINTS = 0.02
"""Share of a run's time that its checkpoints take: what callbacks.RunCheckpoint allows them, and tools.benchmark measured."""


@dataclass(frozen=True)
class Pace:
    """Seconds that a kind of step takes: the first one more, for TensorFlow compiles it, and each."""

    first: float
    each: float

    def of(self, count: int) -> float:
        """Seconds of `count` of them."""
        return self.first + count * self.each if count else 0.0


@dataclass(frozen=True)
class StageCost:
    """Images and seconds of a stage."""

    stage: Stage
    steps: int
    step: Pace
    trained: int
    predicted: int
    evaluated: int
    training: float
    predicting: float
    evaluating: float

    @property
    def seconds(self) -> float:
        return self.training + self.predicting + self.evaluating


def preview(experiment: Experiment, began: float) -> str:
    """Times some steps of each kind and returns what the whole run will take, as text.

    Changes the weights and rows in memory: nothing can be trained with `experiment` afterwards. `began` is
    `time.perf_counter()` when the program started.
    """
    start = time.perf_counter() - began
    features = _seconds_of_features(experiment)
    costs = _measure(experiment)
    lines = _time_lines(costs, start, features)
    if experiment.learners.features:
        takes = f"about {_time_text(features)}" if features else "all are there from before"
        lines.append(f"Features, {experiment.learners.features.text}: {takes}.")
    return "\n".join([*lines, "", *_memory_lines(experiment), "", *_disk_lines(experiment)])


def _seconds_of_features(experiment: Experiment) -> float:
    """That the features take which are not kept from before."""
    features = experiment.learners.features
    missing = features.missing() if features else 0
    if features is None or not missing:
        return 0.0
    _say(f"timing the features of {missing:,} images and views")
    # TensorFlow compiles.
    features.try_batches(1)
    began = time.perf_counter()
    images = features.try_batches(1)
    seconds = time.perf_counter() - began
    if seconds < _ENOUGH_SECONDS:
        began = time.perf_counter()
        images = features.try_batches(1 + int(_ENOUGH_SECONDS / seconds))
        seconds = time.perf_counter() - began
    return missing * seconds / images


def _measure(experiment: Experiment) -> list[StageCost]:
    data, table, config, size = experiment.data, experiment.table, experiment.config, experiment.config.eval_batch_size
    costs: list[StageCost] = []
    for number, stage in enumerate(experiment.stages):
        if number == 0 or stage.on_features != experiment.stages[number - 1].on_features:
            learner = experiment.learners.stand_in(stage)
            model, batches = learner.model, RunBatches(config, learner.data, table, experiment.workers)
            test, unlabeled = batches.test(), batches.unlabeled()
            _say(f"timing the evaluation of {size:,} images a batch")
            evaluation = _pass_of(test, functools.partial(model.evaluate_images, labels=data.test_labels))
            prediction, compiled = Pace(0.0, 0.0), False
        predictions = len(stage.prediction_epochs) + stage.learn_pseudo_labels
        if predictions and not prediction.each:
            an_image = evaluation.each / len(data.test_labels)
            if an_image * size > _MOST_SECONDS:
                prediction = Pace(0.0, an_image * len(table.unlabeled_rows))
            else:
                _say(f"timing the prediction of {size:,} images a batch")
                prediction = _pass_of(unlabeled, model.repredict)
        steps = stage.images.steps_per_epoch(len(table.labeled_rows), len(table.unlabeled_rows))
        expected = costs[-1].step.each / costs[-1].stage.images.batch_size * stage.images.batch_size if costs else 0.0
        if expected > _MOST_SECONDS:
            step = Pace(0.0, expected)
            _say(f"stage {stage.number}: not tried; by its {stage.images.batch_size:,} images a step takes {expected:.3g} s")
        else:
            _say(f"timing stage {stage.number}, {stage.images.batch_size:,} images a step; the first step may take minutes")
            step = _train(experiment, model, stage, batches)
            _say(f"stage {stage.number}: a step takes {step.each:.3g} s")
        # The walk over the table that follows each epoch.
        walk = functools.partial(diagnostics.table_statistics, table, run_labels.hidden_labels(data))
        report = _seconds_of(walk) if stage.images.use_unlabeled else 0.0
        # Compiled once a model.
        once = Pace(0.0, evaluation.each) if compiled else evaluation
        compiled = True
        costs.append(
            StageCost(
                stage,
                steps,
                step,
                trained=stage.epochs * _images_an_epoch(stage, steps, experiment),
                predicted=predictions * len(table.unlabeled_rows),
                evaluated=stage.epochs * len(data.test_labels),
                training=step.of(stage.epochs * steps),
                predicting=prediction.of(predictions),
                evaluating=once.of(stage.epochs) + stage.epochs * report,
            )
        )
    return costs


def _images_an_epoch(stage: Stage, steps: int, experiment: Experiment) -> int:
    table = experiment.table
    if stage.images.labeled_per_batch is not None:
        return steps * stage.images.batch_size
    pool = len(table.labeled_rows) + len(table.unlabeled_rows) * stage.images.use_unlabeled
    return min(steps * stage.images.batch_size, pool)


class _Clock(keras.callbacks.Callback):
    """Notes when each batch ended, and stops once there are enough."""

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        # Nothing is to be learned; and a rate that is too high must not end the preview.
        self.model.optimizer.learning_rate.assign(0.0)
        self.times = [time.perf_counter()]

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.times.append(time.perf_counter())
        timed, seconds = len(self.times) - 2, self.times[-1] - self.times[1]
        is_slow = max(seconds, self.times[1] - self.times[0]) >= _MOST_SECONDS
        if is_slow or (timed >= _FEWEST and seconds >= _ENOUGH_SECONDS):
            self.model.stop_training = True


def _train(experiment: Experiment, model: R2D2Model, stage: Stage, batches: RunBatches) -> Pace:
    prepare(model, stage, experiment.config, experiment.workers.strategy)
    clock = _Clock()
    # Repeated: Keras complains of a data set that ends before it is told to stop.
    model.fit(batches.training(stage, epoch=0, step=0).repeat(), epochs=1, callbacks=[clock], shuffle=False, verbose=0)
    first, *later = np.diff(clock.times)
    # A stage of one step has no other to be timed.
    each = float(np.mean(later)) if later else float(first)
    return Pace(max(0.0, float(first) - each), each)


def _pass_of(batches: tf.data.Dataset, run: Callable[[tf.data.Dataset], object]) -> Pace:
    """Seconds of a pass over all batches, timed on as many as `_ENOUGH_SECONDS` carry, or on several passes."""
    count = int(batches.cardinality())
    first = _seconds_of(lambda: run(batches.take(1)))
    if first > _MOST_SECONDS:
        return Pace(0.0, count * first)
    again = _seconds_of(lambda: run(batches.take(1)))
    timed = min(count, max(1, int(_ENOUGH_SECONDS / again)))
    part = batches.take(timed)
    passes = [_seconds_of(lambda: run(part))]
    while sum(passes) < _ENOUGH_SECONDS:
        passes.append(_seconds_of(lambda: run(part)))
    return Pace(max(0.0, first - again), count / timed * float(np.mean(passes)))


def _seconds_of(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def _say(what: str) -> None:
    print(f"dry run: {what}", file=sys.stderr, flush=True)


def _time_lines(costs: Sequence[StageCost], start: float, features: float) -> list[str]:
    head = ["", "steps", "images trained", "predicted", "evaluated", "a step", "training", "predicting", "evaluating", "in all"]
    rows = [
        (
            f"stage {cost.stage.number}",
            f"{cost.stage.epochs * cost.steps:,}",
            *(f"{images:,}" for images in (cost.trained, cost.predicted, cost.evaluated)),
            f"{cost.step.each:.3g} s",
            *(_time_text(seconds) for seconds in (cost.training, cost.predicting, cost.evaluating, cost.seconds)),
        )
        for cost in costs
    ]
    also = f"{_time_text(features)} for features, " if features else ""
    total = start + features + sum(cost.seconds for cost in costs)
    return [
        *messages.columns([head, *rows]),
        f"The whole run would take about {_time_text(total * (1 + _CHECKPOINTS))} on this machine, as busy as it is now: the "
        f"stages, {also}{_time_text(start)} to start, and {100 * _CHECKPOINTS:.0f} % for checkpoints.",
    ]


def _memory_lines(experiment: Experiment) -> list[str]:
    replicas = experiment.workers.strategy.num_replicas_in_sync
    network, trained = (4 * sum(int(np.prod(v.shape)) for v in variables) for variables in experiment.learners.variables)
    data = experiment.data
    held = [images for images in (data.train_images, data.test_images) if not isinstance(images, Photographs)]
    in_memory = sum(int(np.prod(images.shape)) for images in held)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    parts = {
        **resources.table_bytes(experiment.sizes),
        "images" if held else "images, which stay in their files": in_memory,
        f"the network, its momentum and a step's gradients, on {replicas} replica{'s' * (replicas > 1)}": replicas
        * (network + 2 * trained),
    }
    available, whose = resources.available_memory()
    return [
        "Memory:",
        *(f"  {resources.size_text(size):>12}  {what}" for what, size in parts.items()),
        f"  {resources.size_text(peak):>12}  the most that this process held while it tried steps: all that, TensorFlow,",
        "                and the activations of the network, which are known by trying alone",
        f"  {resources.size_text(available):>12}  still available {whose}",
    ]


def _disk_lines(experiment: Experiment) -> list[str]:
    size = experiment.checkpoint_bytes
    return [
        f"Disk: checkpoints of {resources.size_text(size)}, {resources.CHECKPOINTS_AT_ONCE} of them while one is written "
        f"({resources.size_text(resources.CHECKPOINTS_AT_ONCE * size)}).",
    ]


def _time_text(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss; below ten with a digit after the point, above two days in days."""
    if seconds >= 2 * 86400:
        return f"{seconds / 86400:,.0f} days"
    return f"{seconds:.1f} s" if seconds < 10 else tqdm.format_interval(seconds)
