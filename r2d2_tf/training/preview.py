"""`--dry_run`: what a run will need of time, memory and disk, by a few of its own steps. Writes nothing."""

import resource
import sys
import time

import numpy as np

from r2d2_tf.data.photographs import Photographs
from r2d2_tf.system import messages, resources
from r2d2_tf.system.messages import time_text
from r2d2_tf.training.experiment import Experiment
from r2d2_tf.training.stages import Stage
from r2d2_tf.training.timing import work
from r2d2_tf.training.timing.pace import CHECKPOINTS
from r2d2_tf.training.timing.trial import Estimate, estimate


def preview(experiment: Experiment, began: float) -> str:
    """Times some steps of each kind and returns what the whole run will take, as text.

    Changes the weights and rows in memory: nothing can be trained with `experiment` afterwards. `began` is
    `time.perf_counter()` when the program started.
    """
    found = estimate(experiment, time.perf_counter() - began, say=_say)
    lines = _time_lines(found, experiment)
    if experiment.learners.features:
        seconds = found.seconds(work.VIEW)
        takes = f"about {time_text(*seconds)}" if seconds.high else "all are there from before"
        lines.append(f"Features, {experiment.learners.features.text}: {takes}.")
    return "\n".join([*lines, "", *_memory_lines(experiment), "", *_disk_lines(experiment)])


def _say(what: str) -> None:
    print(f"dry run: {what}", file=sys.stderr, flush=True)


def _time_lines(found: Estimate, experiment: Experiment) -> list[str]:
    images = ["", "steps", "images trained", "predicted", "evaluated", "a step"]
    seconds = ["", "training", "predicting", "evaluating", "in all"]
    features = found.seconds(work.VIEW)
    also = f"{time_text(*features)} for features, " if features.high else ""
    return [
        *messages.columns([images, *(_images(found, stage, experiment.counts) for stage in experiment.stages)]),
        "",
        *messages.columns([seconds, *(_seconds(found, stage) for stage in experiment.stages)]),
        f"The whole run would take about {time_text(*found.seconds())} on this machine, as busy as it is now: the "
        f"stages, {also}{time_text(found.start)} to start, and {100 * CHECKPOINTS:.0f} % for checkpoints.",
    ]


def _images(found: Estimate, stage: Stage, counts: work.Counts) -> list[str]:
    step = found.pace(work.task(work.HEAD_STEP if stage.head_epochs == stage.epochs else work.STEP, stage, counts)).middle
    steps = work.steps_of(stage, counts)
    images = (
        stage.epochs * _images_an_epoch(stage, steps, counts),
        work.predictions_of(stage) * counts.unlabeled,
        stage.epochs * counts.test,
    )
    return [
        f"stage {stage.number}",
        f"{stage.epochs * steps:,}",
        *(f"{count:,}" for count in images),
        f"{step:.3g} s",
    ]


def _seconds(found: Estimate, stage: Stage) -> list[str]:
    kinds = (work.STEP, work.HEAD_STEP, work.FIRST_STEP), (work.PREDICTION,), (work.EPOCH_END,), ()
    parts = (found.seconds(*own, stage=stage.number) for own in kinds)
    return [f"stage {stage.number}", *(time_text(*own) if own.high else "-" for own in parts)]


def _images_an_epoch(stage: Stage, steps: int, counts: work.Counts) -> int:
    if stage.images.labeled_per_batch is not None:
        return steps * stage.images.batch_size
    pool = counts.labeled + counts.unlabeled * stage.images.use_unlabeled
    return min(steps * stage.images.batch_size, pool)


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
        f"  {resources.size_text(peak):>12}  the most that this process held while it tried steps: all that, TensorFlow, "
        "and the activations of the network, which are known by trying alone",
        f"  {resources.size_text(available):>12}  still available {whose}",
    ]


def _disk_lines(experiment: Experiment) -> list[str]:
    size = experiment.checkpoint_bytes
    return [
        f"Disk: checkpoints of {resources.size_text(size)}, {resources.CHECKPOINTS_AT_ONCE} of them while one is written "
        f"({resources.size_text(resources.CHECKPOINTS_AT_ONCE * size)}).",
    ]
