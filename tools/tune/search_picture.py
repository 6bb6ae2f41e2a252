"""The picture of a search: where the good settings are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tools.shared import plots
from tools.tune.records import Record
from tools.tune.space import Dimension, Space

_MARGIN = 0.06
"""Of an axis, beyond either end of its range."""
_LOG_COLORS_FROM = 3
"""From this ratio of the largest error to the smallest on, colors are logarithmic."""


def draw(space: Space, records: Sequence[Record], best: Record | None, *, title: str, path: Path) -> None:
    """Draws the trials over alpha and beta, or over whatever two flags come first; of one flag, the error over it."""
    figure, axes = plots.pyplot().subplots(figsize=(7.2, 5.4), layout="constrained")
    across = space.dimensions[0]
    up = space.dimensions[1] if len(space.dimensions) > 1 else None
    _set_scale(axes, "x", across)
    done = [record for record in records if not record.failed]
    failed = [record for record in records if record.failed]
    if up is None:
        _curve(axes, across, done, failed)
    else:
        _set_scale(axes, "y", up)
        _map(figure, axes, across, up, done, failed)
    own = max((r for r in records if r.setting == space.own), key=lambda record: record.epochs, default=None)
    _mark(axes, across, up, own, name="the config's own", marker="D", size=190)
    _mark(axes, across, up, best, name="best", marker="*", size=520)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=3, frameon=False, markerscale=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, fontsize="medium", loc="left")
    plots.save(figure, path)


def _map(figure: Any, axes: Any, across: Dimension, up: Dimension, done: Sequence[Record], failed: Sequence[Record]) -> None:
    if (across.name, up.name) == ("alpha", "beta"):
        _shade(axes)
    if done:
        errors = np.array([record.error for record in done], float)
        x, y = ([record.setting[dimension.name] for record in done] for dimension in (across, up))
        points = axes.scatter(x, y, c=errors, norm=_colors(errors), cmap="viridis_r", s=90, edgecolors="white", zorder=3)
        bar = figure.colorbar(points, label="error (%)")
        for form in (bar.ax.yaxis.set_major_formatter, bar.ax.yaxis.set_minor_formatter):
            form("{x:g}")
    if failed:
        x, y = ([record.setting[dimension.name] for record in failed] for dimension in (across, up))
        axes.scatter(x, y, marker="x", color="C3", s=70, zorder=3, label="failed")


def _shade(axes: Any) -> None:
    """Shades where beta is not below alpha."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    if left >= top:
        return
    alphas = np.geomspace(left, right, 500) if axes.get_xscale() == "log" else np.linspace(left, right, 500)
    axes.fill_between(
        alphas, np.maximum(alphas, bottom), top, where=(alphas < top).tolist(), color="black", alpha=0.13, linewidth=0
    )
    axes.annotate("not allowed:\nbeta is not below alpha", (0.02, 0.98), xycoords="axes fraction", va="top", fontsize="small")


def _colors(errors: np.ndarray) -> Any:
    from matplotlib.colors import LogNorm, Normalize

    low, high = float(errors.min()), float(errors.max())
    return LogNorm(low, high) if low > 0 and high > _LOG_COLORS_FROM * low else Normalize(low, high)


def _curve(axes: Any, across: Dimension, done: Sequence[Record], failed: Sequence[Record]) -> None:
    has_spread = any(record.spread for record in done)
    x, errors = [record.setting[across.name] for record in done], [record.error for record in done]
    spread = [record.spread or 0.0 for record in done] if has_spread else None
    label = "trials, with their spread over folds" if has_spread else "trials"
    axes.errorbar(x, errors, yerr=spread, fmt="o", color="C0", label=label)
    for number, record in enumerate(failed):
        label = "_" if number else "failed"
        axes.axvline(record.setting[across.name], color="C3", linestyle=":", linewidth=1, label=label)
    axes.set_ylabel("error (%)")


def _mark(
    axes: Any, across: Dimension, up: Dimension | None, record: Record | None, *, name: str, marker: str, size: int
) -> None:
    """Draws a frame around a trial."""
    if record is None or (up is None and record.error is None):
        return
    place = record.setting[across.name], record.error if up is None else record.setting[up.name]
    label = f"{name}: {'failed' if record.error is None else f'{record.error:.2f} %'}"
    axes.scatter(*place, marker=marker, s=size, linewidths=1.6, facecolors="none", edgecolors="black", zorder=4, label=label)


def _set_scale(axes: Any, direction: str, dimension: Dimension) -> None:
    """Gives an axis the scale and the range that are searched."""
    from matplotlib import ticker

    limits = dimension.between(-_MARGIN), dimension.between(1 + _MARGIN)
    scale = "log" if dimension.is_log else "linear"
    axes.set(**{f"{direction}scale": scale, f"{direction}lim": limits, f"{direction}label": dimension.name.replace("_", " ")})
    if dimension.is_log:
        axis = axes.xaxis if direction == "x" else axes.yaxis
        axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axis.set_minor_formatter(ticker.NullFormatter())
