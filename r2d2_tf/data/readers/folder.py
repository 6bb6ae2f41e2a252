"""Somebody's own photographs in a folder: which have which label, and which are test images. Needs no TensorFlow."""

import contextlib
import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from r2d2_tf.data.image_data import UNLABELED
from r2d2_tf.data.labels.cells import same_class
from r2d2_tf.data.labels.label_file import LabelFile
from r2d2_tf.data.labels.matching import (
    alike_classes,
    check_class_names,
    class_names_in,
    composed_alike,
    probabilities_in,
    rows_named,
)
from r2d2_tf.data.readers.file_search import FoundFiles, counted, find_images
from r2d2_tf.data.readers.parts import TEST, Layout, is_part, is_unlabeled, layout_of, may_be_no_label
from r2d2_tf.system.messages import mistake, one_line

_MOST_NAMED = 10
"""Classes in a remark."""


class NoTestImages(ValueError):
    """No images are set apart to test on, and none are asked for; or so small a share that it is none of any class."""


@dataclass(frozen=True)
class OwnImages:
    """The images of a folder.

    Attributes:
        found: what there is in the folder.
        labels: `[names]` int64, -1 for none.
        is_test: `[names]` bool.
        class_names: in the order of the labels.
        probabilities: of all classes, `[names, classes]` float32, where labels are soft.
        lost: folders among those of classes that give no image, and what is in them, for people.
        remarks: what else may be otherwise than it was meant, a line each.
    """

    found: FoundFiles
    labels: np.ndarray
    is_test: np.ndarray
    class_names: tuple[str, ...]
    probabilities: np.ndarray | None = None
    lost: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

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


def own_images(
    root: Path, table: LabelFile | None, test_fraction: float, *, needs_test: bool = True, found: FoundFiles | None = None
) -> OwnImages:
    """Finds the images in `root` and their labels.

    Args:
        root: a folder that holds a folder a class and `unlabeled`, or `train` and `test` that hold those; with a file of
            labels the images may lie anywhere in it.
        table: the file of labels; None: the folders say.
        test_fraction: share of the labeled images that are test images, where neither folders nor file name some.
        needs_test: refuse a folder that has no test images.
        found: what is in `root`, if that is known.

    Raises:
        ValueError: in one line, for whatever does not fit together.
    """
    found = found or find_images(root)
    folders = [name.split("/") for name in found.names]
    layout = layout_of(root, folders, has_table=table is not None)
    is_test = np.array([layout.part(folder) == TEST for folder in folders], bool)
    remarks = list(layout.remarks) if table is None else [*table.remarks, *_folders_called_otherwise(table, folders)]
    lost = _lost_classes(found, layout) if table is None else ()
    if table is None:
        labels = [_class_of(layout, folder) for folder in folders]
        if None in labels:
            raise _in_no_folder(found, found.names[labels.index(None)])
    else:
        labels, is_test = _labels_in_file(table, found.names, is_test)
    # A class of the probabilities that no image is labeled with is told below.
    texts, others = composed_alike([label or "" for label in labels], table.class_names if table else ())
    class_names = class_names_in([*texts, *others])
    check_class_names(f"data_dir ({root})", class_names)
    if len(class_names) < 2:
        what = f"one class alone ({class_names[0]})" if class_names else "no labels"
        how = _how_to_label(table, root, found)
        raise mistake(f"data_dir ({root}) has {what}{_and(lost)}, and a classifier needs two: {how}")
    number_of = {name: number for number, name in enumerate(class_names)} | {"": -1}
    numbers = np.array([number_of[text] for text in texts], np.int64)
    images = OwnImages(found, numbers, is_test, class_names)
    _check_test(images)
    if is_test.any() == (test_fraction > 0) and (needs_test or test_fraction):
        raise _which_test_images(root, int(is_test.sum()), test_fraction)
    if test_fraction:
        is_test = held_out(found.names, numbers, test_fraction)
        remarks += _without_test_images(numbers, is_test, class_names)
    probabilities = probabilities_in(table, found.names, class_names) if table else None
    remarks += [*alike_classes(class_names), *may_be_no_label(class_names), *_none_unlabeled(root, numbers[~is_test])]
    return OwnImages(found, numbers, is_test, class_names, probabilities, lost, tuple(remarks))


def _none_unlabeled(root: Path, labels: np.ndarray) -> list[str]:
    """A remark on training images that all have labels, and on others that lie beside them."""
    if (labels < 0).any():
        return []
    with contextlib.suppress(OSError):
        for beside in root.resolve().parent.iterdir():
            if beside.is_dir() and beside != root.resolve() and is_unlabeled(beside.name):
                return [f"no image is unlabeled, and {beside} lies beside: did you mean --data_dir={beside.parent}?"]
    return ["no image is unlabeled, so the labels alone are learned from: put those without a label into unlabeled/"]


