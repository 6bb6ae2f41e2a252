"""How long a run takes: what it is made of, and seconds reckoned from what was timed."""

from collections import Counter

import pytest

from r2d2_tf.config.config import Config
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.runs.run_state import RunState
from r2d2_tf.training.stages import plan
from r2d2_tf.training.timing import work
from r2d2_tf.training.timing.pace import CHECKPOINTS, Pace, Timings, duration, reckoned
from r2d2_tf.training.timing.run_progress import RunProgress
from r2d2_tf.training.timing.work import Counts, Task, task, work_of

CONFIG = Config(supervised_epochs=2, rounds="2:0.1,1:0.1", batch_size=64, finetune_epochs=1)
FROZEN = Config(
    supervised_epochs=5, freeze_epochs=2, dataset="cifar10", backbone="efficientnet_lite0", weights="imagenet", rounds="1:0.1"
)
SPEC, COUNTS = spec_of(CONFIG), Counts(100, 3900, 1000)
STAGES = plan(CONFIG, SPEC)


def of_stage(tasks, number):
    return {own.what: count for own, count in tasks.items() if own.stage == number and own.what != work.FIRST_PASS}


def test_a_run_is_made_of_steps_first_steps_evaluations_and_predictions():
    tasks = work_of(STAGES, COUNTS)
    assert of_stage(tasks, 1) == {work.STEP: 6, work.FIRST_STEP: 1, work.EPOCH_END: 2}
    assert of_stage(tasks, 2) == {work.STEP: 243, work.FIRST_STEP: 1, work.EPOCH_END: 3, work.PREDICTION: 3}
    assert of_stage(tasks, 3) == {work.STEP: 8, work.FIRST_STEP: 1, work.EPOCH_END: 1}


def test_steps_of_the_head_alone_and_features_are_counted_for_themselves():
    tasks = work_of(plan(FROZEN, spec_of(FROZEN)), COUNTS._replace(views=8000))
    assert of_stage(tasks, 1) == {work.HEAD_STEP: 6, work.STEP: 9, work.FIRST_STEP: 2, work.EPOCH_END: 5}
    assert tasks[work.features_task()] == 8000


def test_what_is_done_is_not_left():
    state = RunState(2, epoch=2, step=80)
    tasks = work_of(STAGES, COUNTS, state)
    assert of_stage(tasks, 1) == {}
    # The prediction before the third epoch is over, the comparison at the end is not.
    assert of_stage(tasks, 2) == {work.STEP: 1, work.FIRST_STEP: 1, work.EPOCH_END: 1, work.PREDICTION: 1}
    state = RunState(1, epoch=1, step=3)
    assert of_stage(work_of(STAGES, COUNTS, state), 1) == {work.EPOCH_END: 1}


def test_a_pace_is_surer_the_more_often_it_was_timed():
    timings, step = Timings(), task(work.STEP, STAGES[0], COUNTS)
    timings.add(step, 1.0)
    once = timings.paces[step]
    for _ in range(99):
        timings.add(step, 1.0)
    often = timings.paces[step]
    assert once.low < often.low < 1.0 < often.high < once.high
    assert often.middle == pytest.approx(1.0)


def test_a_run_takes_the_sum_of_what_it_is_made_of_and_its_checkpoints():
    step, end = (task(what, STAGES[0], COUNTS) for what in (work.STEP, work.EPOCH_END))
    seconds = duration(Counter({step: 10, end: 2}), {step: Pace(1.0, 2.0), end: Pace(0.5, 0.5)})
    assert seconds == Pace(11.0 * (1 + CHECKPOINTS), 21.0 * (1 + CHECKPOINTS))


@pytest.mark.parametrize(
    ("what", "stage", "seconds"),
    [(work.STEP, 3, 1.536), (work.PREDICTION, 2, 3.9), (work.EPOCH_END, 1, 1.0), (work.HEAD_STEP, 1, 0.04)],
)
def test_what_was_not_timed_lies_in_the_range_that_is_reckoned_from_its_images(what, stage, seconds):
    # A forward pass of an image takes 1 ms, training on it 3 ms.
    timed = {Task(work.STEP, 2, False, 100): Pace(0.29, 0.31)}
    found = reckoned(task(what, STAGES[stage - 1], COUNTS), timed)
    assert found.low < seconds < found.high < 6 * found.low


def test_of_the_whole_network_nothing_is_known_by_its_head_alone():
    timed = {Task(work.STEP, 2, True, 64): Pace(0.004, 0.005)}
    assert reckoned(Task(work.STEP, 3, False, 64), timed) is None
    # But by the features that its body computed.
    found = reckoned(Task(work.STEP, 3, False, 64), timed | {work.features_task(): Pace(0.01, 0.01)})
    assert found.low < 64 * 0.03 < found.high


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("r2d2_tf.training.timing.run_progress.time.perf_counter", lambda: now[0])
    return now


def train(progress, clock, stage, *, step, end, first=20.0, prediction=4.0):
    """Does all of a stage, in so many seconds each."""
    for epoch in range(stage.epochs):
        if epoch in stage.prediction_epochs:
            clock[0] += prediction
            progress.done(work.PREDICTION, stage)
        progress.restart_clock()
        for number in range(progress.steps[stage.number]):
            is_first = epoch == number == 0
            clock[0] += first if is_first else step
            progress.done(work.STEP, stage, is_first=is_first)
        clock[0] += end
        progress.done(work.EPOCH_END, stage)


def test_tracing_is_not_taken_for_a_step(clock):
    progress = RunProgress(STAGES, COUNTS)
    assert progress.time_left() == "?"
    clock[0] += 60.0
    progress.done(work.STEP, STAGES[0], is_first=True)
    assert progress.time_left() == "?"
    for _ in range(2):
        clock[0] += 0.1
        progress.done(work.STEP, STAGES[0])
    # 243 steps of 0.16 s, and 8 of 1.3 s, are most of what is left, beside tracing twice.
    assert duration(progress.left, progress.timings.paces).low < 2 * 60 + 243 * 0.16 + 8 * 1.3


def test_the_range_holds_the_truth_and_narrows_to_nothing_as_the_run_goes_on(clock):
    progress, widths = RunProgress(STAGES, COUNTS), []
    steps, ends, firsts = (0.1, 0.16, 1.2), (0.4, 0.5, 0.5), (20.0, 20.0, 20.0)
    truth = 243 * 0.16 + 8 * 1.2 + 3 * 0.5 + 0.5 + 40.0 + 3 * 4.0
    for stage, step, end, first in zip(STAGES, steps, ends, firsts, strict=True):
        progress.go_to(RunState(stage.number))
        train(progress, clock, stage, step=step, end=end, first=first)
        low, high = duration(+progress.left, progress.timings.paces)
        widths.append(high - low)
        if stage.number == 1:
            assert low < truth < high < 4 * low
    assert widths[0] > widths[1] > widths[2] == 0.0
    assert progress.time_left() == "0 s"
