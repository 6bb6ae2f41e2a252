"""What a file of labels may be: CSV, Parquet or .npz, each read to the same columns. Needs no TensorFlow."""

import codecs
import csv
import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from r2d2_tf.data.labels import exports
from r2d2_tf.data.labels.label_file import LabelFile
from r2d2_tf.system import spreadsheets
from r2d2_tf.system.commands import shown
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


def read_rows(path: Path, *, soft: bool) -> LabelFile:
    """Reads a file by its name; what is no .parquet, .npz or another program's (see exports) is CSV. Nothing is checked.

    Args:
        path: of the file.
        soft: read the probabilities of all classes, too: columns `probability_of_NAME`, or, in a .parquet or .npz, an array
            `probabilities` beside `class_names`.

    Raises:
        ValueError: if it lacks a column.
        OSError, csv.Error, UnicodeDecodeError: if it cannot be read.
    """
    tables = [(_read_one(one, soft), one, before, split) for one, before, split in exports.siblings(path)]
    first = tables[0][0]
    if len(tables) == 1:
        return first
    remarks = [
        f"the images of {one.parent.name} are to {split}{' on' * (split == 'test')}, as {one} says their labels"
        for _, one, _, split in tables
        if one.parent.name != split
    ]
    return dataclasses.replace(
        first,
        path=path,
        files=[before + file for table, _, before, _ in tables for file in table.files],
        labels=[label for table, *_ in tables for label in table.labels],
        splits=[split for table, _, _, split in tables for _ in table.files],
        lines=[line for table, *_ in tables for line in table.lines],
        remarks=tuple(remarks),
    )


def _read_one(path: Path, soft: bool) -> LabelFile:
    readers = {".parquet": _parquet, ".npz": _npz}
    if reader := exports.reader_of(path):
        header, lines = reader(path)
        return _of_lines(path, header, lines, soft)
    return readers.get(path.suffix.lower(), _csv)(path, soft)


def _csv(path: Path, soft: bool) -> LabelFile:
    # newline="": a quoted name may hold line breaks.
    with path.open(encoding=_encoding(path), newline="") as file:
        first = file.readline()
        # What spreadsheets write above, to say how columns are parted.
        skipped = int(first.lower().startswith("sep="))
        for delimiter in _DELIMITERS:
            file.seek(0)
            for _ in range(skipped):
                file.readline()
            reader = csv.reader(file, delimiter=delimiter)
            header = [spreadsheets.value(cell) for cell in next(reader, [])]
            if set(_REQUIRED) <= set(exports.columns_in(header)):
                table = _of_lines(path, header, _numbered(path, reader, len(header), skipped), soft)
                # As the project's own programs write it. Names of files are matched as they are, first.
                return dataclasses.replace(table, labels=[spreadsheets.value(label) for label in table.labels])
    raise _lacks_columns(path, first.strip())


def _encoding(path: Path) -> str:
    """UTF-8, with or without a byte order mark, or the UTF-16 of spreadsheets' "Unicode text"."""
    with path.open("rb") as file:
        head = file.read(4)
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    # Without a mark the zeros tell: file and label are ASCII.
    return "utf-16-be" if head[:1] == b"\0" else "utf-16-le" if head[1:2] == b"\0" else "utf-8-sig"


def _numbered(path: Path, reader: Any, width: int, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """The lines that are not empty, each with its number; a quoted text may take several."""
    number = skipped + reader.line_num + 1
    for values in reader:
        if any(value.strip() for value in values[width:]):
            more = f"{len(values)} fields, and the first line has {width}"
            sign = repr(reader.dialect.delimiter)
            raise mistake(f"labels ({path}), line {number} has {more}: put what holds {sign} in quotes")
        if any(value.strip() for value in values):
            yield number, values
        number = skipped + reader.line_num + 1


def _of_lines(path: Path, header: Sequence[str], lines: Iterable[tuple[int, list[str]]], soft: bool) -> LabelFile:
    place = exports.columns_in(header)
    if not set(_REQUIRED) <= set(place):
        raise _lacks_columns(path, ",".join(header))
    twice = [name for name in _REQUIRED if [cell.strip().lower() for cell in header].count(name) > 1]
    if twice:
        raise mistake(f"labels ({path}) has the column {twice[0]} twice, and an image has one: remove one")
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
    return LabelFile(path, columns["file"], columns["label"], columns["split"], numbers, tuple(of_class), found)


def _parquet(path: Path, soft: bool) -> LabelFile:
    import pyarrow
    from pyarrow import parquet

    try:
        names = parquet.read_schema(path).names
        plain = {name: names[at] for name, at in exports.columns_in(names).items()}
        if not set(_REQUIRED) <= set(plain):
            raise _lacks_columns(path, ",".join(names))
        # The probabilities of a large table are not read if nobody asks for them.
        read = parquet.read_table(path, columns=[plain[name] for name in _TEXTS if name in plain])
        texts = {name: [_text(value) for value in read[plain[name]].to_pylist()] for name in _TEXTS if name in plain}
        class_names, probabilities = _parquet_probabilities(path, names) if soft else ((), None)
    except pyarrow.ArrowException as error:
        raise OSError(f"it is no Parquet file ({error})") from error
    split = texts.get("split", [""] * len(read))
    return LabelFile(path, texts["file"], texts["label"], split, range(1, len(read) + 1), class_names, probabilities)


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
        f"`{shown('tools.pseudo_labels', '--soft')}`, or leave --soft_labels out"
    )
