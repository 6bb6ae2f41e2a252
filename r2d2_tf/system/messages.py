"""What is said to people: an error in a line, a table."""

import sys
from collections.abc import Sequence

LONGEST = 500
"""Characters of a message."""


def one_line(message: object) -> str:
    """`message` as one printable line, which may quote anything that somebody typed.

    Control characters are written as escapes. Of a longer message the middle is left out: what came stands at the beginning,
    how to mend it at the end.
    """
    words = " ".join(str(message).split())
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in words)
    half = LONGEST // 2 - 3
    return line if len(line) <= LONGEST else f"{line[:half]} ... {line[-half:]}"


def mistake(message: object) -> ValueError:
    """The error that is raised for what somebody typed or gave, in one line."""
    return ValueError(one_line(message))


def warn(text: str) -> None:
    """Prints a warning."""
    print(f"warning: {text}", file=sys.stderr)


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
