"""Where a run stands, and how long it will still take: by what it has timed of itself so far."""

import time
from collections.abc import Sequence

from r2d2_tf.runs.run_state import RunState
from r2d2_tf.system.messages import time_text
from r2d2_tf.training.stages import Stage
from r2d2_tf.training.timing import work
from r2d2_tf.training.timing.pace import Pace, Timings, duration
from r2d2_tf.training.timing.work import Counts, Work


class RunProgress:
    """Counts what is done, times it, and reckons what is left.

    Attributes:
        steps: number of a stage -> steps in an epoch of it.
        location: where the run stands, in words.
        timings: of what was done.
    """

    def __init__(self, stages: Sequence[Stage], counts: Counts) -> None:
        self.stages, self.counts = tuple(stages), counts
        self.steps = {stage.number: work.steps_of(stage, counts) for stage in stages}
        self.location = "before stage 1"
        self.timings = Timings()
        self._passed: set[tuple[str, bool]] = set()
        self._since = time.perf_counter()
        self.go_to(RunState(stages[0].number))

    def go_to(self, state: RunState) -> None:
        """Counts all as done that lies before the place of `state`, and nothing else."""
        self.left = work.work_of(self.stages, self.counts, state)

    def restart_clock(self) -> None:
        """Times nothing of what happened since the last call."""
        self._since = time.perf_counter()

    def done(self, what: str, stage: Stage, *, is_first: bool = False) -> None:
        """Counts a task of a stage as done, and the time since the last call as what it took.

        What is done for the first time is no measure of the others: TensorFlow traces it. Of evaluations and predictions that
        is known here; `is_first` tells it of a step.
        """
        now, task = time.perf_counter(), work.task(what, stage, self.counts)
        done, passed = task, (what, stage.on_features)
        if is_first:
            done = work.task(work.FIRST_STEP, stage, self.counts)
        elif what in (work.EPOCH_END, work.PREDICTION) and passed not in self._passed:
            self._passed.add(passed)
            done = next((own for own in self.left if own[0] == work.FIRST_PASS and own.on_features == stage.on_features), task)
        self.timings.add(done, now - self._since)
        self.left.subtract({task, done})
        self._since = now

    def seconds_left(self) -> Pace | None:
        """From so many to so many seconds that the whole run will still take; None: nothing tells of it yet."""
        return duration(Work({task: count for task, count in self.left.items() if count > 0}), self.timings.paces)

    def time_left(self) -> str:
        """The same in words; "?" while nothing tells of it."""
        seconds = self.seconds_left()
        return "?" if seconds is None else time_text(*seconds)
