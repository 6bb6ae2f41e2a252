"""The picture of a comparison: the test error of all runs over their epochs, and at the end."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tools.compare.comparison import Group
from tools.shared import plots
from tools.shared.plots import plain
from tools.shared.run_records import RunRecord

_MOST_IN_LEGEND = 20
_LONGEST_LABEL = 90


def draw(groups: Sequence[Group], title: str, path: Path) -> None:
    """Draws a thin line a run, in the color of its group, a thick one for the mean of a group, and each last error."""
    from matplotlib import ticker

    pyplot = plots.pyplot()
    # Colors that are told apart up to ten; more groups are too many to be told apart by any.
    colors = [pyplot.get_cmap("tab10")(number) for number in range(len(groups))]
    if len(groups) > 10:
        colors = [pyplot.get_cmap("turbo")(number / (len(groups) - 1)) for number in range(len(groups))]
    has_ends = any(group.counted for group in groups)
    figure, axes = pyplot.subplots(
        1, 1 + has_ends, figsize=(12, 6), layout="constrained", sharey=True, squeeze=False, width_ratios=(4, 1)[: 1 + has_ends]
    )
    for group, color in zip(groups, colors, strict=True):
        _draw_curves(axes[0, 0], group, color)
    _mark_stages(axes[0, 0], [run for group in groups for run in group.runs])
    axes[0, 0].set(xlabel="epoch", ylabel="test error (%)")
    axes[0, 0].xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    if has_ends:
        _draw_ends(axes[0, 1], groups, colors)
    _scale(axes[0, 0], groups)
    for one in axes[0]:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(axis="y", color="black", alpha=0.1)
    _legend(figure, groups, colors)
    figure.suptitle(plain(title))
    plots.save(figure, path, dpi=110)


def _draw_curves(axes: Any, group: Group, color: Any) -> None:
    drawn = [run for run in group.runs if run.epochs]
    together = len(drawn) > 1
    for run in drawn:
        numbers, errors = [epoch.number for epoch in run.epochs], [epoch.error for epoch in run.epochs]
        axes.plot(numbers, errors, color=color, linewidth=0.8 if together else 1.8, alpha=0.45 if together else 1.0)
        if run.summary is None:
            axes.plot(numbers[-1:], errors[-1:], color=color, marker="o", markerfacecolor="white")
    whole = [run for run in drawn if run.summary and len(run.epochs) == len(drawn[0].epochs)]
    if len(whole) > 1:
        mean = np.mean([[epoch.error for epoch in run.epochs] for run in whole], axis=0)
        axes.plot([epoch.number for epoch in whole[0].epochs], mean, color=color, linewidth=2.2)


def _mark_stages(axes: Any, runs: Sequence[RunRecord]) -> None:
    """Where the stages begin, if in all runs at the same epochs."""
    ends = {run.stage_ends for run in runs}
    if len(ends) > 1:
        return
    [own] = ends
    for number, (start, end) in enumerate(zip((0, *own), own, strict=False), start=1):
        if end > start:
            axes.axvspan(start + 0.5, end + 0.5, color="black", alpha=0.06 if number == 2 else 0.0, linewidth=0)
            place = ((start + end + 1) / 2, 1.01)
            axes.annotate(f"stage {number}", place, xycoords=("data", "axes fraction"), ha="center", fontsize=9)
    axes.set_xlim(0.5, own[-1] + 0.5)


def _draw_ends(axes: Any, groups: Sequence[Group], colors: Sequence[Any]) -> None:
    """The last error of each finished run, and the mean of each group; runs of the same seed are joined by a line."""
    seeds = sorted({seed for group in groups for seed in group.last_errors})
    for seed in seeds:
        there = [(place, group.last_errors[seed]) for place, group in enumerate(groups) if seed in group.last_errors]
        axes.plot(*zip(*there, strict=True), color="black", alpha=0.2, linewidth=0.8, zorder=1)
    for place, (group, color) in enumerate(zip(groups, colors, strict=True)):
        errors = list(group.last_errors.values())
        axes.scatter([place] * len(errors), errors, color=color, s=26, zorder=3)
        if len(errors) > 1:
            axes.hlines(float(np.mean(errors)), place - 0.3, place + 0.3, color=color, linewidth=2.2, zorder=2)
    axes.set(xlim=(-0.6, len(groups) - 0.4), xlabel="at the end, a dot a seed")
    shown = range(0, len(groups), 1 + len(groups) // 14)
    axes.set_xticks(list(shown), [groups[place].letter for place in shown])
    axes.tick_params(labelleft=False)


def _scale(axes: Any, groups: Sequence[Group]) -> None:
    """A logarithmic scale with plain numbers, unless an error of 0 has no place on one."""
    from matplotlib import ticker

    runs = [run for group in groups for run in group.runs]
    errors = [error for run in runs for error in (*(epoch.error for epoch in run.epochs), run.last_error) if error is not None]
    if min(errors, default=0.0) <= 0:
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
    axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def _legend(figure: Any, groups: Sequence[Group], colors: Sequence[Any]) -> None:
    from matplotlib.lines import Line2D

    entries = []
    for group, color in list(zip(groups, colors, strict=True))[:_MOST_IN_LEGEND]:
        flags = plain(group.label, _LONGEST_LABEL)
        alone = "mean of the runs" if len(group.runs) > 1 else plain(group.runs[0].name)
        label = f"{group.letter}: {flags}" if flags else alone
        entries.append(Line2D([], [], color=color, linewidth=2.2, label=label))
    if len(groups) > _MOST_IN_LEGEND:
        entries.append(Line2D([], [], linestyle="", label=f"and {len(groups) - _MOST_IN_LEGEND} more"))
    if any(run.summary is None and run.epochs for group in groups for run in group.runs):
        entries.append(Line2D([], [], color="grey", marker="o", markerfacecolor="white", label="not finished"))
    longest = max(len(str(entry.get_label())) for entry in entries)
    figure.legend(
        handles=entries, loc="outside lower center", ncols=max(1, min(4, 130 // (longest + 6))), edgecolor="none", fontsize=9
    )
