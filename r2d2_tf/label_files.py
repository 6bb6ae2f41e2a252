"""Reads which image has which label: a CSV or Parquet file with the columns `file`, `label` and, if wanted, `split`."""

import csv
import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from r2d2_tf.messages import one_line

SPLITS = ("train", "test")
_UNLABELED = -1
_DELIMITERS = (",", ";", "\t")
_MOST_COMPARED = 20_000
"""File names among which one is looked for that may have been meant: more take too long."""


@dataclass(frozen=True)
class LabelFile:
    """The rows of a file of labels.

    Attributes:
        path: of the file.
        files: names of images, one a row.
        labels: names of classes, "" where there is none.
        splits: `train` or `test` a row, or "" where the file does not say.
        lines: where each row stands, from 1.
    """

    path: Path
    files: list[str]
    labels: list[str]
    splits: list[str]
    lines: list[int]

    def where(self, row: int) -> str:
        """A row for people."""
        return f"labels ({self.path}), line {self.lines[row]}: {self.files[row]!r}"


def read_labels(path: Path) -> LabelFile:
    """Reads a file of labels.

    CSV: UTF-8, with or without a byte order mark, parted by commas, semicolons or tabs; the first line names the columns.
    Labels may be names or whole numbers; where all are numbers, 3.0 is 3 and -1 is none.

    Raises:
        ValueError: if the file cannot be read, lacks a column, or says of a split what it does not mean.
    """
    try:
        # A pipe or a device might never end.
        if not path.is_file():
            raise OSError("it does not exist, or is no file")
        columns, lines = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
    except UnicodeDecodeError as error:
        raise ValueError(one_line(f"labels ({path}) is no UTF-8 text ({error}): save it as CSV in UTF-8")) from error
    except (OSError, csv.Error) as error:
        raise ValueError(one_line(f"labels ({path}) cannot be read: {error}; change --labels")) from error
    table = LabelFile(path, columns["file"], _plain_labels(columns["label"]), columns["split"], lines)
    for row, split in enumerate(table.splits):
        if split not in ("", *SPLITS):
            raise ValueError(one_line(f"{table.where(row)} has the split {split!r}: write train or test, or nothing"))
    return table


def _csv(path: Path) -> tuple[dict[str, list[str]], list[int]]:
    # "sig": spreadsheets begin a text with a byte order mark. newline="": a quoted name may hold line breaks.
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        delimiter = next((d for d in _DELIMITERS if {"file", "label"} <= set(_header(header, d))), None)
        if delimiter is None:
            raise _no_header(path, header.strip())
        reader = csv.reader(file, delimiter=delimiter)
        names = _header(header, delimiter)
        columns: dict[str, list[str]] = {"file": [], "label": [], "split": []}
        lines, place = [], {name: names.index(name) for name in columns if name in names}
        line = 2
        for values in reader:
            if any(value.strip() for value in values):
                for name, column in columns.items():
                    i = place.get(name, len(values))
                    value = values[i] if i < len(values) else ""
                    column.append(value if name == "file" else value.strip())
                lines.append(line)
            line = reader.line_num + 2
    return columns, lines


def _header(line: str, delimiter: str) -> list[str]:
    return [name.strip().lower() for name in next(csv.reader([line.strip("\r\n")], delimiter=delimiter), [])]


def _no_header(path: Path, found: str) -> ValueError:
    return ValueError(
        one_line(
            f"labels ({path}) has no columns file and label (it begins with {found[:100]!r}): let its first line be "
            "`file,label` or `file,label,split`"
        )
    )


def _parquet(path: Path) -> tuple[dict[str, list[str]], list[int]]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise OSError(f"it is no Parquet file ({error})") from error
    names = {name.strip().lower(): name for name in table.column_names}
    if not {"file", "label"} <= set(names):
        raise _no_header(path, ",".join(table.column_names))
    columns = {
        name: [_text(value) for value in table[names[name]].to_pylist()] if name in names else [""] * len(table)
        for name in ("file", "label", "split")
    }
    return columns, list(range(1, len(table) + 1))


