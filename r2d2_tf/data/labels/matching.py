"""Which image has which label: a file with the columns `file`, `label` and, if wanted, `split` and probabilities."""

import csv
import dataclasses
import difflib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import numpy as np

from r2d2_tf.data.image_data import UNLABELED
from r2d2_tf.data.labels.cells import composed, is_no_label, plain_labels, read_cells
from r2d2_tf.data.labels.label_file import LabelFile
from r2d2_tf.data.labels.label_formats import read_rows
from r2d2_tf.system import spreadsheets, terminal
from r2d2_tf.system.messages import mistake, one_line

SPLITS = ("train", "test")
_ROUNDING = 1e-3
"""By how much written probabilities may miss a sum of 1, or 0."""
_TIE = 1e-6
"""Probabilities that differ by less are the same."""
_MOST_COMPARED = 20_000
"""File names among which one is looked for that may have been meant: more take too long."""


def read_labels(path: Path, *, soft: bool = False) -> LabelFile:
    """Reads a file of labels.

    CSV: UTF-8 or UTF-16, with or without a byte order mark, parted by commas, semicolons or tabs; the first line names the
    columns. Labels may be names or whole numbers; where all are numbers, 3.0 is 3. -1, nan, NA and such are none.

    Args:
        path: a CSV file, a .parquet, an .npz as tools.pseudo_labels writes it, or what exports reads.
        soft: read the probabilities of all classes, too; see label_formats.read_rows.

    Raises:
        ValueError: if the file cannot be read, lacks a column, says of a split what it does not mean, or holds probabilities
            that are none, or whose largest is not the label's; or for several labels in a cell.
    """
    try:
        # A pipe or a device might never end.
        if not path.is_file():
            raise OSError("it does not exist, or is no file")
        table = read_rows(path, soft=soft)
    except UnicodeDecodeError as error:
        where = f"labels ({path}) is no UTF-8 text ({error}){_first_that_is_no_text(path)}"
        raise mistake(f"{where}: save it as CSV in UTF-8, in Excel as 'CSV UTF-8'") from error
    except (OSError, csv.Error) as error:
        raise mistake(f"labels ({path}) cannot be read: {error}; name another file") from error
    # An .npz names classes by their numbers.
    table = table if path.suffix.lower() == ".npz" else read_cells(table)
    table = dataclasses.replace(table, splits=[split.lower() for split in table.splits])
    for row, split in enumerate(table.splits):
        if split not in ("", *SPLITS):
            raise mistake(f"{table.where(row)} has the split {split!r}: write train or test, or nothing")
    if table.probabilities is not None:
        _check_probabilities(table, table.probabilities)
    return table


