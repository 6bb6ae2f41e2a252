"""What is said to people: an error in a line, a table, a time."""

import sys
from collections.abc import Sequence

from r2d2_tf.system import terminal

LONGEST = 500
"""Characters of a message."""
_LOOKED_AT = 20 * LONGEST
_UNITS = ((1, "s", 90), (60, "min", 90 * 60), (3600, "h", 48 * 3600), (86400, "days", float("inf")))
"""Seconds of a unit, its name, and below how many seconds it is used."""
_AS_ONE = 7 / 6
"""Times the lower end of a range below which the upper end is not told."""


def one_line(message: object) -> str:
    """`message` as one printable line, which may quote anything that somebody typed.

    Control characters are written as escapes. Of a longer message the middle is left out: what came stands at the beginning,
    how to mend it at the end.
    """
    text = str(message)
    if len(text) > _LOOKED_AT:
        # Each character of what somebody sent, eight million perhaps, would take a second.
        text = f"{text[: _LOOKED_AT // 2]} ... {text[-_LOOKED_AT // 2 :]}"
    words = " ".join(text.split())
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in words)
    half = LONGEST // 2 - 3
    return line if len(line) <= LONGEST else f"{line[:half]} ... {line[-half:]}"


def mistake(message: object) -> ValueError:
    """The error that is raised for what somebody typed or gave, in one line."""
    return ValueError(one_line(message))


def warn(text: str) -> None:
    """Prints a warning, on a terminal parted at words."""
    print(terminal.escaped(terminal.fitted(f"warning: {text}", terminal.columns(sys.stderr)), keep="\n"), file=sys.stderr)


def time_text(low: float, high: float | None = None) -> str:
    """Seconds, or from `low` to `high` of them, rounded as one says them: `25 s`, `12-19 min`, `1.5-3 h`, `about` left out.

    Ends that lie within a sixth of each other are one.
    """
    high = low if high is None else max(low, high)
    unit, name = next((unit, name) for unit, name, most in _UNITS if high < most)
    if high <= low * _AS_ONE:
        low = high = (low + high) / 2
    ends = dict.fromkeys(_rounded(seconds / unit, name) for seconds in (low, high))
    return f"{'-'.join(ends)} {name}"


def _rounded(value: float, name: str) -> str:
    if name == "s":
        return f"{value:.0f}"
    return f"{value:.0f}" if value >= 9.5 else f"{max(0.1, value):.1f}".removesuffix(".0")


def markdown(table: Sequence[Sequence[object]]) -> list[str]:
    """The lines of a Markdown table, its heads first; the columns are in line in a terminal, too, each to the left.

    A cell stays in its line and its column, whatever it quotes.
    """
    cells = [[one_line(cell).replace("|", "\\|") for cell in row] for row in table]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    rows = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells]
    return [rows[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *rows[1:]]


def columns(table: Sequence[Sequence[object]]) -> list[str]:
    """The same for a terminal alone: the first column to the left, the others, of numbers, to the right."""
    cells = [[one_line(cell) for cell in row] for row in table]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  " + "  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in cells
    ]
