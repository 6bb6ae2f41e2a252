"""Pictures of Matplotlib: where it is imported, how they are saved, and names of classes and folders in them."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from r2d2_tf.system import files


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


@contextlib.contextmanager
def of_any_script() -> Iterator[None]:
    """While a picture is saved: letters that Matplotlib's font lacks become boxes, in a .svg file the browser's own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield
