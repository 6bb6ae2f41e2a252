"""What a cell of a file of labels means: a class, no label, or several, which is refused. Needs no TensorFlow."""

import ast
import dataclasses
import difflib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from r2d2_tf.data.labels.label_file import LabelFile
from r2d2_tf.system.messages import mistake, one_line

_MISSING = frozenset(
    ("nan", "NaN", "NAN", "-nan", "-NaN", "NaT", "NA", "<NA>", "#NA", "N/A", "n/a", "#N/A", "NULL", "Null", "null", "None")
)
"""What pandas, R, databases and spreadsheets write where nothing is: those of pandas.read_csv, mostly."""
_MINUS_ONE = re.compile(r"-1(\.0*)?")
_MARKS = (";", "|", "\n")
"""Stand between labels, and hardly in a name."""
_RARE_MARKS = (",", "/", "+", "&")
"""Stand between labels, and in names."""


def read_cells(table: LabelFile) -> LabelFile:
    """The table with the classes that its cells name: numbers whole, and none where a cell says that there is none.

    Raises:
        ValueError: for the first cell that names several classes.
    """
    labels = [_single(label) for label in table.labels]
    missing = Counter(label for label in labels if is_no_label(label))
    labels = plain_labels(["" if is_no_label(label) else label for label in labels])
    table = dataclasses.replace(table, labels=labels, class_names=tuple(plain_labels(list(table.class_names))))
    _check_one_each(table)
    if not missing:
        return table
    words = ", ".join(sorted(missing))
    return _with_remark(table, f"{missing.total():,} labels in {table.path} say {words}, and are taken for none")


def is_no_label(label: str) -> bool:
    """Whether a cell says that there is no label, other than by being empty."""
    return label in _MISSING or _MINUS_ONE.fullmatch(label) is not None


def plain_labels(labels: list[str]) -> list[str]:
    """Of labels that are all numbers, as a spreadsheet or pandas writes them, the whole numbers; else the labels."""
    # With a comma: a spreadsheet of half of Europe.
    if not all(re.fullmatch(r"[+-]?[0-9]+(\.0+|,00?)?", label) for label in labels if label):
        return labels
    return [re.split("[.,]", label)[0] for label in labels]


def composed(name: str) -> str:
    """A name with its accents as most systems compose them."""
    return unicodedata.normalize("NFC", name)


def _listed(label: str) -> list[str] | None:
    """The labels in a list, as Python and JSON write it; None if it is no list."""
    if label[:1] not in "[({" or label[-1:] not in "])}" or not label:
        return None
    try:
        # NumPy writes no commas: ['a' 'b'].
        held = ast.literal_eval(re.sub(r"(['\"])\s+(?=['\"])", r"\1, ", label))
    except (ValueError, SyntaxError):
        held = label[1:-1].split(",") if "," in label else None
    if isinstance(held, dict):
        held = next(iter(held.values()), None)
    return [str(item).strip() for item in held] if isinstance(held, list | tuple | set) else None


def _single(label: str) -> str:
    """The only label of a list, "" of an empty one; else what came."""
    listed = _listed(label)
    if listed is None or len(listed) > 1:
        return label
    return listed[0] if listed else ""


def _check_one_each(table: LabelFile) -> None:
    """Raises ValueError for the first cell with several labels: a list, or what parts labels that stand elsewhere, too."""
    alone = set(table.labels)
    parted = {label: parts for label in alone if (parts := _parts(label))}
    within: dict[str, set[str]] = defaultdict(set)
    for label, parts in parted.items():
        for part in parts:
            within[part].add(label)

    def is_known(part: str) -> bool:
        return part in alone or len(within[part]) > 1

    several = {
        label
        for label, parts in parted.items()
        if (_listed(label) is not None)
        or (any(map(is_known, parts)) if any(mark in label for mark in _MARKS) else alone.issuperset(parts))
    }
    rows = [row for row, label in enumerate(table.labels) if label in several]
    if rows:
        more = f" ({len(rows):,} lines have)" if len(rows) > 1 else ""
        raise mistake(
            f"{table.where(rows[0])} has several labels, {table.labels[rows[0]]!r}{more}, and a classifier learns one an "
            "image: write the one that fits best, or nothing, so that it is an unlabeled image"
        )


def _parts(label: str) -> list[str]:
    listed = _listed(label)
    if listed is not None:
        return listed if len(listed) > 1 else []
    for mark in (*_MARKS, *_RARE_MARKS):
        parts = [part.strip() for part in label.split(mark) if part.strip()]
        if len(parts) > 1:
            return parts
    return []


def same_class(label: str, class_names: Iterable[str]) -> list[str]:
    """The classes that a label names but for capitals, accents or the leading zeros of a number."""
    return [name for name in class_names if _folded(name) == _folded(label)]


def _folded(name: str) -> str:
    return str(int(name)) if re.fullmatch("[0-9]+", name) else composed(name).casefold()


def of_classes(table: LabelFile, class_names: Sequence[str], owner: str) -> LabelFile:
    """The table with labels that are classes of another run; those that are so but for capitals or leading zeros are changed.

    Raises:
        ValueError: for the first line whose label is no class, or may be several.
    """
    meant = {}
    for label in sorted({label for label in table.labels if label} - set(class_names)):
        same = same_class(label, class_names)
        if len(same) == 1:
            meant[label] = same[0]
            continue
        near = same or difflib.get_close_matches(label, class_names, n=1, cutoff=0.0)
        zeros = " Spreadsheets drop leading zeros." if re.fullmatch("[0-9]+", label) else ""
        wrong = f"{table.where(table.labels.index(label))}: {label!r} is no class of {owner}"
        raise mistake(f"{wrong}; did you mean {' or '.join(map(repr, near))}?{zeros}")
    for label, name in meant.items():
        why = ": spreadsheets drop leading zeros" if label.isdecimal() else ""
        table = _with_remark(table, f"the label {label!r} is taken for {name!r}, a class of {owner}{why}")
    return dataclasses.replace(table, labels=[meant.get(label, label) for label in table.labels])


def _with_remark(table: LabelFile, remark: str) -> LabelFile:
    return dataclasses.replace(table, remarks=(*table.remarks, one_line(remark)))
