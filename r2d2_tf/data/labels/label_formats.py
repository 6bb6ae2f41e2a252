"""What a file of labels may be: CSV, Parquet or .npz, each read to the same columns. Needs no TensorFlow."""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from r2d2_tf.system.messages import mistake

_REQUIRED = ("file", "label")
_TEXTS = (*_REQUIRED, "split")
PROBABILITY_OF = "probability_of_"
"""How a column of probabilities begins; the name of the class follows."""
FILES_OF_LABELS = (".csv", ".parquet", ".npz")
"""How the names of such files end."""
_DELIMITERS = (",", ";", "\t")
_NPZ_KINDS = {
    "files": ("U", "texts"),
    "split": ("U", "texts"),
    "class_names": ("Uiu", "texts"),
    "label": ("iu", "whole numbers"),
    "probabilities": ("fiu", "numbers"),
}
"""Arrays of an .npz: the kinds of their types, and how people call those."""


@dataclass(frozen=True)
class LabelFile:
    """The rows of a file of labels.

    Attributes:
        path: of the file.
        files: names of images, one a row.
        labels: names of classes, "" where there is none.
        splits: what the file says of each row, "" where it says nothing.
        lines: where each row stands, from 1.
        class_names: whose `probabilities` the file holds, if they were asked for.
        probabilities: `[rows, class_names]` float32, NaN where nothing stands; only those of labeled rows that are not test
            images are meant. None if they were not asked for.
    """

    path: Path
    files: list[str]
    labels: list[str]
    splits: list[str]
    lines: Sequence[int]
    class_names: tuple[str, ...] = ()
    probabilities: np.ndarray | None = None

    def where(self, row: int) -> str:
        """A row for people."""
        return f"labels ({self.path}), line {self.lines[row]}: {self.files[row]!r}"


class LabelsFile:
    """A file that `read`, as matching.read_labels, reads when it is first needed: once for all, until its labels are taken."""

    def __init__(self, path: Path, read: Callable[[Path], LabelFile]) -> None:
        self.path, self._read = path, read
        self._table: LabelFile | None = None

    def read(self) -> LabelFile:
        """What the file holds; raises ValueError as read_labels does."""
        if self._table is None:
            self._table = self._read(self.path)
        return self._table

    def take(self) -> LabelFile:
        """As `read`, but for the last who needs it: kept, probabilities could take as much memory as the table."""
        table, self._table = self.read(), None
        return table


def read_rows(path: Path, *, soft: bool) -> LabelFile:
    """Reads a file by the ending of its name; what is no .parquet or .npz is CSV. What it says is not checked.

    With `soft`, the probabilities of all classes are read, too: columns `probability_of_NAME`, or, in a .parquet or .npz, an
    array `probabilities` beside `class_names`.

    Raises:
        ValueError: if it lacks a column.
        OSError, csv.Error, UnicodeDecodeError: if it cannot be read.
    """
    readers = {".parquet": _parquet, ".npz": _npz}
    return readers.get(path.suffix.lower(), _csv)(path, soft)


def _csv(path: Path, soft: bool) -> LabelFile:
    # "sig": spreadsheets begin a text with a byte order mark. newline="": a quoted name may hold line breaks.
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        for delimiter in _DELIMITERS:
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter)
            header = next(reader, [])
            if set(_REQUIRED) <= set(_plain(header)):
                return _of_lines(path, header, _numbered(path, reader, len(header)), soft)
    raise _lacks_columns(path, first.strip())


def _numbered(path: Path, reader: Any, width: int) -> Iterator[tuple[int, list[str]]]:
    """The lines that are not empty, each with its number; a quoted text may take several."""
    number = reader.line_num + 1
    for values in reader:
        if any(value.strip() for value in values[width:]):
            more = f"{len(values)} fields, and the first line has {width}"
            sign = repr(reader.dialect.delimiter)
            raise mistake(f"labels ({path}), line {number} has {more}: put what holds {sign} in quotes")
        if any(value.strip() for value in values):
            yield number, values
        number = reader.line_num + 1


def _of_lines(path: Path, header: Sequence[str], lines: Iterable[tuple[int, list[str]]], soft: bool) -> LabelFile:
    names = _plain(header)
    place = {name: names.index(name) for name in _TEXTS if name in names}
    columns: dict[str, list[str]] = {name: [] for name in _TEXTS}
    of_class = _classes_in(path, header) if soft else {}
    numbers, probabilities = [], []
    for number, values in lines:
        values += [""] * (len(header) - len(values))
        for name, column in columns.items():
            value = values[place[name]] if name in place else ""
            column.append(value if name == "file" else value.strip())
        numbers.append(number)
        if soft:
            cells = [values[i].strip() for i in of_class.values()]
            try:
                probabilities.append(np.array([float(cell or "nan") for cell in cells], np.float32))
            except ValueError as error:
                raise mistake(f"labels ({path}), line {number}: a probability is no number ({error})") from error
    found = np.array(probabilities, np.float32).reshape(len(numbers), len(of_class)) if soft else None
    labels, class_names = plain_labels(columns["label"]), tuple(plain_labels(list(of_class)))
    return LabelFile(path, columns["file"], labels, columns["split"], numbers, class_names, found)


