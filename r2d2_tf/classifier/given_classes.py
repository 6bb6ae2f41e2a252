"""The classes that `fit` and `score` are given, and which images have none. Needs no TensorFlow."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from r2d2_tf.data.image_data import UNLABELED
from r2d2_tf.data.labels.cells import composed, is_no_label, plain_labels
from r2d2_tf.system.messages import mistake

_STACK = 5
"""Frames from a warning here to the line that called fit."""


@dataclass(frozen=True)
class GivenClasses:
    """What `y` says.

    Attributes:
        classes: all of them, sorted, as they came, `[classes]`.
        numbers: of each image, in `classes`, `[images]` int64; -1 where it has none.
    """

    classes: np.ndarray
    numbers: np.ndarray

    @property
    def names(self) -> list[str]:
        """Of the classes, for files and people."""
        return names_of(self.classes)


def given_classes(y: Any, count: int, name: str = "y") -> GivenClasses:
    """Reads the classes of `count` images: numbers or names, -1, None, NaN or an empty name where there is none.

    Raises:
        ValueError: if they are no classes, not one an image, or fewer than two.
    """
    if y is None:
        raise mistake(
            "R2D2Classifier requires y to be passed, but the target y is None: give the class of each image, -1 where there is "
            "none"
        )
    values, has_class = known_in(y, count, name)
    _warn_of_words(values[~has_class], name)
    if not has_class.any():
        raise mistake(f"{name} has no label, {count} images being unlabeled: label some images of each class")
    known = values[has_class]
    if known.dtype.kind == "O":
        kinds = {str if isinstance(value, str) else type(value) for value in known}
        if str in kinds and len(kinds) > 1:
            raise mistake(f"{name} mixes names and {', '.join(sorted(k.__name__ for k in kinds - {str}))}: give one kind")
        known = np.array(known.tolist())
    check_classification_targets(known)
    classes, own = np.unique(known, return_inverse=True)
    if len(classes) < 2:
        raise mistake(f"{name} has one class alone ({classes[0]}), and a classifier needs two: label images of another class")
    if len(set(names_of(classes))) < len(classes):
        raise mistake(f"{name} has classes whose names are alike: {', '.join(names_of(classes))}")
    numbers = np.full(count, UNLABELED, np.int64)
    numbers[has_class] = own.reshape(-1)
    return GivenClasses(classes, numbers)


def _warn_of_words(values: np.ndarray, name: str) -> None:
    """Tells which words were taken for no label, as somebody's class may be called so: Namibia's code is NA."""
    # As which NumPy writes -1 and NaN among names.
    plain = {"-1", "nan"}
    words = sorted({value for value in values.tolist() if isinstance(value, str) and value.strip()} - plain)
    if words:
        text = f"{name} has labels that say {', '.join(words)}, which is taken for no label: rename a class that is called so"
        warnings.warn(text, UserWarning, stacklevel=_STACK)


def known_in(y: Any, count: int, name: str = "y") -> tuple[np.ndarray, np.ndarray]:
    """`y` as an array, and which of it are classes, `[images]` bool.

    Raises:
        ValueError: if there is not one for each of `count` images.
    """
    values = column_or_1d(np.asarray(y), warn=True)
    if len(values) != count:
        raise mistake(f"{name} has {len(values)} labels for {count} images: give one an image, -1 where there is none")
    if values.dtype.kind == "f":
        return values, ~(np.isnan(values) | (values == UNLABELED))
    if values.dtype.kind in "iu":
        return values, values != UNLABELED
    if values.dtype.kind in "OUS":
        return values, np.array([not _is_none(value) for value in values.tolist()], bool)
    return values, np.ones(len(values), bool)


def numbers_of(y: Any, classes: np.ndarray, count: int, name: str) -> np.ndarray:
    """Numbers in `classes` of test images, all of which have one, `[images]` int64.

    Raises:
        ValueError: if an image has none, or one that the training images do not have.
    """
    values, has_class = known_in(y, count, name)
    if not has_class.all():
        raise mistake(f"{name} has {(~has_class).sum()} images without a label, on which nothing can be tested: leave them out")
    number_of = {value: number for number, value in enumerate(classes.tolist())}
    others = [value for value in values.tolist() if value not in number_of]
    if others:
        raise mistake(f"{name} has the class {others[0]!r}, which no labeled training image has: label one, or leave it out")
    return np.array([number_of[value] for value in values.tolist()], np.int64)


def names_of(classes: np.ndarray) -> list[str]:
    """Names of classes, as a file of labels gives them back."""
    return plain_labels([composed(str(value).strip()) for value in classes.tolist()])


def _is_none(value: object) -> bool:
    if isinstance(value, str):
        return not value.strip() or is_no_label(value)
    return value is None or _is_nan(value) or (not isinstance(value, bool) and value == UNLABELED)


def _is_nan(value: object) -> bool:
    try:
        return bool(value != value)
    except TypeError:
        # pandas' NA says neither.
        return True
