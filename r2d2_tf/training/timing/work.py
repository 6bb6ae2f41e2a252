"""What a run is made of: how often it does what. Pure functions."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from r2d2_tf.runs.run_state import RunState
from r2d2_tf.training.stages import Stage

STEP = "step"
HEAD_STEP = "step of the head alone"
"""All of the network computes, and its head alone learns: a forward pass of three passes, and little more."""
FIRST_STEP = "first step"
"""TensorFlow traces and compiles it: seconds beyond those of a step."""
EPOCH_END = "end of an epoch"
"""The test images are evaluated, and the table is looked at."""
PREDICTION = "prediction"
"""Of all unlabeled images."""
FIRST_PASS = "first pass"
"""Of an evaluation, a prediction or features: seconds beyond those of another one."""
VIEW = "view"
"""Of an image, whose features are computed."""


class Task(NamedTuple):
    """Something that a run does again and again, in about the same time.

    Attributes:
        what: STEP, or another of the names above.
        stage: its number; 0: of no stage.
        on_features: whether the network's head alone computes.
        images: that one of them is of.
    """

    what: str
    stage: int
    on_features: bool
    images: int


Work = Counter[Task]
"""How often each task is to be done."""


class Counts(NamedTuple):
    """Images of a run; `views` are those whose features are still to be computed."""

    labeled: int
    unlabeled: int
    test: int
    views: int = 0


def task(what: str, stage: Stage, counts: Counts) -> Task:
    """The task of a stage."""
    of = {EPOCH_END: counts.test, FIRST_PASS: counts.test, PREDICTION: counts.unlabeled}
    return Task(what, stage.number, stage.on_features, max(1, of.get(what, stage.images.batch_size)))


def steps_of(stage: Stage, counts: Counts) -> int:
    """Steps in an epoch."""
    return stage.images.steps_per_epoch(counts.labeled, counts.unlabeled)


def predictions_of(stage: Stage) -> int:
    """How often the unlabeled images are predicted: at the end of a stage that learns its rows, they are compared once more."""
    return len(stage.prediction_epochs) + stage.learn_pseudo_labels


def work_of(stages: Sequence[Stage], counts: Counts, state: RunState | None = None) -> Work:
    """All that is still to be done from the place of `state`, by default the run's beginning."""
    work: Work = Counter()
    state = state or RunState(stages[0].number)
    if counts.views:
        work[features_task()] += counts.views
        work[Task(FIRST_PASS, 0, False, 1)] += 1
    begun: set[bool] = set()
    for stage in stages:
        if stage.number >= state.stage:
            place = (state.epoch, state.step) if stage.number == state.stage else (0, 0)
            work += _work_of_stage(stage, counts, *place)
            if stage.on_features not in begun:
                work[task(FIRST_PASS, stage, counts)] += 1 + bool(predictions_of(stage))
        begun.add(stage.on_features)
    return work


def features_task() -> Task:
    """Of computing features."""
    return Task(VIEW, 0, False, 1)


def _work_of_stage(stage: Stage, counts: Counts, epoch: int, step: int) -> Work:
    steps = steps_of(stage, counts)
    done = epoch * steps + step
    frozen = min(stage.head_epochs, stage.epochs) * steps
    left = {HEAD_STEP: max(0, frozen - done), STEP: stage.epochs * steps - max(done, frozen)}
    predictions = predictions_of(stage) - sum(e < epoch or (e == epoch and step > 0) for e in stage.prediction_epochs)
    # Each kind of step has a first one.
    left |= {FIRST_STEP: sum(map(bool, left.values())), EPOCH_END: stage.epochs - epoch, PREDICTION: predictions}
    return Counter({task(what, stage, counts): count for what, count in left.items() if count > 0})