def _text(value: Any) -> str:
    # pandas keeps a missing name as NaN among numbers.
    return "" if value is None or value != value else str(value)


def _plain_labels(labels: list[str]) -> list[str]:
    """Of labels that are all numbers, as a spreadsheet or pandas writes them, the whole numbers; else the labels."""
    if not all(re.fullmatch(r"[+-]?[0-9]+(\.0+)?", label) for label in labels if label):
        return labels
    return ["" if label.startswith("-1") and float(label) == -1 else label.partition(".")[0] for label in labels]


def rows_named(table: LabelFile, ids: Sequence[str]) -> np.ndarray:
    """The row of `ids` that each row of a file of labels names, `[rows]` int64.

    A name may begin with ./, be parted by backslashes, or have its accents composed otherwise.

    Raises:
        ValueError: for the first name that is not among `ids`, and for one that is there twice with different labels.
    """
    row_of = {identifier: row for row, identifier in enumerate(ids)}
    plain_row_of: dict[str, int] | None = None
    found = np.empty(len(table.files), np.int64)
    unknown = []
    for number, name in enumerate(table.files):
        row = row_of.get(name)
        if row is None:
            plain_row_of = plain_row_of or {_plain(identifier): row for identifier, row in row_of.items()}
            row = plain_row_of.get(_plain(name))
        found[number] = -1 if row is None else row
        unknown += [number] if row is None else []
    if unknown:
        raise _no_such_image(table, unknown, ids)
    first: dict[int, int] = {}
    for number, row in enumerate(found.tolist()):
        before = first.setdefault(row, number)
        if (table.labels[before], table.splits[before]) != (table.labels[number], table.splits[number]):
            raise ValueError(
                one_line(
                    f"{table.where(number)} is {table.labels[number] or 'unlabeled'!r} here and "
                    f"{table.labels[before] or 'unlabeled'!r} in line {table.lines[before]}: remove one"
                )
            )
    return found


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", str(PurePosixPath(name.strip().replace("\\", "/"))))


def _no_such_image(table: LabelFile, unknown: Sequence[int], ids: Sequence[str]) -> ValueError:
    name = table.files[unknown[0]]
    near = difflib.get_close_matches(name, ids, n=1) if len(ids) <= _MOST_COMPARED else []
    hint = f"did you mean {near[0]!r}?" if near else f"write names such as {ids[0]!r}" if ids else "there is none"
    more = f" ({len(unknown):,} lines name none)" if len(unknown) > 1 else ""
    return ValueError(one_line(f"{table.where(unknown[0])} names no image of this data set{more}: {hint}"))


def class_names_in(labels: Iterable[str]) -> tuple[str, ...]:
    """The classes that labels name, sorted; by size where all are whole numbers."""
    names = {label for label in labels if label}
    numbers = all(re.fullmatch(r"[+-]?[0-9]+", name) for name in names)
    return tuple(sorted(names, key=(lambda name: (int(name), name)) if numbers else None))


def given_labels(table: LabelFile, ids: Sequence[str], class_names: Sequence[str]) -> np.ndarray:
    """The labels that a file gives the images of a set whose classes are known, `[ids]` int64, -1 for none.

    A label is the name of a class, or else its number from 0.

    Raises:
        ValueError: if a line names no image or no class, or asks for test images, which such a set has already.
    """
    rows = rows_named(table, ids)
    number_of = {str(number): number for number in range(len(class_names))}
    number_of |= {name: number for number, name in enumerate(class_names)}
    given = np.full(len(ids), _UNLABELED, np.int64)
    for number, row in enumerate(rows.tolist()):
        label = table.labels[number]
        if table.splits[number] == "test":
            raise ValueError(
                one_line(f"{table.where(number)} has the split test, and this data set has test images: write train")
            )
        if label and label not in number_of:
            near = difflib.get_close_matches(label, class_names, n=1, cutoff=0.0)[0]
            raise ValueError(one_line(f"{table.where(number)} has a label that is no class: {label!r}; did you mean {near!r}?"))
        given[row] = number_of[label] if label else _UNLABELED
    return given
