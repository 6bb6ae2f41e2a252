"""What a task takes, from so many seconds to so many: timed, or reckoned from what was timed. And a whole run from that."""

import math
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from r2d2_tf.training.timing import work
from r2d2_tf.training.timing.work import Task, Work

CHECKPOINTS = 0.02
"""Share of a run's time that its checkpoints take: what callbacks.RunCheckpoint allows them, and tools.benchmark measured."""
_REMEMBERED = 200
"""Times of a task: what else the machine does changes, and what was long ago tells little."""
_LEAST_DOUBT, _DOUBT_OF_ONE = 0.03, 0.3
"""Shares of a time that is timed very often, and that is timed once."""
_TRAINING = 2.0, 5.0
"""Forward passes that training on an image takes: three by the rule, 4.2 of EfficientNet-Lite0 on a CPU, and the rest."""


class Pace(NamedTuple):
    """From so many seconds to so many."""

    low: float
    high: float

    def times(self, low: float, high: float | None = None) -> "Pace":
        """So many times as long; from so many to so many times."""
        return Pace(self.low * low, self.high * (low if high is None else high))

    def plus(self, other: "Pace") -> "Pace":
        """One after the other."""
        return Pace(self.low + other.low, self.high + other.high)

    @property
    def middle(self) -> float:
        """The one number that is as many times too low as it is too high, if it is wrong."""
        return math.sqrt(self.low * self.high)


Paces = Mapping[Task, Pace]


class Timings:
    """Times of tasks as they were done."""

    def __init__(self) -> None:
        self._times: dict[Task, deque[float]] = {}

    def add(self, task: Task, seconds: float) -> None:
        """What one took."""
        self._times.setdefault(task, deque(maxlen=_REMEMBERED)).append(max(0.0, seconds))

    @property
    def paces(self) -> dict[Task, Pace]:
        """Of all tasks that were timed: the mean, and how far it may be off."""
        return {task: _pace_of(np.array(times)) for task, times in self._times.items()}


def _pace_of(times: np.ndarray) -> Pace:
    mean, count = float(times.mean()), len(times)
    spread = float(times.std()) / mean / math.sqrt(count) if mean else 0.0
    doubt = 1 + _LEAST_DOUBT + min(1.0, _DOUBT_OF_ONE / count + spread)
    return Pace(mean / doubt, mean * doubt)


def duration(tasks: Work, timed: Paces) -> Pace | None:
    """Seconds of all of them, the checkpoints among them; None: there is nothing to reckon some of them from."""
    total = Pace(0.0, 0.0)
    for task, count in tasks.items():
        pace = timed.get(task) or reckoned(task, timed)
        if pace is None:
            return None
        total = total.plus(pace.times(count))
    return total.times(1 + CHECKPOINTS)


def reckoned(task: Task, timed: Paces) -> Pace | None:
    """Seconds of a task that was not timed, by what was; None where nothing tells of it."""
    if task.what in (work.FIRST_STEP, work.FIRST_PASS):
        return _first(task, timed)
    own, others = _by_its_kind(task, timed), _by_other_kinds(task, timed)
    if own is None or others is None:
        # Mostly what TensorFlow takes to begin a step or a pass.
        return own or others or (_ON_FEATURES[task.what] if task.on_features else None)
    both = Pace(max(own.low, others.low), min(own.high, others.high))
    return both if both.low < both.high else own


_ON_FEATURES = {
    work.STEP: Pace(0.002, 0.02),
    work.HEAD_STEP: Pace(0.002, 0.02),
    work.EPOCH_END: Pace(0.02, 0.4),
    work.PREDICTION: Pace(0.02, 0.4),
}
"""Before anything of that kind is timed."""
_FORWARD = {
    # What was timed: its forward passes, at least and at most.
    work.STEP: _TRAINING,
    work.HEAD_STEP: (1.0, 1.7),
    work.EPOCH_END: (0.8, 1.2),
    work.PREDICTION: (0.8, 1.2),
    work.VIEW: (0.8, 1.5),
}


def _by_its_kind(task: Task, timed: Paces) -> Pace | None:
    """By a task of the same kind in another stage, the nearest in images.

    A part of it takes the same for any number of images; on features that is nearly all of it.
    """
    alike = [other for other in timed if other.what == task.what and other.on_features == task.on_features]
    if not alike:
        return None
    nearest = min(alike, key=lambda other: abs(math.log(other.images / task.images)))
    share = task.images / nearest.images
    ends = (1.0, math.sqrt(share)) if task.on_features else (math.sqrt(share), share)
    return timed[nearest].times(0.85 * min(ends), 1.2 * max(ends))


def _by_other_kinds(task: Task, timed: Paces) -> Pace | None:
    """By its images, and the forward passes that other kinds of tasks take for each of theirs."""
    least, most = _FORWARD[task.what]
    found = [
        pace.times(least / _FORWARD[other.what][1] / other.images, most / _FORWARD[other.what][0] / other.images)
        for other, pace in timed.items()
        if other.what in _FORWARD and other.what != task.what and other.on_features == task.on_features and other.images
    ]
    return Pace(*(task.images * end for end in (min(p.low for p in found), max(p.high for p in found)))) if found else None


def _first(task: Task, timed: Paces) -> Pace:
    """What is traced and compiled takes about as long as another of its kind."""
    own = [pace for other, pace in timed.items() if other.what == task.what and other.on_features == task.on_features]
    if not own:
        return Pace(0.3, 3.0) if task.on_features else Pace(1.0, 20.0)
    return Pace(min(pace.low for pace in own) * 0.7, max(pace.high for pace in own) * 1.5)
