"""Is a data set fit to train on? Looked at once it is loaded, so that what is wrong with it is one line, not a failing step."""

import dataclasses
import functools
import hashlib
import itertools
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from r2d2_tf.data import looking, photograph_copy
from r2d2_tf.data.file_kinds import about_16_bits, not_read
from r2d2_tf.data.image_data import NO_COPY, DatasetSpec, ImageData
from r2d2_tf.data.photographs import Photographs
from r2d2_tf.system import c_messages
from r2d2_tf.system.commands import shown
from r2d2_tf.system.messages import warn

_MOST_NAMED = 10
_TRAIN, _TEST = "train_images", "test_images"
_DELAY = 2
"""Seconds of decoding before a progress bar is shown."""


def checked(
    data: ImageData,
    spec: DatasetSpec,
    *,
    skip_bad_images: bool = False,
    skipped: Collection[str] | None = None,
    copy: str = NO_COPY,
) -> tuple[ImageData, list[str]]:
    """Checks ids, labels, shapes and, for photographs, that each can be decoded.

    Args:
        data: as loaded.
        spec: what it should be.
        skip_bad_images: leave unreadable photographs out (and print how many) where they would be an error.
        skipped: the names that an earlier call returned, for a run that is resumed: those images are left out
            again, and nothing is decoded. None: decode every photograph.
        copy: where decoded photographs are kept, for crops that are cut out of shrunk ones (`Photographs.crop_side`).

    Returns:
        The data without the images that were left out, and the names of those: `train ID`, and `test ID` or, where test
        images have no ids, `test ROW`.

    Raises:
        ValueError: in one line, for the first thing that is wrong.
    """
    _check_rows(data, spec)
    if skipped is None:
        data, bad, about = _looked_through(data, copy)
    else:
        data, bad, about = _known_before(data, copy), list(skipped), []
    if bad and skipped is None and not skip_bad_images:
        told = _some([f"{name}{_kind(data, name)}" for name in bad[:_MOST_NAMED]], len(bad))
        raise ValueError(
            f"{len(bad):,} images cannot be read ({told}): {_mend(spec)}, or leave them out with --skip_bad_images"
        )
    for line in about:
        warn(line)
    if not bad:
        return data, []
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


def _looked_through(data: ImageData, where: str) -> tuple[ImageData, list[str], list[str]]:
    """The data, their photographs knowing what is found of them; names of those that cannot be decoded.

    And what is to be told of the others.
    """
    bad: list[str] = []
    seen: list[looking.Seen] = []
    peaks: list[int] = []
    photographs = _photographs_in(data)
    maker, total = photograph_copy.Maker(list(photographs.values()), where), sum(map(len, photographs.values()))
    # disable=None: no bar where the output is a file.
    with (
        maker.writing(),
        c_messages.held() as said,
        tqdm(total=total, desc="looking at each image", delay=_DELAY, leave=False, disable=None) as bar,
    ):
        for number, (part, names) in enumerate(((_TRAIN, _train_names(data)), (_TEST, _test_names(data)))):
            images = getattr(data, part)
            if isinstance(images, Photographs):
                looks = looking.looks_of(images, bar, said, functools.partial(maker.add, number))
                bad += [names[row] for row in looks.rows.tolist()]
                peaks += looks.peaks.tolist()
                data = _knowing(data, part, looks)
                rows = np.setdiff1d(np.arange(len(names)), looks.rows)
                seen.append(looking.Seen(names, rows, looks.plain[rows], looks.digests[rows]))
            else:
                seen.append(looking.seen_in_memory(names, images))
        maker.complete()
    if about := about_16_bits(peaks):
        warn(about)
    if any(getattr(images, "is_noisy", False) for images in (data.train_images, data.test_images)):
        warn(f"some JPEG files hold stray bytes, and are shown all the same: {shown('tools.check_data')} names them")
    is_sample = any(len(one.rows) < len(one.names) for one in seen) and not total
    return _with_copies(data, maker), bad, list(looking.told(seen, is_sample=is_sample))


def _known_before(data: ImageData, where: str) -> ImageData:
    """The data of a run that is resumed: what its copy lacks is decoded, and where nothing is kept the decoder may warn."""
    photographs = _photographs_in(data)
    for part, images in photographs.items():
        data = _knowing(data, part, looking.kept_looks(images))
    maker = photograph_copy.Maker(list(photographs.values()), where)
    with maker.writing(), c_messages.held():
        maker.complete()
    return _with_copies(data, maker)


def _photographs_in(data: ImageData) -> dict[str, Photographs]:
    """Of both parts or of none."""
    parts = {part: getattr(data, part) for part in (_TRAIN, _TEST)}
    return {part: images for part, images in parts.items() if isinstance(images, Photographs)}


def _with_copies(data: ImageData, maker: photograph_copy.Maker) -> ImageData:
    changed: dict[str, Any] = {
        part: dataclasses.replace(images, copy=copy)
        for (part, images), copy in zip(_photographs_in(data).items(), maker.copies(), strict=False)
    }
    return dataclasses.replace(data, **changed)


def _knowing(data: ImageData, part: str, looks: looking.Looks | None) -> ImageData:
    """The data with a part that is decoded no more carefully than its images need; None: nothing is known of them."""
    known: dict[str, Any] = {"is_noisy": True, "turns": None}
    if looks is not None:
        known = {"is_noisy": bool(looks.is_noisy[0]), "turns": looks.turns, "digests": looks.digests}
    changed: dict[str, Any] = {part: dataclasses.replace(getattr(data, part), **known)}
    return dataclasses.replace(data, **changed)


def _kind(data: ImageData, name: str) -> str:
    """What is to be added to the name of an image that cannot be decoded."""
    for images, names in ((data.train_images, _train_names(data)), (data.test_images, _test_names(data))):
        if isinstance(images, Photographs) and name in names:
            try:
                why = not_read(images.read(names.index(name)))
            except OSError as error:
                why = error.strerror
            return f": {why}" if why else ""
    return ""


def _without(data: ImageData, names: Collection[str]) -> ImageData:
    dropped = set(names)
    train = np.array([name not in dropped for name in _train_names(data)], bool)
    test = np.array([name not in dropped for name in _test_names(data)], bool)
    unknown = len(dropped) - np.sum(~train) - np.sum(~test)
    if unknown:
        raise ValueError(f"{unknown} of the images that the run left out are not in the data set: it is another copy")
    return dataclasses.replace(
        data.of_rows(np.flatnonzero(train)),
        test_images=data.test_images[np.flatnonzero(test)],
        test_labels=data.test_labels[test],
        test_ids=None if data.test_ids is None else list(itertools.compress(data.test_ids, test)),
    )


def _train_names(data: ImageData) -> list[str]:
    return [f"train {identifier}" for identifier in data.train_ids]


def _test_names(data: ImageData) -> list[str]:
    names = range(len(data.test_labels)) if data.test_ids is None else data.test_ids
    return [f"test {name}" for name in names]


def _some(names: Sequence[str], count: int = 0) -> str:
    count = max(count, len(names))
    more = f" and {count - _MOST_NAMED:,} more" if count > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
