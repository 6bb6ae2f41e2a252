"""The picture of an evaluation: what is taken for what, and whether the model is as right as it is sure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tools.shared import plots
from tools.shared.classification_metrics import ClassificationMetrics, Reliability
from tools.shared.plots import FEWEST_IN_A_BIN, plain, wrapped

_MOST_CLASSES_WRITTEN = 20
"""Above that, cells have no numbers and classes no names."""
_LONGEST_SLANTED, _LONGEST_LINE = 14, 26
"""Letters of a class's name below its column: longer ones stand upright, and take several lines if need be."""


def draw(metrics: ClassificationMetrics, class_names: Sequence[str], title: str, path: Path) -> None:
    """Draws the confusion matrix, the reliability diagram and the confidences below it."""
    figure = plots.pyplot().figure(figsize=(13, 7), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(3, 2), height_ratios=(3, 1))
    _draw_confusion(figure, figure.add_subplot(grid[:, 0]), metrics.confusion, class_names)
    reliable = figure.add_subplot(grid[0, 1])
    _draw_reliability(reliable, metrics.reliability, metrics.calibration_error)
    _draw_confidences(figure.add_subplot(grid[1, 1], sharex=reliable), metrics)
    low, high = metrics.error_interval
    figure.suptitle(f"{plain(title)}\nerror {metrics.error:.2f} % (95 % interval {low:.2f} to {high:.2f})")
    plots.save(figure, path, dpi=110)


def _draw_confusion(figure: Any, axes: Any, confusion: np.ndarray, class_names: Sequence[str]) -> None:
    from matplotlib.colors import PowerNorm

    images = confusion.sum(1, keepdims=True)
    shares = 100.0 * confusion / np.where(images, images, np.nan)
    # Few are mistaken: a scale by the square root lets them be seen beside the many that are not.
    shown = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=100))
    figure.colorbar(shown, ax=axes, label="percent of the true class", shrink=0.8, ticks=[0, 1, 5, 10, 25, 50, 75, 100])
    axes.set(xlabel="predicted class", ylabel="true class")
    if len(confusion) > _MOST_CLASSES_WRITTEN:
        return
    names = [wrapped(name, _LONGEST_LINE) for name in class_names]
    longest = max(map(len, class_names))
    turned = 0 if longest <= 2 else 45 if longest <= _LONGEST_SLANTED else 90
    axes.set_xticks(range(len(names)), names, rotation=turned, ha="right" if turned == 45 else "center")
    axes.set_yticks(range(len(names)), names)
    for row, column in zip(*np.nonzero(confusion), strict=True):
        color = "white" if shares[row, column] > 30 else "black"
        axes.text(column, row, f"{confusion[row, column]:,}", ha="center", va="center", color=color, fontsize=8)


def _draw_reliability(axes: Any, found: Reliability, calibration_error: float) -> None:
    middles, width = (found.edges[:-1] + found.edges[1:]) / 2, np.diff(found.edges)
    few = plots.has_few(found)
    for which, alpha, label in (
        (~few, 1.0, "accuracy in a bin"),
        (few, plots.FADED, f"of fewer than {FEWEST_IN_A_BIN} images"),
    ):
        axes.bar(middles[which], found.accuracy[which], width[which], color="C0", alpha=alpha, edgecolor="white", label=label)
    axes.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle="--", label="as right as it is sure")
    axes.scatter(
        found.confidence,
        found.accuracy,
        color="C1",
        s=18,
        zorder=3,
        label="at its mean confidence",
        alpha=np.where(few, plots.FADED, 1.0),
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    axes.set_title(f"calibration error {calibration_error:.2f} % ({len(found.counts)} bins of equal width)", fontsize=10)
    axes.tick_params(labelbottom=False)
    axes.legend(loc="upper left", fontsize=8, framealpha=0.9, edgecolor="none")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_confidences(axes: Any, metrics: ClassificationMetrics) -> None:
    right, edges = metrics.labels == metrics.predicted, metrics.reliability.edges
    parts = [metrics.confidence[right].clip(0, 1), metrics.confidence[~right].clip(0, 1)]
    axes.hist(parts, edges, stacked=True, color=["C0", "C3"], edgecolor="white", label=["right", "wrong"])
    axes.set(xlabel="confidence: the probability of the predicted class", ylabel="images")
    axes.legend(loc="upper left", fontsize=8, framealpha=0.9, edgecolor="none")
    axes.spines[["top", "right"]].set_visible(False)