def _first_that_is_no_text(path: Path) -> str:
    """The line of a file that is no UTF-8, for people."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f", line {number}: {line.strip()[:40].decode('latin-1')!r}"
    return ""


def _check_probabilities(table: LabelFile, probabilities: np.ndarray) -> None:
    meant = np.array([bool(label) and split != "test" for label, split in zip(table.labels, table.splits, strict=True)], bool)
    of_class = {name: column for column, name in enumerate(table.class_names)}
    sums = probabilities.sum(1, dtype=np.float64)
    for row in np.flatnonzero(meant).tolist():
        own, label = probabilities[row], table.labels[row]
        # A missing one is NaN, and then so is the sum.
        if not (abs(sums[row] - 1) <= _ROUNDING and own.min() >= -_ROUNDING):
            found = f"the sum is {sums[row]:.6g}, the least {own.min():.6g}"
            raise mistake(f"{table.where(row)} has probabilities that are not 0 to 1 with a sum of 1 ({found})")
        if label not in of_class:
            names = ", ".join(table.class_names[:3])
            raise mistake(f"{table.where(row)} has the label {label!r}, and the probabilities are of {names}...")
        if own[of_class[label]] < own.max() - _TIE:
            likeliest = table.class_names[int(own.argmax())]
            raise mistake(f"{table.where(row)} has the label {label!r}, and {likeliest!r} is the most probable class")


def rows_named(table: LabelFile, ids: Sequence[str]) -> np.ndarray:
    """The row of `ids` that each row of a file of labels names, `[rows]` int64.

    A name may begin with ./, be parted by backslashes, or have its accents composed otherwise; it may be the end of a single
    id, or begin with folders or an address that the id lacks; and it may be as `spreadsheets` writes it.

    Raises:
        ValueError: for the first name that is not among `ids`, and for one that is there twice with different labels.
    """
    row_of = {identifier: row for row, identifier in enumerate(ids)}
    places: _Places | None = None
    found = np.empty(len(table.files), np.int64)
    unknown = []
    for number, name in enumerate(table.files):
        row = row_of.get(name, row_of.get(spreadsheets.value(name)))
        if row is None:
            places = places or _Places(ids)
            row = places.row_of(name)
        found[number] = -1 if row is None else row
        unknown += [number] if row is None else []
    if unknown:
        raise _no_such_image(table, unknown, ids)
    _check_doubled(table, found)
    return found


def _check_doubled(table: LabelFile, named: np.ndarray) -> None:
    """Raises ValueError if a file says different things of an image that it names twice; `named` is as of `rows_named`."""
    first: dict[int, int] = {}
    for number, row in enumerate(named.tolist()):
        before = first.setdefault(row, number)
        if before == number:
            continue
        if (table.labels[before], table.splits[before]) != (table.labels[number], table.splits[number]):
            raise mistake(
                f"{table.where(number)} is {table.labels[number] or 'unlabeled'!r} here and "
                f"{table.labels[before] or 'unlabeled'!r} in line {table.lines[before]}: remove one"
            )
        # NaN: nothing stands there, as of test images.
        both = None if table.probabilities is None else table.probabilities[[before, number]]
        if both is not None and not np.array_equal(both[0], both[1], equal_nan=True):
            where = f"{table.where(number)} has other probabilities here than in line {table.lines[before]}"
            raise mistake(f"{where}: remove one")


class _Places:
    """The rows of ids by other spellings of them.

    Args:
        ids: of the rows.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        self._plain = {_plain(identifier): row for row, identifier in enumerate(ids)}
        self._ends: dict[str, list[str]] = defaultdict(list)
        for name in self._plain:
            self._ends[name.rpartition("/")[2]].append(name)

    def row_of(self, name: str) -> int | None:
        """The row that a name means; None if it is none, or might be several."""
        plain = _plain(name)
        if plain in self._plain:
            return self._plain[plain]
        parts = _plain(_path_in(name)).split("/")
        # Label Studio writes eight digits before the names of files that were uploaded.
        for last in dict.fromkeys((parts[-1], re.sub(r"^([0-9]+-)?[0-9a-f]{8}-", "", parts[-1]))):
            path = "/".join((*parts[:-1], last))
            # An id that ends so, or the longest end of the name that is an id.
            fit = [own for own in self._ends.get(last, ()) if own.endswith(f"/{path}") or f"/{path}".endswith(f"/{own}")]
            fit = [own for own in fit if own.endswith(f"/{path}")] or sorted(fit, key=len)[-1:]
            if len(fit) == 1:
                return self._plain[fit[0]]
        return None


def _path_in(name: str) -> str:
    """The path in an address, as Label Studio writes it: s3://bucket/a.jpg, /data/local-files/?d=a.jpg."""
    if "://" in name:
        name = name.partition("://")[2].partition("/")[2].partition("?")[0]
    elif name.startswith("/data/local-files/?d="):
        name = name.partition("?d=")[2]
    elif not name.startswith("/data/upload/"):
        return name
    else:
        name = name.rpartition("/")[2]
    return unquote(name)


def _plain(name: str) -> str:
    return composed(str(PurePosixPath(name.strip().replace("\\", "/"))))


def _no_such_image(table: LabelFile, unknown: Sequence[int], ids: Sequence[str]) -> ValueError:
    name = table.files[unknown[0]]
    near = difflib.get_close_matches(name, ids, n=1) if len(ids) <= _MOST_COMPARED else []
    hint = f"did you mean {near[0]!r}?" if near else f"write names such as {ids[0]!r}" if ids else "there is none"
    more = f" ({len(unknown):,} lines name none)" if len(unknown) > 1 else ""
    return mistake(f"{table.where(unknown[0])} names no image of this data set{more}: {hint}")


