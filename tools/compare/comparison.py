"""Which runs differ by the seed alone, and whether a difference of two such groups is more than noise."""

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from r2d2_tf.runs.outcome.verdict import CONFIDENCE_LEVEL, error_interval, sign_test
from tools.shared.run_records import RunRecord, differing_flags

_ROUNDED = 0.1
"""Percentage points by which the error of predictions may differ from what the run measured."""


@dataclass(frozen=True)
class Group:
    """Runs that differ by the seed alone.

    Attributes:
        letter: by which it is called.
        flags: in which it differs from other groups, name -> value.
        runs: all of them, unfinished ones too.
        counted: those that statistics are made of: the finished ones, of runs that are there twice the first.
    """

    letter: str
    flags: dict[str, Any]
    runs: tuple[RunRecord, ...]
    counted: tuple[RunRecord, ...]

    @property
    def label(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.flags.items())

    @property
    def last_errors(self) -> dict[int, float]:
        """Seed -> test error in percent at the end."""
        return {run.config.seed: run.last_error for run in self.counted if run.last_error is not None}


def grouped(runs: Sequence[RunRecord]) -> list[Group]:
    """Puts runs that differ by the seed alone together, in the order of the first of each."""
    by_flags: dict[tuple[str, str], list[RunRecord]] = {}
    for run in runs:
        # The digest is taken of what can change a result, but for the view.
        by_flags.setdefault((dataclasses.replace(run.config, seed=0).digest, run.config.image_view), []).append(run)
    configs = [own[0].config for own in by_flags.values()]
    names = differing_flags(configs)
    groups = []
    for number, own in enumerate(by_flags.values()):
        flags = {name: getattr(own[0].config, name) for name in names}
        first_of_seed: dict[int, RunRecord] = {}
        for run in own:
            if run.summary:
                first_of_seed.setdefault(run.config.seed, run)
        groups.append(Group(_letter(number), flags, tuple(own), tuple(first_of_seed.values())))
    return groups


def _letter(number: int) -> str:
    """A, B, ..., Z, AA, AB, ..."""
    rest, place = divmod(number, 26)
    return (_letter(rest - 1) if rest else "") + chr(ord("A") + place)


@dataclass(frozen=True)
class Difference:
    """What one group's error is above another's.

    Attributes:
        points: the difference of the means, in percentage points.
        interval: 95 %; None where nothing says how much of it is noise.
        method: how the interval was made, or why there is none.
    """

    points: float
    interval: tuple[float, float] | None
    method: str

    @property
    def verdict(self) -> str:
        """What may be said of it."""
        if self.interval is None:
            return "not known"
        return "lower" if self.interval[1] < 0 else "higher" if self.interval[0] > 0 else "may be noise"


def difference(first: Group, other: Group) -> Difference | None:
    """How far the mean of the last errors of `other` lies above that of `first`; None if one has no finished run.

    With the same seeds in both, seed by seed, as the seed draws the labeled images too and with them much of the error;
    else Welch's interval, which asks for no equal spread.
    """
    ours, theirs = first.last_errors, other.last_errors
    if not ours or not theirs:
        return None
    points = statistics.mean(theirs.values()) - statistics.mean(ours.values())
    if len(ours) < 2 or len(theirs) < 2:
        alone = " and ".join(g.letter for g in (first, other) if len(g.last_errors) < 2)
        return Difference(points, None, f"one run of {alone} says nothing of the spread over seeds: add some (tools.repeat)")
    if ours.keys() == theirs.keys():
        gaps = [theirs[seed] - ours[seed] for seed in ours]
        if len(set(np.round(gaps, 9))) == 1:
            return Difference(points, None, f"the same in all {len(gaps)} seeds: too alike for an interval")
        interval = stats.ttest_1samp(gaps, 0.0).confidence_interval(CONFIDENCE_LEVEL)
        method = f"paired t, {len(gaps)} seeds"
    else:
        if len(set(ours.values())) == len(set(theirs.values())) == 1:
            return Difference(points, None, "no spread over seeds: too alike for an interval")
        welch = stats.ttest_ind(list(theirs.values()), list(ours.values()), equal_var=False)
        interval = welch.confidence_interval(CONFIDENCE_LEVEL)
        method = f"Welch's t, {len(ours)} and {len(theirs)} runs"
    return Difference(points, (float(interval.low), float(interval.high)), method)


@dataclass(frozen=True)
class ImageByImage:
    """Two networks on the same test images.

    Attributes:
        images: how many there are.
        first_alone: which the first alone got wrong.
        other_alone: which the other alone got wrong.
        p: of McNemar's exact test: how often a difference as large comes of networks that are equally good.
    """

    images: int
    first_alone: int
    other_alone: int
    p: float


def image_by_image(first: RunRecord, other: RunRecord) -> ImageByImage | None:
    """Holds the predictions of two runs against each other; None if tools.evaluate was not run on both.

    Raises:
        ValueError: if predictions are damaged, of other images, or not those of the run's network.
    """
    ours, theirs = first.predictions(), other.predictions()
    if ours is None or theirs is None:
        return None
    if not np.array_equal(ours["labels"], theirs["labels"]):
        raise ValueError(f"{first.folder} and {other.folder} were evaluated on other images")
    wrong = [own["predicted"] != own["labels"] for own in (ours, theirs)]
    for run, missed in zip((first, other), wrong, strict=True):
        if run.last_error is None or abs(100 * np.mean(missed) - run.last_error) > _ROUNDED:
            raise ValueError(f"the evaluation in {run.folder} is not of its network: evaluate it again")
    first_alone, other_alone = int(np.sum(wrong[0] & ~wrong[1])), int(np.sum(wrong[1] & ~wrong[0]))
    return ImageByImage(len(wrong[0]), first_alone, other_alone, sign_test(first_alone, other_alone))


def interval_of_one_run(run: RunRecord) -> tuple[float, float] | None:
    """How exactly its test images tell a network's error: Wilson's 95 % interval in percent; None if that is not known."""
    images = run.test_images[1]
    if run.last_error is None or not images:
        return None
    return error_interval(round(run.last_error / 100 * images), images)
