"""Names of classes and folders in Matplotlib's pictures."""

import contextlib
import warnings
from collections.abc import Iterator


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
