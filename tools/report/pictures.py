"""The pictures of a report, as SVG that takes the color of the text around it, so that it is light or dark with the page."""

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tools.shared.classification_metrics import Reliability
from tools.shared.plots import of_any_script, plain

_INK = "#010203"
"""Stands for the color of the page's text while Matplotlib draws."""
_STYLE: dict[Any, Any] = {
    **{name: _INK for name in ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")},
    **{name: "none" for name in ("figure.facecolor", "axes.facecolor", "savefig.facecolor", "legend.facecolor")},
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.prop_cycle": "cycler('color', ['#3b82c4', '#d9822b', '#3a9a5b', '#d0485a'])",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11,
}
_WIDTH = 6.0
"""Of a picture, in inches: its letters can be read on a telephone, too."""
FEWEST_IN_A_BIN = 10
"""Images from which the share of right ones is drawn: of fewer it is chance."""
_MOST_NAMED = 24
"""Above that, classes have no names below the bars."""
_LONGEST_NAME = 18
"""Of a class below its bar: longer ones would leave no room for the bars. The table beside the picture has the whole name."""


def curves(rows: list[dict[str, Any]]) -> str:
    """Error and confidence over the epochs, as in the run's own picture."""
    from r2d2_tf.runs.metrics_log import plot_run

    return _svg("curves", lambda path: plot_run(rows, "", path, width=_WIDTH))


def shares(labeled: np.ndarray, table: np.ndarray, class_names: Sequence[str]) -> str:
    """Share of each class among the given labels and in the table, both `[classes]` in 0..1."""

    def draw(figure: Any) -> None:
        axes, places = figure.subplots(), np.arange(len(labeled))
        axes.bar(places - 0.2, 100 * labeled, 0.4, label="given labels")
        axes.bar(
            places + 0.2, 100 * table, 0.4, label="learned table, unlabeled images", hatch="//", edgecolor=_INK, linewidth=0
        )
        if len(labeled) <= _MOST_NAMED:
            names = [plain(name, _LONGEST_NAME) for name in class_names]
            long = max(map(len, names)) > 3
            axes.set_xticks(places, names, rotation=45 if long else 0, ha="right" if long else "center")
        axes.set(xlabel="class", ylabel="share (%)")
        figure.legend(loc="outside upper center", ncols=2, frameon=False)

    return _drawn("shares", draw, height=3.4)


def reliability(found: Mapping[str, Reliability]) -> str:
    """How often each of several is right, over how sure it is."""

    def draw(figure: Any) -> None:
        axes, amounts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=1, linestyle=":", label="as right as it is sure")
        for (name, own), marker in zip(found.items(), "osD^", strict=False):
            enough, there = own.counts >= FEWEST_IN_A_BIN, own.counts > 0
            axes.plot(own.confidence[enough], own.accuracy[enough], marker=marker, markersize=5, label=name)
            amounts.plot(own.confidence[there], own.counts[there], marker=marker, markersize=4)
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), ylabel="share that is right")
        amounts.set(yscale="log", xlabel="probability of its class", ylabel="images")
        figure.legend(loc="outside upper center", ncols=2, frameon=False)

    return _drawn("reliability", draw, height=5.4)


def _drawn(name: str, draw: Callable[[Any], None], height: float) -> str:
    def save(path: Path) -> None:
        from matplotlib import pyplot

        figure = pyplot.figure(figsize=(_WIDTH, height), layout="constrained")
        draw(figure)
        figure.savefig(path)
        pyplot.close(figure)

    return _svg(name, save)


def _svg(name: str, save: Callable[[Path], None]) -> str:
    """The SVG element that `save` writes; `name` makes what it refers to its own, beside other pictures on the page."""
    import matplotlib

    matplotlib.use("Agg")
    style = matplotlib.rc_context(_STYLE | {"svg.hashsalt": name})
    with tempfile.TemporaryDirectory() as folder, style, of_any_script():
        path = Path(folder) / "picture.svg"
        save(path)
        text = path.read_text(encoding="utf-8")
    element = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    element = re.sub(r'\b(id="|url\(#|href="#)', rf"\g<1>{name}-", element).replace(_INK, "currentColor")
    # The page says how wide it is.
    return re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", re.sub(r' height="[^"]*pt"', "", element, count=1), count=1)