def class_names_in(labels: Iterable[str]) -> tuple[str, ...]:
    """The classes that labels name, sorted; by size where all are whole numbers."""
    names = {label for label in labels if label}
    numbers = all(re.fullmatch(r"[+-]?[0-9]+", name) for name in names)
    return tuple(sorted(names, key=(lambda name: (int(name), name)) if numbers else None))


def composed_alike(labels: Sequence[str], others: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Labels, and names of classes, whose accents are composed in different ways: the same one way, where there are two."""
    spelled: dict[str, str] = {}
    for name in {*labels, *others}:
        plain = composed(name)
        spelled[plain] = name if spelled.get(plain, name) == name else plain
    return [spelled[composed(label)] for label in labels], tuple(spelled[composed(name)] for name in others)


def alike_classes(class_names: Sequence[str]) -> list[str]:
    """Remarks on classes that may be one."""
    first: dict[str, str] = {}
    apart, remarks = "differ in capitals, or in how accents are composed, alone", []
    for name in class_names:
        is_number = re.fullmatch(r"[0-9]+", name)
        other = first.setdefault(str(int(name)) if is_number else composed(name).casefold(), name)
        if other != name:
            how = "are the same number: spreadsheets drop leading zeros" if is_number else apart
            remarks.append(one_line(f"two classes? {other!r} and {name!r} {how}"))
    return remarks


def labels_in(table: LabelFile, ids: Sequence[str], class_names: Sequence[str]) -> np.ndarray:
    """The labels that a file gives the images of a set whose classes are known, `[ids]` int64, -1 for none.

    A label is the name of a class, or else its number from 0.

    Raises:
        ValueError: if a line names no image or no class, or asks for test images, which such a set has already.
    """
    rows, number_of = rows_named(table, ids), _numbers(class_names)
    given = np.full(len(ids), UNLABELED, np.int64)
    for number, row in enumerate(rows.tolist()):
        label = composed(table.labels[number]) if table.labels[number] not in number_of else table.labels[number]
        if table.splits[number] == "test":
            raise mistake(f"{table.where(number)} has the split test, and this data set has test images: write train")
        if label and label not in number_of:
            near = difflib.get_close_matches(label, class_names, n=1, cutoff=0.0)[0]
            raise mistake(f"{table.where(number)} has a label that is no class: {label!r}; did you mean {near!r}?")
        given[row] = number_of[label] if label else UNLABELED
    return given


def _numbers(class_names: Sequence[str]) -> dict[str, int]:
    """Number of each class by what a label may call it: its name, that composed or as a plain number, or its number from 0."""
    numbers = {str(number): number for number in range(len(class_names))}
    by_value = {str(int(name)): number for number, name in enumerate(class_names) if re.fullmatch("[0-9]+", name, re.ASCII)}
    plain = {composed(name): number for number, name in enumerate(plain_labels(list(class_names)))}
    return numbers | by_value | plain | {name: number for number, name in enumerate(class_names)}


def check_class_names(where: str, names: Iterable[str]) -> None:
    """Raises ValueError for a class that a file of labels could not name: -1 or nan, which are none, or blanks at an end.

    Or control characters, which no class needs, and which whatever shows its name would have to mind.
    """
    for name in names:
        if name != name.strip() or is_no_label(name) or terminal.escaped(name) != name:
            raise mistake(f"{where}: a class must not be called {name!r}, as a file of labels could not name it: rename it")


def probabilities_in(table: LabelFile, ids: Sequence[str], class_names: Sequence[str]) -> np.ndarray | None:
    """The probabilities that a file gives the labeled images of a set, `[ids, classes]` float32; None if it was not asked.

    Raises:
        ValueError: if they are those of other classes.
    """
    if table.probabilities is None:
        return None
    number_of = _numbers(class_names)
    columns = [number_of.get(name, -1) for name in table.class_names]
    if sorted(columns) != list(range(len(class_names))):
        raise mistake(
            f"labels ({table.path}) holds probabilities of {len(columns)} classes ({', '.join(table.class_names[:3])}...) "
            f"and must hold those of the data set's {len(class_names)} ({', '.join(class_names[:3])}...)"
        )
    probabilities = np.zeros((len(ids), len(class_names)), np.float32)
    # What rounding took below 0.
    probabilities[rows_named(table, ids)[:, None], columns] = np.maximum(0, table.probabilities)
    return probabilities
