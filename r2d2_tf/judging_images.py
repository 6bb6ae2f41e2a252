"""Which training images --evaluate_on names, to judge in the place of test images. Needs no TensorFlow."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from r2d2_tf.image_data import ImageData
from r2d2_tf.label_files import given_labels, read_labels, rows_named
from r2d2_tf.label_formats import FILES_OF_LABELS
from r2d2_tf.splits import parse_split, read_split

_FLAG = "evaluate_on"


def check_ids(path: Path, ids: Sequence[str]) -> None:
    """Raises ValueError if the file cannot be read, or names what is no image."""
    if path.suffix.lower() not in FILES_OF_LABELS:
        parse_split(path, ids, flag=_FLAG)
        return
    with _named():
        rows_named(read_labels(path), ids)


def rows_in(path: Path, data: ImageData) -> tuple[np.ndarray, np.ndarray]:
    """The rows that a file names, and their classes: those that a file of labels gives, or, of a list of ids, the known ones.

    Returns:
        Row numbers and classes, int64; a class is -1 where it is not known.

    Raises:
        ValueError: if the file cannot be read, or names what is no image or no class.
    """
    if path.suffix.lower() not in FILES_OF_LABELS:
        rows = read_split(path, data.train_ids, data.train_labels, data.class_names, flag=_FLAG)
        return rows, data.train_labels[rows]
    with _named():
        table = read_labels(path)
        rows = np.unique(rows_named(table, data.train_ids))
        return rows, given_labels(table, data.train_ids, data.class_names)[rows]


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """Says in errors which flag names the file of labels."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{_FLAG}: {error}") from error