def _parquet(path: Path, soft: bool) -> LabelFile:
    import pyarrow
    from pyarrow import parquet

    try:
        names = parquet.read_schema(path).names
        plain = dict(zip(_plain(names), names, strict=True))
        if not set(_REQUIRED) <= set(plain):
            raise _lacks_columns(path, ",".join(names))
        # The probabilities of a large table are not read if nobody asks for them.
        read = parquet.read_table(path, columns=[plain[name] for name in _TEXTS if name in plain])
        texts = {name: [_text(value) for value in read[plain[name]].to_pylist()] for name in _TEXTS if name in plain}
        class_names, probabilities = _parquet_probabilities(path, names) if soft else ((), None)
    except pyarrow.ArrowException as error:
        raise OSError(f"it is no Parquet file ({error})") from error
    split = texts.get("split", [""] * len(read))
    labels, class_names = plain_labels(texts["label"]), tuple(plain_labels(list(class_names)))
    return LabelFile(path, texts["file"], labels, split, range(1, len(read) + 1), class_names, probabilities)


def _parquet_probabilities(path: Path, names: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    from pyarrow import compute, parquet

    if "probabilities" not in names:
        of_class = _classes_in(path, names)
        read = parquet.read_table(path, columns=[names[i] for i in of_class.values()])
        return tuple(of_class), np.stack([_floats(column) for column in read.columns], axis=1)
    read = parquet.read_table(path, columns=["probabilities"])
    class_names = _names_in((read.schema.metadata or {}).get(b"class_names", b""))
    column = read["probabilities"]
    if not hasattr(column.type, "value_type"):
        raise mistake(f"labels ({path}): probabilities must be lists of numbers, and are {column.type}")
    lengths = compute.list_value_length(column).to_numpy()
    there = lengths == len(class_names)
    if not class_names or not (there | np.isnan(lengths.astype(float))).all():
        raise mistake(f"labels ({path}): probabilities must have a number for each of the schema's class_names")
    probabilities = np.full((len(read), len(class_names)), np.nan, np.float32)
    probabilities[there] = _floats(compute.list_flatten(column)).reshape(-1, len(class_names))
    return class_names, probabilities


def _names_in(text: bytes) -> tuple[str, ...]:
    """The names of classes in the metadata of a schema; none if there are no such."""
    try:
        names = json.loads(text)
    except ValueError:
        return ()
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _floats(column: Any) -> np.ndarray:
    return np.asarray(column.cast("float32"))


def _npz(path: Path, soft: bool) -> LabelFile:
    try:
        with np.load(path, allow_pickle=False) as archive:
            wanted = ("files", "label", "split", "class_names", *["probabilities"] * soft)
            arrays = {name: archive[name] for name in wanted if name in archive.files}
            found = ",".join(archive.files)
    # Whatever a zip archive and NumPy make of bytes that are not theirs.
    except Exception as error:
        raise OSError(f"it is no .npz file ({error})") from error
    if not {"files", "label", "class_names"} <= set(arrays):
        raise mistake(f"labels ({path}) holds {found or 'nothing'}: save files, label and class_names in it")
    for name, (kinds, what) in _NPZ_KINDS.items():
        if name in arrays and (arrays[name].dtype.kind not in kinds or not arrays[name].ndim):
            raise ValueError(f"labels ({path}): {name} is {arrays[name].dtype}, and must be an array of {what}")
    rows, class_names = len(arrays["files"]), tuple(map(str, arrays["class_names"].ravel().tolist()))
    shapes = {"files": (rows,), "label": (rows,), "split": (rows,), "probabilities": (rows, len(class_names))}
    wrong = [name for name, shape in shapes.items() if name in arrays and arrays[name].shape != shape]
    if wrong:
        raise ValueError(f"labels ({path}): {wrong[0]} is of shape {arrays[wrong[0]].shape}, not {shapes[wrong[0]]}")
    label = arrays["label"]
    if not ((label >= -1) & (label < len(class_names))).all():
        raise ValueError(f"labels ({path}): label must hold whole numbers from -1 (none) to {len(class_names) - 1}")
    if soft and "probabilities" not in arrays:
        raise _lacks_probabilities(path)
    labels = [class_names[number] if number >= 0 else "" for number in label.tolist()]
    split = arrays["split"].tolist() if "split" in arrays else [""] * rows
    probabilities = arrays["probabilities"].astype(np.float32) if soft else None
    return LabelFile(path, arrays["files"].tolist(), labels, split, range(1, rows + 1), class_names, probabilities)


def plain_labels(labels: list[str]) -> list[str]:
    """Of labels that are all numbers, as a spreadsheet or pandas writes them, the whole numbers; else the labels."""
    if not all(re.fullmatch(r"[+-]?[0-9]+(\.0+)?", label) for label in labels if label):
        return labels
    return ["" if label.startswith("-1") and float(label) == -1 else label.partition(".")[0] for label in labels]


def _plain(header: Sequence[str]) -> list[str]:
    return [name.strip().lower() for name in header]


def _text(value: Any) -> str:
    # pandas keeps a missing name as NaN among numbers.
    return "" if value is None or value != value else str(value)


def _classes_in(path: Path, header: Sequence[str]) -> dict[str, int]:
    """Class to its column of probabilities."""
    stripped = [name.strip() for name in header]
    names = [(name[len(PROBABILITY_OF) :], i) for i, name in enumerate(stripped) if name.lower().startswith(PROBABILITY_OF)]
    if not names:
        raise _lacks_probabilities(path)
    twice = [name for name, count in Counter(name for name, _ in names).items() if count > 1]
    if twice:
        raise mistake(f"labels ({path}) has the column {PROBABILITY_OF}{twice[0]} twice: remove one")
    return dict(names)


def _lacks_columns(path: Path, found: str) -> ValueError:
    return mistake(
        f"labels ({path}) has no columns file and label (it begins with {found[:100]!r}): let its first line be "
        "`file,label` or `file,label,split`"
    )


def _lacks_probabilities(path: Path) -> ValueError:
    return mistake(
        f"labels ({path}) holds no probabilities of all classes, which soft_labels asks for: write them with "
        "`python -m tools.pseudo_labels --soft`, or leave --soft_labels out"
    )
