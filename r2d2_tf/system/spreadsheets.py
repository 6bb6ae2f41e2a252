"""CSV files that a spreadsheet may open: no name of a file or a class is a formula in a cell, nor holds control characters.

What begins like one of a formula gets a ' before it, which spreadsheets take for "this is text"; and so does what follows a
semicolon, at which half of Europe's spreadsheets part cells. Control characters are written as escapes. `value` undoes both.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from r2d2_tf.system import files, terminal
from r2d2_tf.system.messages import mistake

# Of one sign alone nothing is computed; those of full width count, too.
_FORMULA = r"[ ']*[=+\-@\uff1d\uff0b\uff0d\uff20]."
_BEGINS = re.compile(rf"(?:^|(?<=;))(?={_FORMULA})")
_GUARDED = re.compile(rf"(?:^|(?<=;))'(?={_FORMULA})")
_NUMBER = re.compile(r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|inf|nan)", re.IGNORECASE)
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4}))")
_LIKE_ONE = re.compile(r"\\(?=x[0-9a-f]{2}|u[0-9a-f]{4})")


def cell(value: object) -> object:
    """A value as it is written: text made harmless, but for numbers, which stay."""
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    # A text that holds what looks like an escape must not be taken for one.
    return _BEGINS.sub("'", terminal.escaped(_LIKE_ONE.sub(r"\\x5c", value)))


def value(cell: str) -> str:
    """The text that `cell` made harmless; of any other cell what it says."""
    return _ESCAPE.sub(_unescaped, _GUARDED.sub("", cell))


def _unescaped(found: re.Match[str]) -> str:
    sign = chr(int(found[1] or found[2], 16))
    return sign if sign == "\\" or terminal.escaped(sign) != sign else found[0]


def write(path: Path, lines: Iterable[Sequence[object]]) -> None:
    """Writes cells as a .csv, the titles first, whole or not at all; None is an empty cell."""
    with files.written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([cell(own) for own in line] for line in lines)


def read(path: Path) -> list[list[str]]:
    """The cells of a .csv that `write` wrote, as text, line by line; a byte order mark before them is none.

    Raises:
        ValueError: in one line, if it is no such file.
        OSError: if it cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [[value(own) for own in line] for line in csv.reader(file)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise mistake(f"{path} is damaged, or no CSV file in UTF-8 ({error})") from error


def read_columns(path: Path, *needed: str) -> list[dict[str, str]]:
    """The same below the titles, each line by its columns; "" where a line is too short.

    Raises:
        ValueError, OSError: as `read`; or if a column lacks that is `needed`.
    """
    titles, *lines = read(path) or [[]]
    if lacks := [name for name in needed if name not in titles]:
        raise mistake(f"{path} is damaged: it lacks the column {lacks[0]}")
    return [dict(zip(titles, line + [""] * (len(titles) - len(line)), strict=False)) for line in lines if line]
