"""The sentence that a report opens with: what unlabeled images brought, for whoever reads no other."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from r2d2_tf.runs.outcome import stage_predictions, verdict
from r2d2_tf.runs.outcome.summary import result_stage
from r2d2_tf.runs.outcome.verdict import Comparison, Kind, Outcome, error_interval
from r2d2_tf.runs.run_state import TEST


@dataclass(frozen=True)
class Headline:
    """The sentence.

    Attributes:
        figures: the error before and after, or the one that there is.
        words: what that means.
        is_good: whether it is a gain; None: there is nothing to hold the error against.
    """

    figures: str
    words: str
    is_good: bool | None

    def __str__(self) -> str:
        return f"{self.figures}: {self.words}"


def predictions_of(run_dir: Path, summary: dict[str, Any]) -> tuple[dict[int, np.ndarray], np.ndarray] | None:
    """The predicted classes of the test images, stage -> `[images]`, and their labels; None of a run of before."""
    with contextlib.suppress(ValueError, KeyError):
        stages = (int(name.removeprefix("stage_")) for name in summary["test_error_percent"])
        # The oldest runs do not name their classes, and left no predictions.
        return stage_predictions.by_stage(run_dir, TEST, stages, num_classes=len(summary["class_names"]))
    return None


def outcome_of(run_dir: Path, summary: dict[str, Any]) -> Outcome:
    """What a finished run came to, by its test images one by one, where it left what it predicts of them."""
    errors = {int(name.removeprefix("stage_")): error for name, error in summary["test_error_percent"].items()}
    by_stage, labels = predictions_of(run_dir, summary) or ({}, None)
    named = {f"stage_{stage}": predicted for stage, predicted in by_stage.items()}
    return verdict.outcome_of(errors, named, labels, summary["num_test"], result_stage(summary))


def tested_on(summary: dict[str, Any]) -> str:
    """What a run was tested on, in words."""
    return f"images of {summary['evaluate_on']}" if summary.get("evaluate_on") else "test images"


def headline_of(outcome: Outcome, summary: dict[str, Any]) -> Headline:
    """The sentence about a run, in the words of somebody who has never heard of its method."""
    found = outcome.found
    first, second = 100 * found.first / found.of, 100 * found.second / found.of
    on, result = f"on {found.of:,} {tested_on(summary)}", found.first if outcome.result == outcome.first else found.second
    interval = f"(95 %: {interval_of(result, found.of)})"
    labels = f"{summary['num_labels']:,} label{'s' * (summary['num_labels'] != 1)} alone"
    # Without stage 1 the run began with a network that had learned from more than its labels.
    base = f"with the {labels}" if outcome.first == 1 else f"after stage {outcome.first}"
    if outcome.other == outcome.first:
        return Headline(f"{rounded(first)[0]} % wrong", f"after stage {outcome.first}, the only one, {on} {interval}", None)
    before, after = rounded(first, second)
    if outcome.result == outcome.first:
        own = f"the network {base.replace('with', 'of', 1)}"
        alone = f"{own} is the result, {on} {interval}; after stage {outcome.other} it would be {after} %"
        return Headline(f"{before} % wrong", alone, False)
    less = f"{100 * (found.first - found.second) / found.first:.0f} % fewer errors than" if found.first else ""
    p = "" if found.p_value is None else f" ({verdict.told_p(found.p_value)})"
    words = {
        Kind.GAIN: f"{less} {base}, {on} {interval}",
        Kind.FEWER: f"{less} {base}, {on} {interval}; whether by chance is not known",
        Kind.SLIGHT_GAIN: f"{less} {base}, which may be chance{p}, {on} {interval}",
        Kind.CANNOT_TELL: f"{found.of:,} {tested_on(summary)} are too few to tell this from the error {base} {interval}",
        Kind.NO_GAIN: f"no gain over the error {base}, {on} {interval}",
        Kind.WORSE: f"{_more(found)} {base}, {on} {interval}: use the network after stage {outcome.first}",
    }
    return Headline(f"{before} % -> {after} %", words[found.kind], found.kind in (Kind.GAIN, Kind.FEWER))


def rounded(*errors: float) -> list[str]:
    """Errors in percent to one decimal, or to two where one says nothing of them or of their difference."""
    coarse = [f"{error:.1f}" for error in errors]
    is_enough = len(set(coarse)) == len(set(errors)) and all(error >= 1 or not error for error in errors)
    return coarse if is_enough else [f"{error:.2f}" for error in errors]


def _more(found: Comparison) -> str:
    """How many more errors the second network has, in words that suit twice as many, too."""
    if found.second >= 2 * found.first:
        return f"{found.second / found.first:.1f} times as many errors as" if found.first else "errors, and none"
    return f"{100 * (found.second - found.first) / found.first:.0f} % more errors than"


def interval_of(wrong: int, images: int) -> str:
    """The 95 % interval of an error, in percent."""
    return " to ".join(rounded(end)[0] for end in error_interval(wrong, images))
