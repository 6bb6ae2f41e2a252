"""How wide the terminal is that somebody reads, and text that is made to fit it and to do nothing else to it."""

import contextlib
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import IO, Any, TextIO, cast

NARROWEST = 40
"""Columns; text is not made narrower."""
_LABEL = re.compile(r" *\S(?:\S| (?! ))* {2,}(?=\S)")
"""What stands before a gap of two spaces or more: further lines of its text begin behind that gap."""
_MUCH = 4
"""Columns."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves the cursor, colors, sets a title, ends a line, turns the direction of text around, or is no character."""


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


def escaped(text: str, keep: str = "") -> str:
    """A text with its control characters, but for those to `keep`, written out: a backslash, an x and two digits."""

    def written(found: re.Match[str]) -> str:
        number = ord(found[0])
        if 0xDC80 <= number < 0xDD00:
            # A byte of a file's name that is no UTF-8.
            number -= 0xDC00
        return found[0] if found[0] in keep else f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"

    return _CONTROL.sub(written, text)


class _PlainStream:
    """A stream whose text is escaped, but for the ends of lines and tabs; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(escaped(text, keep="\n\t"))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def plain_output() -> Iterator[None]:
    """Whatever the block prints, names of files and classes among it, moves no cursor and colors nothing."""
    with contextlib.redirect_stdout(cast(TextIO, _PlainStream(sys.stdout))):
        yield


def say(text: str) -> None:
    """Prints a text, on a terminal parted at words."""
    print(fitted(text, columns()), flush=True)
