"""What a report says of two finished runs side by side. Needs neither their images nor TensorFlow."""

from typing import Any

import numpy as np

from r2d2_tf.runs.outcome import verdict
from r2d2_tf.runs.outcome.summary import result_stage
from r2d2_tf.runs.outcome.verdict import Comparison, Kind
from r2d2_tf.system import commands
from r2d2_tf.system.messages import time_text
from tools.report import headline, pictures
from tools.report.headline import Headline, rounded
from tools.report.run_words import NO_BREAK, chosen_words, title_of
from tools.shared.run_records import RunRecord, differing_flags

_MOST_CLASSES = 50
"""Whose errors are listed: those that differ most."""


def contents(first: RunRecord, second: RunRecord) -> dict[str, Any]:
    """What the template is given.

    Raises:
        ValueError: if a run is not finished.
    """
    runs = (first, second)
    for run in runs:
        if run.summary is None:
            raise ValueError(
                f"the run in {run.folder} is not finished: compare finished runs, or see {commands.shown('tools.compare')}"
            )
    names = _names(first, second)
    together = _image_by_image(first, second)
    flags = ["seed"] * (first.config.seed != second.config.seed) + differing_flags([run.config for run in runs])
    return {
        "title": f"{names[0]} beside {names[1]}",
        "names": names,
        "of_several": commands.shown("tools.compare"),
        "headline": _sentence(runs, names, together),
        "is_fake": any(run.is_fake for run in runs),
        "data": [title_of(run.config, run.summary or {}) for run in runs],
        "verdicts": [
            str(headline.headline_of(headline.outcome_of(run.folder, run.summary or {}), run.summary or {})) for run in runs
        ],
        "chosen": ["; ".join(chosen_words(run.folder, run.summary or {})).replace(".;", ".") for run in runs],
        "measured": _measured(first, second),
        "flags": [(name, *(str(getattr(run.config, name)) for run in runs)) for name in flags],
        "curves": pictures.curves_of_two({name: [e[::2] for e in run.epochs] for name, run in zip(names, runs, strict=True)}),
        "together": together and _parts(*together),
        "classes": together and _classes(*together, (first.summary or {}).get("class_names")),
        "most_classes": _MOST_CLASSES,
    }


def _names(first: RunRecord, second: RunRecord) -> tuple[str, str]:
    """A name for each, of its folder, with a number where both have one."""
    if first.name != second.name:
        return first.name, second.name
    return f"{first.name} (1)", f"{second.name} (2)"


def _image_by_image(first: RunRecord, second: RunRecord) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The classes that both results predict of the same test images, and the labels of those; None: they are not known."""
    found = []
    for run in (first, second):
        known = headline.predictions_of(run.folder, run.summary or {})
        if known is None or run.test_images != first.test_images:
            return None
        found.append((known[0][result_stage(run.summary or {})], known[1]))
    (ours, labels), (theirs, others) = found
    return (ours, theirs, labels) if np.array_equal(labels, others) else None


def _sentence(
    runs: tuple[RunRecord, RunRecord], names: tuple[str, str], together: tuple[np.ndarray, np.ndarray, np.ndarray] | None
) -> Headline:
    """What sets the results apart, in a sentence."""
    errors = [run.last_error or 0.0 for run in runs]
    ours, theirs = rounded(*errors)
    figures, images = f"{ours} % and {theirs} %", runs[0].test_images[1] or 0
    if runs[0].test_images != runs[1].test_images:
        return Headline(figures, f"{names[0]} and {names[1]} were tested on other images: these errors are no match", False)
    if together:
        found = verdict.compared(together[1], together[0], together[2])
    else:
        wrong = [round(error * images / 100) for error in errors]
        found = Comparison(wrong[1], wrong[0], images, None)
    if found.first == found.second:
        return Headline(figures, f"{names[0]} and {names[1]} are as good, on {images:,} test images", None)
    less = f"{100 * abs(found.first - found.second) / found.first:.0f} % " if found.first else ""
    which = f"{names[0]} has {less}{'fewer' if found.second < found.first else 'more'} errors than {names[1]}"
    p = "" if found.p_value is None else f" ({verdict.told_p(found.p_value)})"
    tail = {Kind.GAIN: p, Kind.WORSE: p, Kind.CANNOT_TELL: f": too few to tell them apart{p}"}
    unsure = f": within chance{p}" if found.p_value is not None else "; whether by chance is not known"
    return Headline(
        figures, f"{which}, on {images:,} test images{tail.get(found.kind, unsure)}", found.kind is Kind.GAIN or None
    )


def _measured(first: RunRecord, second: RunRecord) -> list[tuple[str, str, str]]:
    """A name and the value of each run, line by line."""
    lines = []
    for stage in sorted({*first.errors, *second.errors}):
        cells = []
        for run in (first, second):
            is_result = stage == f"stage_{result_stage(run.summary or {})}"
            error = run.errors.get(stage)
            cells.append("-" if error is None else f"{error:.2f} %{', the result' * is_result}")
        lines.append((f"test error after {stage.replace('_', NO_BREAK)}", cells[0], cells[1]))
    ours, theirs = first.summary or {}, second.summary or {}
    for name, key in (("labels given", "num_labels"), ("unlabeled images", "num_unlabeled"), ("test images", "num_test")):
        lines.append((name, f"{ours[key]:,}", f"{theirs[key]:,}"))
    lines.append(("time", time_text(ours["seconds"]["total"]), time_text(theirs["seconds"]["total"])))
    return lines + [(key.split("_")[-1], str(ours[key]), str(theirs[key])) for key in ("git_commit", "machine")]


def _parts(ours: np.ndarray, theirs: np.ndarray, labels: np.ndarray) -> dict[str, str]:
    """How many test images both, one alone, or none gets wrong."""
    wrong, others = ours != labels, theirs != labels
    parts = {"both": wrong & others, "first": wrong & ~others, "second": others & ~wrong, "neither": ~(wrong | others)}
    return {name: f"{int(part.sum()):,}" for name, part in parts.items()}


def _classes(
    ours: np.ndarray, theirs: np.ndarray, labels: np.ndarray, names: list[str] | None
) -> list[tuple[str, str, str, str, str]]:
    """Class, images, how many each gets wrong, and the difference: those first that differ most."""
    count = int(labels.max()) + 1
    images = np.bincount(labels, minlength=count)
    wrong, others = (np.bincount(labels[predicted != labels], minlength=count) for predicted in (ours, theirs))
    order = [c for c in np.argsort(-np.abs(wrong - others), kind="stable") if images[c]][:_MOST_CLASSES]
    return [
        (names[c] if names else f"class {c}", f"{images[c]:,}", f"{wrong[c]:,}", f"{others[c]:,}", f"{wrong[c] - others[c]:+,}")
        for c in order
    ]
