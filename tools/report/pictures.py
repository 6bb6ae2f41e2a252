"""The pictures of a report, as SVG that takes the color of the text around it, so that it is light or dark with the page."""

import functools
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from r2d2_tf.runs.outcome.verdict import error_interval
from tools.shared import plots
from tools.shared.classification_metrics import Reliability
from tools.shared.plots import of_any_script, plain

_INK = "#010203"
"""Stands for the color of the page's text while Matplotlib draws."""
FEW_POINTS = 30
"""Of a line: each of so few is marked, as a single one is no line."""
_STYLE: dict[Any, Any] = {
    **{name: _INK for name in ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")},
    **{name: "none" for name in ("figure.facecolor", "axes.facecolor", "savefig.facecolor", "legend.facecolor")},
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.prop_cycle": "cycler('color', ['#3b82c4', '#d9822b', '#3a9a5b', '#d0485a'])",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
}
WIDTHS = {"wide": (10.5, 11.0), "narrow": (3.9, 9.5)}
"""Of a picture, in inches, and of its letters, in points: one for a page's full width, one for a telephone. A page shows the
one that fits, so that letters are never shrunk to what nobody can read."""
_HALF_WIDTHS = {"wide": (7.0, 10.0), "narrow": WIDTHS["narrow"]}
"""The same of a picture that is as wide as a text."""


def curves(rows: list[dict[str, Any]], num_test: int) -> dict[str, str]:
    """Error and confidence over the epochs, as in the run's own picture, and how exactly test images tell the error."""
    from r2d2_tf.runs.metrics_log import plot_run

    errors = [row["test_error"] for row in rows]
    intervals = [error_interval(round(error * num_test / 100), num_test) for error in errors]

    def save(width: float, path: Path) -> None:
        plot_run(rows, "", path, width=width, intervals=intervals)

    return _drawn("curves", save)


def curves_of_two(named: Mapping[str, Sequence[tuple[int, float]]]) -> dict[str, str]:
    """Test errors over the epochs, (number, percent) each, of runs by their names."""

    def draw(figure: Any, is_narrow: bool) -> None:
        from matplotlib import ticker

        from r2d2_tf.runs.metrics_log import scale_errors

        axes = figure.subplots()
        for (name, points), style in zip(named.items(), ("-", "--"), strict=True):
            epochs, errors = zip(*points, strict=True) if points else ((), ())
            marker = "o" if len(points) < FEW_POINTS else ""
            axes.plot(epochs, errors, style, marker=marker, markersize=3, label=plain(name))
        axes.set(xlabel="epoch", ylabel="test error (%)")
        scale_errors(axes, [error for points in named.values() for _, error in points])
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.grid(axis="y", color="gray", alpha=0.2)
        figure.legend(loc="outside upper left", ncols=1 if is_narrow else 2, frameon=False)

    return _figures("beside", draw, height=4.2)


def reliability(found: Mapping[str, Reliability]) -> dict[str, str]:
    """How often each of several is right, over how sure it is; bins of few images are faded."""

    def draw(figure: Any, is_narrow: bool) -> None:
        axes, amounts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=1, linestyle=":", label="as right as it is sure")
        for (name, own), marker in zip(found.items(), "osD^", strict=False):
            few, there = plots.has_few(own), own.counts > 0
            (line,) = axes.plot(
                own.confidence[~few & there], own.accuracy[~few & there], marker=marker, markersize=5, label=name
            )
            faded = {"color": line.get_color(), "alpha": plots.FADED, "marker": marker, "markersize": 5, "linestyle": ""}
            axes.plot(own.confidence[few], own.accuracy[few], **faded)
            amounts.plot(own.confidence[there], own.counts[there], marker=marker, markersize=4)
        axes.set(xlim=(0, 1.02), ylim=(-0.02, 1.04), ylabel="share that is right")
        amounts.set(yscale="log", xlabel="probability of its class", ylabel="images")
        amounts.yaxis.set_major_formatter("{x:,.0f}")
        figure.legend(loc="outside upper left", ncols=1 if is_narrow else 2, frameon=False)

    return _figures("reliability", draw, height=5.4, widths=_HALF_WIDTHS)


def _figures(
    name: str, draw: Callable[[Any, bool], None], height: float, widths: Mapping[str, tuple[float, float]] = WIDTHS
) -> dict[str, str]:
    """What `draw` makes of an empty figure and of whether it is narrow, at each width."""

    def save(width: float, path: Path) -> None:
        from matplotlib import pyplot

        figure = pyplot.figure(figsize=(width, height), layout="constrained")
        draw(figure, width <= WIDTHS["narrow"][0])
        figure.savefig(path)
        pyplot.close(figure)

    return _drawn(name, save, widths)


def _drawn(
    name: str, save: Callable[[float, Path], None], widths: Mapping[str, tuple[float, float]] = WIDTHS
) -> dict[str, str]:
    """A picture at each width, by the width's name."""
    return {kind: _svg(f"{name}-{kind}", functools.partial(save, width), size) for kind, (width, size) in widths.items()}


def _svg(name: str, save: Callable[[Path], None], font_size: float) -> str:
    """The SVG element that `save` writes; `name` makes what it refers to its own, beside other pictures on the page."""
    import matplotlib

    matplotlib.use("Agg")
    style = matplotlib.rc_context(_STYLE | {"svg.hashsalt": name, "font.size": font_size})
    with tempfile.TemporaryDirectory() as folder, style, of_any_script():
        path = Path(folder) / "picture.svg"
        save(path)
        text = path.read_text(encoding="utf-8")
    element = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    element = re.sub(r'\b(id="|url\(#|href="#)', rf"\g<1>{name}-", element).replace(_INK, "currentColor")
    # The page says how wide it is.
    return re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", re.sub(r' height="[^"]*pt"', "", element, count=1), count=1)
