"""Somebody's own photographs in a folder: which have which label, and which are test images. Needs no TensorFlow."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from r2d2_tf.data.labels.label_formats import LabelFile
from r2d2_tf.data.labels.matching import check_class_names, class_names_in, probabilities_in, rows_named
from r2d2_tf.data.readers.file_search import FoundFiles, find_images
from r2d2_tf.system.messages import mistake

UNLABELED_FOLDERS = ("unlabeled", "unlabelled")
_TRAIN, _TEST = "train", "test"
_OTHER_PARTS = ("training", "testing", "val", "valid", "validation", "dev", "eval", "labeled", "labelled")
"""What folders of images are often parted into, too, and what no class is likely to be named."""


class NoTestImages(ValueError):
    """No images are set apart to test on, and none are asked for."""


@dataclass(frozen=True)
class OwnImages:
    """The images of a folder.

    Attributes:
        found: what there is in the folder.
        labels: `[names]` int64, -1 for none.
        is_test: `[names]` bool.
        class_names: in the order of the labels.
        probabilities: of all classes, `[names, classes]` float32, where labels are soft.
    """

    found: FoundFiles
    labels: np.ndarray
    is_test: np.ndarray
    class_names: tuple[str, ...]
    probabilities: np.ndarray | None = None

    def names(self, *, test: bool) -> list[str]:
        """Of the training or of the test images."""
        return list(itertools.compress(self.found.names, self.is_test == test))

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of all that is known of them; the pixels are not."""
        digest = hashlib.sha256("\0".join((*self.found.names, "", *self.class_names)).encode())
        for numbers in (self.found.sizes, self.labels, self.is_test):
            digest.update(np.ascontiguousarray(numbers, "<i8").data)
        if self.probabilities is not None:
            digest.update(self.probabilities.data)
        return digest.hexdigest()[:16]


def own_images(root: Path, table: LabelFile | None, test_fraction: float) -> OwnImages:
    """Finds the images in `root` and their labels.

    Args:
        root: a folder that holds a folder a class and `unlabeled`, or `train` and `test` that hold those; with a file of
            labels the images may lie anywhere in it.
        table: the file of labels; None: the folders say.
        test_fraction: share of the labeled images that are test images, where neither folders nor file name some.

    Raises:
        ValueError: in one line, for whatever does not fit together.
    """
    found = find_images(root)
    folders = [name.split("/") for name in found.names]
    is_parted = _is_parted(folders)
    is_test = np.array([is_parted and folder[0].lower() == _TEST for folder in folders], bool)
    if table is None:
        labels = [_class_of(folder[1:] if is_parted and folder[0].lower() in (_TRAIN, _TEST) else folder) for folder in folders]
        if None in labels:
            raise _in_no_folder(root, found.names[labels.index(None)])
        if not is_parted:
            _check_unparted(root, folders)
    else:
        labels, is_test = _labels_in_file(table, found.names, is_test)
    texts = [label or "" for label in labels]
    # A class of the probabilities that no image is labeled with is told below.
    class_names = class_names_in([*texts, *(table.class_names if table else ())])
    check_class_names(f"data_dir ({root})", class_names)
    if len(class_names) < 2:
        what = f"one class alone ({class_names[0]})" if class_names else "no labels"
        raise mistake(f"data_dir ({root}) has {what}, and a classifier needs two: {_how_to_label(table)}")
    number_of = {name: number for number, name in enumerate(class_names)} | {"": -1}
    numbers = np.array([number_of[text] for text in texts], np.int64)
    images = OwnImages(found, numbers, is_test, class_names)
    _check_test(images)
    if is_test.any() == (test_fraction > 0):
        raise _which_test_images(root, int(is_test.sum()), test_fraction)
    if test_fraction:
        is_test = held_out(found.names, numbers, test_fraction)
    probabilities = probabilities_in(table, found.names, class_names) if table else None
    return OwnImages(found, numbers, is_test, class_names, probabilities)


def _is_parted(folders: Sequence[Sequence[str]]) -> bool:
    """Whether the images lie in `train` and `test` (and maybe `unlabeled`), not in classes of those names."""
    tops = {folder[0].lower() if len(folder) > 1 else "" for folder in folders}
    return _TRAIN in tops and tops <= {_TRAIN, _TEST, *UNLABELED_FOLDERS}


