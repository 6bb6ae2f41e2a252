"""How wide the terminal is that somebody reads, and text that is made to fit it."""

import re
import shutil
import sys
import textwrap
from typing import IO

NARROWEST = 40
"""Columns; text is not made narrower."""
_LABEL = re.compile(r" *\S(?:\S| (?! ))* {2,}(?=\S)")
"""What stands before a gap of two spaces or more: further lines of its text begin behind that gap."""
_MUCH = 4
"""Columns."""


def columns(stream: IO[str] | None = None) -> int | None:
    """Columns of the terminal that a stream, by default the standard output, goes to; None: it goes into a file or a pipe."""
    stream = sys.stdout if stream is None else stream
    return max(NARROWEST, shutil.get_terminal_size().columns) if stream.isatty() else None


def fitted(text: str, width: int | None) -> str:
    """The lines of a text, each parted at words so that none is wider; as they are if `width` is None.

    What somebody may copy, such as a flag or a path, stays in one piece.
    """
    return text if width is None else "\n".join(_parted(line, width) for line in text.split("\n"))


def _parted(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    label = _LABEL.match(line)
    margin = len(line) - len(line.lstrip())
    start = label.end() if label and label.end() <= width // 2 else margin
    # What is moved in by much is so already.
    inner = " " * (start if start > margin or margin > _MUCH else margin + 2)
    parts = textwrap.wrap(
        line[start:],
        width,
        initial_indent=line[:start],
        subsequent_indent=inner,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(parts)


def say(text: str) -> None:
    """Prints a text, on a terminal parted at words."""
    print(fitted(text, columns()), flush=True)
