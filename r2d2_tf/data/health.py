"""Is a data set fit to train on? Looked at once it is loaded, so that what is wrong with it is one line, not a failing step."""

import dataclasses
import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from r2d2_tf.data.decoding import decode, too_large
from r2d2_tf.data.image_data import DatasetSpec, ImageData
from r2d2_tf.data.photographs import Photographs

_ROWS_A_TASK = 64
_MOST_NAMED = 10
_SUBJECT = "unreadable"
_DELAY = 2
"""Seconds of decoding before a progress bar is shown."""


def checked(
    data: ImageData, spec: DatasetSpec, *, skip_bad_images: bool = False, skipped: Collection[str] | None = None
) -> tuple[ImageData, list[str]]:
    """Checks ids, labels, shapes and, for photographs, that each can be decoded.

    Args:
        data: as loaded.
        spec: what it should be.
        skip_bad_images: leave unreadable photographs out (and print how many) where they would be an error.
        skipped: the names that an earlier call returned, for a run that is resumed: those images are left out
            again, and nothing is decoded. None: decode every photograph.

    Returns:
        The data without the images that were left out, and the names of those: `train ID`, and `test ID` or, where test
        images have no ids, `test ROW`.

    Raises:
        ValueError: in one line, for the first thing that is wrong.
    """
    _check_rows(data, spec)
    bad = _unreadable(data) if skipped is None else list(skipped)
    if not bad:
        return data, []
    if skipped is None and not skip_bad_images:
        raise ValueError(
            f"{len(bad):,} images cannot be read ({_some(bad)}): {_mend(spec)}, or leave them out with --skip_bad_images"
        )
    healthy = _without(data, bad)
    for part, labels in (("train", healthy.train_labels), ("test", healthy.test_labels)):
        if not len(labels):
            raise ValueError(f"none of the {part} images can be read: {_mend(spec)}")
    print(f"left out {len(bad):,} images that cannot be read: {_some(bad)}")
    return healthy, bad


def _mend(spec: DatasetSpec) -> str:
    return "mend or remove these files" if spec.brings_labels else "prepare the data set again"


def check_classes_are_labeled(given_labels: np.ndarray, class_names: Sequence[str]) -> None:
    """Raises ValueError if a class has no labeled image, by the labels that training may see, `[rows]`, -1 for none."""
    missing = [class_names[label] for label in np.setdiff1d(np.arange(len(class_names)), given_labels)]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(class_names)} classes have no labeled image ({_some(missing)}), so that they could "
            "never be predicted: label one of each (in --labels or --split_file), or raise --num_labels"
        )


def fingerprint(data: ImageData) -> str:
    """16 hexadecimal digits that tell whether two copies of a data set are the same, wherever they lie.

    A SHA-256 of ids, labels and, where they are in memory, pixels. Of photographs it takes the lengths of the encoded images
    alone, as reading all of ImageNet would take too long: bytes that changed in place go unseen.
    """
    digest = hashlib.sha256()
    parts = ((data.train_images, data.train_labels), (data.test_images, data.test_labels))
    for text in ("\0".join(data.train_ids), *(str(len(labels)) for _, labels in parts)):
        digest.update(f"{len(text)} {text}".encode())
    for images, labels in parts:
        digest.update(np.ascontiguousarray(labels, "<i8").data)
        if isinstance(images, Photographs):
            digest.update(np.ascontiguousarray(images.length, "<i8").data)
        else:
            digest.update(f"{images.dtype} {images.shape}".encode())
            digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()[:16]


def _check_rows(data: ImageData, spec: DatasetSpec) -> None:
    if len(data.class_names) != spec.num_classes:
        raise ValueError(
            f"the data set names {len(data.class_names)} classes in place of {spec.num_classes}: prepare it again, or correct "
            "its entry in DATASETS"
        )
    counts = {"images": len(data.train_images), "labels": len(data.train_labels), "ids": len(data.train_ids)}
    _check_counts("train", counts)
    _check_counts("test", {"images": len(data.test_images), "labels": len(data.test_labels)})
    for part, images, labels in (
        ("train", data.train_images, data.train_labels),
        ("test", data.test_images, data.test_labels),
    ):
        # Hidden labels of somebody's own images are not known.
        lowest = -1 if part == "train" and data.given_labels is not None else 0
        wrong = np.flatnonzero((labels < lowest) | (labels >= spec.num_classes))
        if len(wrong):
            name = repr(data.train_ids[wrong[0]]) if part == "train" else f"row {wrong[0]}"
            raise ValueError(
                f"{len(wrong):,} {part} images have a label out of range ({name} has {labels[wrong[0]]}); labels run from 0 "
                f"to {spec.num_classes - 1}: prepare the data set again"
            )
        if isinstance(images, np.ndarray) and (images.dtype != np.uint8 or images.shape[1:] != spec.image_shape):
            raise ValueError(
                f"{part} images are {images.dtype} of shape {images.shape[1:]}, and must be uint8 of shape "
                f"{spec.image_shape}: prepare the data set again, or correct its entry in DATASETS"
            )
    twice = [identifier for identifier, count in Counter(data.train_ids).items() if count > 1]
    if twice:
        raise ValueError(
            f"{len(twice):,} ids name more than one training image ({_some(twice)}), and each must name one: prepare the "
            "data set again"
        )


