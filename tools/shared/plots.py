"""Pictures of Matplotlib: where it is imported, how they are saved, and names of classes and folders in them."""

import contextlib
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from r2d2_tf.system import files
from tools.shared.classification_metrics import Reliability

FEWEST_IN_A_BIN = 10
"""Images from which the share of right ones is drawn in full: of fewer it is mostly chance."""
FADED = 0.25
"""Opacity of what is mostly chance."""


def pyplot() -> Any:
    """Matplotlib's, for files alone: here, as it takes a second to import."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def save(figure: Any, path: Path, dpi: int = 120) -> None:
    """Writes a figure, whole or not at all, and ends it."""
    with files.written_whole(path) as temporary, of_any_script():
        figure.savefig(temporary, dpi=dpi)
    pyplot().close(figure)


def plain(text: str, longest: int | None = None) -> str:
    """`text` in one line, cut to `longest` characters, without what Matplotlib would take for a formula or cannot write."""
    line = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)
    if longest is not None and len(line) > longest:
        line = f"{line[: longest - 3]}..."
    # What stands between dollar signs would be a formula.
    return line.replace("$", r"\$")


def wrapped(text: str, width: int) -> str:
    """`text` as `plain` has it, whole, in lines of at most `width` characters."""
    return "\n".join(plain(line) for line in textwrap.wrap(text, width)) or plain(text)


def has_few(found: Reliability) -> np.ndarray:
    """Which bins have images, and so few that their share of right ones is mostly chance, `[bins]` bool."""
    return (found.counts > 0) & (found.counts < FEWEST_IN_A_BIN)


@contextlib.contextmanager
def of_any_script() -> Iterator[None]:
    """While a picture is saved: letters that Matplotlib's font lacks become boxes, in a .svg file the browser's own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield
