"""Times some of what a run is made of, by doing it: the one estimate of how long a run takes. Writes nothing."""

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from r2d2_tf.runs import run_labels
from r2d2_tf.training.callbacks import diagnostics
from r2d2_tf.training.experiment import Experiment
from r2d2_tf.training.pipeline import RunBatches
from r2d2_tf.training.preparing import prepare
from r2d2_tf.training.stages import Stage
from r2d2_tf.training.timing import work
from r2d2_tf.training.timing.pace import Pace, Timings, duration, reckoned
from r2d2_tf.training.timing.work import Counts, Task, Work

FEWEST, ENOUGH_SECONDS, MOST_SECONDS = 3, 2.0, 20.0
"""Timed steps of a kind: at least so many, and for so long; but no more once this long has gone. Where one step takes that long
it is tried once, and other kinds are reckoned from it by their images."""
_BRIEF_SECONDS = 0.5
"""In place of ENOUGH_SECONDS where people wait for what is only to be proposed."""
Say = Callable[[str], object]


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        work: what it is made of.
        paces: what was tried of it.
        start: seconds until it begins.
    """

    work: Work
    paces: dict[Task, Pace]
    start: float

    def seconds(self, *kinds: str, stage: int | None = None) -> Pace:
        """Of the whole run, or of some kinds of tasks, or of a stage; a kind may be of no stage."""
        chosen = Work({t: n for t, n in self.work.items() if (t.what in kinds or not kinds) and stage in (None, t.stage)})
        found = duration(chosen, self.paces) or Pace(0.0, math.inf)
        return found if kinds or stage is not None else found.plus(Pace(self.start, self.start))

    def pace(self, task: Task) -> Pace:
        """Of a task, tried or reckoned."""
        return self.paces.get(task) or reckoned(task, self.paces) or Pace(0.0, math.inf)


def estimate(experiment: Experiment, start: float, *, is_brief: bool = False, say: Say = lambda what: None) -> Estimate:
    """What the whole run will take, by a few seconds of each kind of task.

    Changes the weights and rows in memory: nothing can be trained with `experiment` afterwards.

    Args:
        experiment: the run.
        start: seconds that it takes to begin.
        is_brief: of stages that train the same, steps are tried of the one alone that takes longest; and all in less time.
        say: is told what is tried.
    """
    features, timings = experiment.learners.features, Timings()
    counts = experiment.counts._replace(views=features.missing() if features else 0)
    enough = _BRIEF_SECONDS if is_brief else ENOUGH_SECONDS
    _try_features(experiment, counts.views, timings, say, enough)
    for on_features in dict.fromkeys(stage.on_features for stage in experiment.stages):
        stages = [stage for stage in experiment.stages if stage.on_features == on_features]
        _Trial(experiment, counts, timings, say, enough).of(stages, each_stage=not is_brief)
    return Estimate(work.work_of(experiment.stages, counts, experiment.state), timings.paces, start)


def _try_features(experiment: Experiment, views: int, timings: Timings, say: Say, enough: float) -> None:
    """Those that are not kept from before."""
    features = experiment.learners.features
    if features is None or not views:
        return
    say(f"timing the features of {views:,} images and views")
    first = _seconds_of(lambda: features.try_batches(1))
    images = []
    seconds = _seconds_of(lambda: images.append(features.try_batches(1)))
    timings.add(Task(work.FIRST_PASS, 0, False, 1), first - seconds)
    if seconds < enough:
        seconds = _seconds_of(lambda: images.append(features.try_batches(1 + int(enough / seconds))))
    for _ in range(FEWEST):
        timings.add(work.features_task(), seconds / images[-1])


class _Trial:
    """Tries what the stages of one learner do."""

    def __init__(self, experiment: Experiment, counts: Counts, timings: Timings, say: Say, enough: float) -> None:
        self.experiment, self.counts, self.timings, self.say, self.enough = experiment, counts, timings, say, enough

    def of(self, stages: list[Stage], *, each_stage: bool) -> None:
        """Of stages that train the same."""
        experiment = self.experiment
        learner = experiment.learners.stand_in(stages[0])
        self.model = learner.model
        self.batches = RunBatches(experiment.config, learner.data, experiment.table, experiment.workers)
        self._try_evaluation(stages, learner.data.test_labels)
        self._try_prediction(stages)
        longest = max(stages, key=lambda stage: stage.epochs * work.steps_of(stage, self.counts) * stage.images.batch_size)
        for stage in stages if each_stage else [longest]:
            # Its body may compute otherwise than that of stages before it.
            experiment.learners.stand_in(stage)
            kinds = [work.HEAD_STEP] * (stage.head_epochs > 0) + [work.STEP] * (stage.head_epochs < stage.epochs)
            for what in kinds if each_stage else kinds[-1:]:
                self._try_step(stage, what)

    def _try_evaluation(self, stages: list[Stage], labels: np.ndarray) -> None:
        config, table = self.experiment.config, self.experiment.table
        self.say(f"timing the evaluation of {config.eval_batch_size:,} images a batch")
        first, passes = _passes_of(
            self.batches.test(), functools.partial(self.model.evaluate_images, labels=labels), self.enough
        )
        self.timings.add(work.task(work.FIRST_PASS, stages[0], self.counts), first)
        # The walk over the table that follows each epoch.
        walk = functools.partial(diagnostics.table_statistics, table, run_labels.hidden_labels(self.experiment.data))
        walked = _seconds_of(walk) if any(stage.images.use_unlabeled for stage in stages) else 0.0
        for stage in stages:
            for seconds in passes:
                own = seconds + walked * stage.images.use_unlabeled
                self.timings.add(work.task(work.EPOCH_END, stage, self.counts), own)

    def _try_prediction(self, stages: list[Stage]) -> None:
        predict = [work.task(work.PREDICTION, stage, self.counts) for stage in stages if work.predictions_of(stage)]
        if not predict:
            return
        size, expected = self.experiment.config.eval_batch_size, reckoned(predict[0], self.timings.paces)
        if expected is not None and expected.middle * size > MOST_SECONDS * predict[0].images:
            return
        self.say(f"timing the prediction of {size:,} images a batch")
        first, passes = _passes_of(self.batches.unlabeled(), self.model.repredict, self.enough)
        self.timings.add(work.task(work.FIRST_PASS, stages[0], self.counts), first)
        for task in predict:
            for seconds in passes:
                self.timings.add(task, seconds)

    def _try_step(self, stage: Stage, what: str) -> None:
        experiment, task = self.experiment, work.task(what, stage, self.counts)
        before = [other for other in self.timings.paces if other.what == what and other.on_features == task.on_features]
        if before:
            expected = self.timings.paces[before[-1]].middle / before[-1].images * task.images
            if expected > MOST_SECONDS:
                self.say(f"stage {stage.number}: not tried; by its {task.images:,} images a step takes {expected:.3g} s")
                self.timings.add(task, expected)
                return
        self.say(f"timing stage {stage.number}, {task.images:,} images a step; the first step may take minutes")
        self.model.trains_head_alone = what == work.HEAD_STEP
        prepare(self.model, stage, experiment.config, experiment.workers.strategy)
        clock = _Clock(self.enough)
        # Repeated: Keras complains of a data set that ends before it is told to stop.
        batches = self.batches.training(stage, epoch=0, step=0).repeat()
        self.model.fit(batches, epochs=1, callbacks=[clock], shuffle=False, verbose=0)
        first, *later = np.diff(clock.times).tolist()
        # One that takes that long is tried once.
        for seconds in later or [first]:
            self.timings.add(task, seconds)
        each = self.timings.paces[task].middle
        self.timings.add(work.task(work.FIRST_STEP, stage, self.counts), first - each)
        self.say(f"stage {stage.number}: a step takes {each:.3g} s{' while the head alone learns' * (what == work.HEAD_STEP)}")


class _Clock(keras.callbacks.Callback):
    """Notes when each batch ended, and stops once there are enough: after so many seconds."""

    def __init__(self, enough: float) -> None:
        super().__init__()
        self.enough = enough

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        # Nothing is to be learned; and a rate that is too high must not end the trial.
        self.model.optimizer.learning_rate.assign(0.0)
        self.times = [time.perf_counter()]

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.times.append(time.perf_counter())
        timed, seconds = len(self.times) - 2, self.times[-1] - self.times[1]
        is_slow = max(seconds, self.times[1] - self.times[0]) >= MOST_SECONDS
        if is_slow or (timed >= FEWEST and seconds >= self.enough):
            self.model.stop_training = True


def _passes_of(batches: tf.data.Dataset, run: Callable[[tf.data.Dataset], object], enough: float) -> tuple[float, list[float]]:
    """Seconds that the first pass over all batches takes more than others, and those of others.

    Timed on as many batches as `enough` seconds carry, or on several passes.
    """
    count = int(batches.cardinality())
    first = _seconds_of(lambda: run(batches.take(1)))
    if first > MOST_SECONDS:
        return 0.0, [count * first]
    again = _seconds_of(lambda: run(batches.take(1)))
    timed = min(count, max(1, int(enough / again)))
    part = batches.take(timed)
    passes = [_seconds_of(lambda: run(part))]
    while sum(passes) < enough:
        passes.append(_seconds_of(lambda: run(part)))
    return first - again, [count / timed * seconds for seconds in passes]


def _seconds_of(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began