def _check_counts(part: str, counts: dict[str, int]) -> None:
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{count:,} {what}" for what, count in counts.items())
        raise ValueError(f"the {part} part has {found}, which must be as many of each: prepare the data set again")


def _unreadable(data: ImageData) -> list[str]:
    """Names of the photographs that cannot be decoded, in the order of their rows."""
    named = ((data.train_images, _train_names(data)), (data.test_images, _test_names(data)))
    parts = [(images, names) for images, names in named if isinstance(images, Photographs)]
    total = sum(len(images) for images, _ in parts)
    # disable=None: no bar where the output is a file.
    with tqdm(total=total, desc="looking at each image", delay=_DELAY, leave=False, disable=None) as bar:
        return [names[row] for images, names in parts for row in _unreadable_rows(images, bar)]


def _unreadable_rows(photographs: Photographs, bar: tqdm) -> list[int]:
    """Rows that cannot be decoded, as an earlier run found in these very files, or else as is found now and kept."""
    cache, count = photographs.cache, len(photographs)
    # Another decoder may see another thing.
    known = np.array([f"TensorFlow {tf.__version__}, {count} images"])
    kept = None if cache is None else cache.load(_SUBJECT, ("rows", "known"))
    if kept is not None and np.array_equal(kept["known"], known) and np.isin(kept["rows"], np.arange(count)).all():
        bar.update(count)
        return [int(row) for row in kept["rows"]]
    rows, all_were_read = _looked_at(photographs, bar)
    # A disk or a network that failed once says nothing of the images.
    if cache is not None and all_were_read:
        cache.save(_SUBJECT, {"rows": np.array(rows, np.int64), "known": known})
    return rows


def _looked_at(photographs: Photographs, bar: tqdm) -> tuple[list[int], bool]:
    """Decodes all; rows that cannot be, and whether the bytes of all could at least be read."""

    def look_at(rows: range) -> list[tuple[int, bool | None]]:
        found = [(row, _is_image(photographs, row)) for row in rows]
        bar.update(len(rows))
        return found

    count = len(photographs)
    tasks = [range(start, min(start + _ROWS_A_TASK, count)) for start in range(0, count, _ROWS_A_TASK)]
    # Threads: TensorFlow holds no lock of Python's while it decodes.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        bad = [one for found in pool.map(look_at, tasks) for one in found if not one[1]]
    return [row for row, _ in bad], all(is_image is not None for _, is_image in bad)


def _is_image(photographs: Photographs, row: int) -> bool | None:
    """Whether a photograph can be decoded; None: its bytes could not be had."""
    try:
        encoded = photographs.read(row)
        # Some decoders forgive an image that is cut short.
        return len(encoded) == photographs.length[row] and not too_large(encoded) and decode(encoded).shape[0] > 0
    except OSError:
        return None
    except tf.errors.OpError:
        return False


def _without(data: ImageData, names: Collection[str]) -> ImageData:
    dropped = set(names)
    train = np.array([name not in dropped for name in _train_names(data)], bool)
    test = np.array([name not in dropped for name in _test_names(data)], bool)
    unknown = len(dropped) - np.sum(~train) - np.sum(~test)
    if unknown:
        raise ValueError(f"{unknown} of the images that the run left out are not in the data set: it is another copy")
    return dataclasses.replace(
        data,
        train_images=data.train_images[np.flatnonzero(train)],
        train_labels=data.train_labels[train],
        given_labels=None if data.given_labels is None else data.given_labels[train],
        given_probabilities=None if data.given_probabilities is None else data.given_probabilities[train],
        train_ids=list(itertools.compress(data.train_ids, train)),
        test_images=data.test_images[np.flatnonzero(test)],
        test_labels=data.test_labels[test],
        test_ids=None if data.test_ids is None else list(itertools.compress(data.test_ids, test)),
    )


def _train_names(data: ImageData) -> list[str]:
    return [f"train {identifier}" for identifier in data.train_ids]


def _test_names(data: ImageData) -> list[str]:
    names = range(len(data.test_labels)) if data.test_ids is None else data.test_ids
    return [f"test {name}" for name in names]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