def _class_of(layout: Layout, folder: Sequence[str]) -> str | None:
    """The class of an image, "" for none, of its path; None if it lies in no folder of a class."""
    inner = layout.in_classes(folder)
    if len(inner) < 2:
        return None
    return "" if is_unlabeled(inner[0]) else inner[0]


def _lost_classes(found: FoundFiles, layout: Layout) -> tuple[str, ...]:
    """Folders that stand where classes and parts do and give no image: `bird: 8 files *.heic, none of which is read`."""
    with_images = {name[:at] for name in found.names for at, sign in enumerate(name) if sign == "/"}
    lost = []
    for folder in sorted(set(found.folders) - with_images):
        above, _, name = folder.rpartition("/")
        if above not in layout.class_roots and (above or not is_part(name)):
            continue
        inside = [Counter(own) for inner, own in found.others_in.items() if f"{inner}/".startswith(f"{folder}/")]
        unread = counted(sum(inside, Counter()))
        if unread or not is_unlabeled(name):
            what = f"{', '.join(unread)}, none of which is read" if unread else "empty"
            lost.append(f"{one_line(folder)}: {what}")
    return tuple(lost)


def _and(lost: Sequence[str]) -> str:
    return f" (and without an image {'; '.join(lost)})" if lost else ""


def _folders_called_otherwise(table: LabelFile, folders: Sequence[Sequence[str]]) -> list[str]:
    """Remarks on labels that are the number of a folder without its leading zeros."""
    of_number = {str(int(part)): part for part in {p for f in folders for p in f[:-1]} if re.fullmatch("0+[0-9]+", part, re.A)}
    return [
        f"the label {label!r} is {of_number[label]!r} among the folders: spreadsheets drop leading zeros"
        for label in sorted(of_number.keys() & set(table.labels))
    ]


def _without_test_images(labels: np.ndarray, is_test: np.ndarray, class_names: Sequence[str]) -> list[str]:
    """A remark on classes that are too small to give a test image."""
    missing = [class_names[number] for number in np.setdiff1d(labels[labels >= 0], labels[is_test]).tolist()]
    more = ", ..." * (len(missing) > _MOST_NAMED)
    count = f"{len(missing)} of {len(class_names)} classes"
    names = one_line(", ".join(missing[:_MOST_NAMED]))
    return [f"{count} have too few labels to give a test image ({names}{more}): label more"] * bool(missing)


def _in_no_folder(found: FoundFiles, name: str) -> ValueError:
    return mistake(
        f"data_dir ({found.root}): the image {name!r} lies in no folder of a class: move it into one or into unlabeled/, "
        f"or give --labels, a file with the columns file and label{_labels_hint(found)}"
    )


def _labels_hint(found: FoundFiles) -> str:
    return f"; did you mean --labels={found.root / found.tables[0]}?" if found.tables else ""


def _how_to_label(table: LabelFile | None, root: Path, found: FoundFiles) -> str:
    if table is not None:
        return f"write more labels into {table.path}"
    first = found.names[0].split("/")
    # What an archive was unpacked into.
    is_around = len(first) > 2 and all(name.startswith(f"{first[0]}/") for name in found.names)
    deeper = f"; or did you mean --data_dir={root / first[0]}?" if is_around else ""
    return f"make a folder a class in it, or give --labels{_labels_hint(found)}{deeper}"


def _labels_in_file(table: LabelFile, names: Sequence[str], in_test_folder: np.ndarray) -> tuple[list[str | None], np.ndarray]:
    labels: list[str | None] = [""] * len(names)
    rows = rows_named(table, names)
    says_split = any(table.splits)
    is_test = np.zeros(len(names), bool) if says_split else in_test_folder
    for number, row in enumerate(rows.tolist()):
        labels[row] = table.labels[number]
        if says_split:
            is_test[row] = table.splits[number] == TEST
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
        same = same_class(name, [images.class_names[number] for number in sorted(trained - {UNLABELED})])
        hint = f"; or did you mean {same[0]!r}?" if same else ""
        raise mistake(
            f"the class {name!r} has {has} and no labeled training image, so that it could not be learned: label one{hint}"
        )


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
        NoTestImages: if that leaves none.
    """
    chosen = np.zeros(len(ids), bool)
    for number in range(labels.max() + 1):
        own = np.flatnonzero(labels == number)
        ranked = sorted(own.tolist(), key=lambda row: hashlib.sha256(ids[row].encode()).digest())
        chosen[ranked[: min(round(fraction * len(own)), len(own) - 1)] if ranked else []] = True
    if not chosen.any():
        most = max(Counter(labels[labels >= 0].tolist()).values())
        raise NoTestImages(
            f"test_fraction ({fraction:g}) takes no image of any class, as the largest has {most} labeled ones: "
            + ("raise it, as to --test_fraction=0.5, make a folder test, or label more" if most > 1 else "label more")
        )
    return chosen
