"""What an evaluation found, as text for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

import numpy as np

from r2d2_tf.system.messages import columns
from tools.shared.classification_metrics import NUM_BINS, ClassificationMetrics, largest_confusions

_MOST_CLASSES = 20
"""In a table with a line a class; of more, the worst are told."""
_MOST_CONFUSED = 10
_LONGEST_NAME = 8
"""Of a class above a column. Where one is longer, columns are called A, B, ..., and so are the rows, before their names."""
_BAR = 25
"""Characters of a bar of 100 %."""


@dataclass(frozen=True)
class Subject:
    """What models were judged on.

    Attributes:
        where: the run or the data set.
        images: which images, and how many.
        class_names: in the order of the labels.
        is_fake: whether images or run are generated.
    """

    where: str
    images: str
    class_names: Sequence[str]
    is_fake: bool

    @property
    def title(self) -> str:
        return self.where + " (FAKE DATA)" * (self.is_fake and "FAKE" not in self.where)


def report(subject: Subject, all_metrics: Mapping[str, ClassificationMetrics]) -> str:
    """All models in a table; where there is one alone, its errors by class and what it takes for what."""
    lines = [f"{subject.title}: {subject.images}, {len(subject.class_names):,} classes"]
    if subject.is_fake:
        lines.append("FAKE DATA: the numbers mean nothing.")
    lines += ["", *_overview(all_metrics)]
    if len(all_metrics) == 1:
        (metrics,) = all_metrics.values()
        lines += ["", *_by_class(metrics, subject.class_names), "", *_confused(metrics, subject.class_names)]
    return "\n".join(lines)


def _overview(all_metrics: Mapping[str, ClassificationMetrics]) -> list[str]:
    first = next(iter(all_metrics.values()))
    several = len(all_metrics) > 1
    titles = ["model", "error", "95 % interval", "top-5 error", "balanced error", "NLL", "Brier", "calibration"]
    rows = [[*titles, *(["like the first"] if several else [])]]
    for name, metrics in all_metrics.items():
        low, high = metrics.error_interval
        top5 = "-" if metrics.top5_error is None else f"{metrics.top5_error:.2f} %"
        cells = [name, f"{metrics.error:.2f} %", f"{low:.2f} to {high:.2f}", top5, f"{metrics.balanced_error:.2f} %"]
        cells += [f"{metrics.nll:.4f}", f"{metrics.brier:.4f}", f"{metrics.calibration_error:.2f} %"]
        agreement = 100 * np.mean(metrics.predicted == first.predicted)
        rows.append([*cells, *([f"{agreement:.2f} %"] if several else [])])
    lines = [
        *columns(rows),
        "NLL: negative log-likelihood, in nats. Brier: 0 (sure and right) to 2 (sure and wrong). Calibration: the expected",
        f"calibration error, mean distance of accuracy and confidence over {NUM_BINS} bins of equal width.",
    ]
    for name, metrics in all_metrics.items():
        if metrics.impossible:
            share = f"{metrics.impossible:,} of {len(metrics.labels):,} images"
            lines.append(f"{name} gives the true class no probability in {share}; their NLL is cut off at 15.9.")
    return lines


def _by_class(metrics: ClassificationMetrics, class_names: Sequence[str]) -> list[str]:
    errors, images = metrics.class_errors, metrics.confusion.sum(1)
    there = np.flatnonzero(images)
    if len(class_names) > _MOST_CLASSES:
        there = there[np.argsort(-errors[there], kind="stable")][:_MOST_CLASSES]
    rows = [["class", "images", "error"]]
    rows += [[class_names[c], f"{images[c]:,}", f"{errors[c]:.1f} %"] for c in there.tolist()]
    table = columns(rows)
    bars = ["", *("#" * round(_BAR * errors[c] / 100) for c in there)]
    most = f", the worst {_MOST_CLASSES}" if len(class_names) > _MOST_CLASSES else ""
    return [f"Errors by class{most}:", *(f"{line}  {bar}".rstrip() for line, bar in zip(table, bars, strict=True))]


def _confused(metrics: ClassificationMetrics, class_names: Sequence[str]) -> list[str]:
    if len(class_names) <= _MOST_CLASSES:
        cells = [[f"{count:,}" if count else "." for count in row] for row in metrics.confusion]
        # Names that are longer than counts would make the table wider than a terminal.
        is_short = max(map(len, class_names)) <= _LONGEST_NAME
        heads = class_names if is_short else ascii_uppercase[: len(class_names)]
        names = class_names if is_short else [f"{head} {name}" for head, name in zip(heads, class_names, strict=True)]
        rows = [["", *heads], *([name, *own] for name, own in zip(names, cells, strict=True))]
        return ["True classes down, predicted ones across:", *columns(rows)]
    largest = largest_confusions(metrics.confusion, _MOST_CONFUSED)
    rows = [["true", "taken for", "images"], *([class_names[i], class_names[j], f"{n:,}"] for i, j, n in largest)]
    return ["Most often mistaken:", *columns(rows)]