def _check_unparted(root: Path, folders: Sequence[Sequence[str]]) -> None:
    """Raises ValueError if what would be classes are parts, of which a folder is elsewhere, too: train/cat and val/cat."""
    strays = sorted({folder[0] for folder in folders if folder[0].lower() not in (_TRAIN, _TEST, *UNLABELED_FOLDERS)})
    below: dict[str, set[str]] = {}
    for top, *others in folders:
        below.setdefault(top, set()).update(others[:-1][:1])
    for part in sorted(below):
        elsewhere = set(below).union(*(names for top, names in below.items() if top != part))
        common = sorted(below[part] & elsewhere)
        if common and strays and part.lower() in (_TRAIN, _TEST, *_OTHER_PARTS):
            raise mistake(
                f"data_dir ({root}): {part!r} is a part and no class, as {common[0]!r} is in it and elsewhere, and beside "
                f"train, test and unlabeled there must be nothing: rename {strays[0]!r}, or move it"
            )


def _class_of(folder: Sequence[str]) -> str | None:
    """The class of an image, "" for none, of its path below the folder of the classes; None if it lies in none of these."""
    if len(folder) < 2:
        return None
    return "" if folder[0].lower() in UNLABELED_FOLDERS else folder[0]


def _in_no_folder(root: Path, name: str) -> ValueError:
    return mistake(
        f"data_dir ({root}): the image {name!r} lies in no folder of a class: move it into one or into unlabeled/, or "
        "give --labels, a file with the columns file and label"
    )


def _how_to_label(table: LabelFile | None) -> str:
    return "make a folder a class in it, or give --labels" if table is None else f"write more labels into {table.path}"


def _labels_in_file(table: LabelFile, names: Sequence[str], in_test_folder: np.ndarray) -> tuple[list[str | None], np.ndarray]:
    labels: list[str | None] = [""] * len(names)
    rows = rows_named(table, names)
    says_split = any(table.splits)
    is_test = np.zeros(len(names), bool) if says_split else in_test_folder
    for number, row in enumerate(rows.tolist()):
        labels[row] = table.labels[number]
        if says_split:
            is_test[row] = table.splits[number] == _TEST
    return labels, is_test


def _check_test(images: OwnImages) -> None:
    unknown = np.flatnonzero(images.is_test & (images.labels < 0))
    if len(unknown):
        raise mistake(
            f"{len(unknown):,} test images have no label (such as {images.found.names[unknown[0]]!r}): label them, or let "
            "them be training images"
        )
    trained = set(images.labels[~images.is_test].tolist())
    alone = [number for number in range(len(images.class_names)) if number not in trained]
    if alone:
        name, has = images.class_names[alone[0]], "test images" if alone[0] in images.labels else "probabilities"
        raise mistake(f"the class {name!r} has {has} and no labeled training image, so that it could not be learned: label one")


def _which_test_images(root: Path, count: int, test_fraction: float) -> ValueError:
    if count:
        return ValueError(
            f"test_fraction ({test_fraction}) asks for test images, and data_dir ({root}) has {count:,} already: leave it out"
        )
    return NoTestImages(
        f"data_dir ({root}) has no test images: make folders train and test in it, or a column split in --labels, or take some "
        "of the labeled images, as with --test_fraction=0.2"
    )


def held_out(ids: Sequence[str], labels: np.ndarray, fraction: float) -> np.ndarray:
    """Chooses test images among the labeled ones, `fraction` of each class, one of which stays for training at least.

    Those whose ids have the smallest SHA-256: neither the seed nor, much, a label that is added changes which they are.

    Returns:
        `[ids]` bool.

    Raises:
        ValueError: if that leaves none.
    """
    chosen = np.zeros(len(ids), bool)
    for number in range(labels.max() + 1):
        own = np.flatnonzero(labels == number)
        ranked = sorted(own.tolist(), key=lambda row: hashlib.sha256(ids[row].encode()).digest())
        chosen[ranked[: min(round(fraction * len(own)), len(own) - 1)] if ranked else []] = True
    if not chosen.any():
        most = max(Counter(labels[labels >= 0].tolist()).values())
        raise ValueError(
            f"test_fraction ({fraction}) takes no image of any class, as the largest has {most} labeled ones: raise it, or "
            "label more"
        )
    return chosen
