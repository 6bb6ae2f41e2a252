"""Looks at every image of a data set once: can it be read, how large is it, and is it there twice?"""

import functools
import hashlib
import io
import itertools
import os
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image
from tqdm import tqdm

from r2d2_tf.data.decoding import decode, too_large
from r2d2_tf.data.image_data import ImageData
from r2d2_tf.data.photographs import Photographs

_DELAY = 2
"""Seconds before a progress bar is shown."""
_ORIENTATION = 0x0112
"""EXIF tag: how a picture is to be turned."""


class InspectedImage(NamedTuple):
    """What was seen of an image.

    Attributes:
        name: of a training image its id, of a test image its id or row.
        is_test: whether it is a test image.
        label: class, -1 for none.
        digest: SHA-256 of the encoded bytes, or of the pixels of an image in memory; empty if they cannot be read.
        width: in pixels, 0 if it is not known.
        height: in pixels, 0 if it is not known.
        kind: format and mode, as `JPEG RGB`.
        is_turned: whether it asks to be turned, which nobody does.
        problem: why it cannot be used, or "".
    """

    name: str
    is_test: bool
    label: int
    digest: bytes
    width: int
    height: int
    kind: str
    is_turned: bool
    problem: str


def inspect_images(data: ImageData) -> list[InspectedImage]:
    """Looks at all training images and then at all test images."""
    given = data.train_labels if data.given_labels is None else data.given_labels
    names = [str(row) for row in range(len(data.test_labels))] if data.test_ids is None else data.test_ids
    of_train = functools.partial(_inspect, data.train_images, data.train_ids, given, False)
    of_test = functools.partial(_inspect, data.test_images, names, data.test_labels, True)
    total = len(given) + len(names)
    # Threads: nothing here holds Python's lock for long. disable=None: no bar where the output is a file.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = itertools.chain(pool.map(of_train, range(len(given))), pool.map(of_test, range(len(names))))
        return list(tqdm(looks, total=total, desc="looking at each image", delay=_DELAY, leave=False, disable=None))


def _inspect(
    images: np.ndarray | Photographs, names: Sequence[str], labels: np.ndarray, is_test: bool, row: int
) -> InspectedImage:
    look = _of_photograph(images, row) if isinstance(images, Photographs) else _of_pixels(images[row])
    return look._replace(name=names[row], label=int(labels[row]), is_test=is_test)


_NOTHING = InspectedImage("", False, -1, b"", 0, 0, "", False, "")


def _of_pixels(pixels: np.ndarray) -> InspectedImage:
    kind = "grey pixels" if pixels.shape[-1] == 1 else "RGB pixels"
    digest = hashlib.sha256(np.ascontiguousarray(pixels).data).digest()
    return _NOTHING._replace(digest=digest, width=pixels.shape[1], height=pixels.shape[0], kind=kind)


def _of_photograph(images: Photographs, row: int) -> InspectedImage:
    try:
        encoded = images.read(row)
    except OSError as error:
        return _NOTHING._replace(problem=error.strerror or "it cannot be read")
    look = _header(encoded)._replace(digest=hashlib.sha256(encoded).digest())
    return look._replace(problem=_problem(encoded))


def _header(encoded: bytes) -> InspectedImage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(encoded)) as image:
                is_turned = image.getexif().get(_ORIENTATION, 1) != 1
                kind = f"{image.format} {image.mode}"
                return _NOTHING._replace(width=image.width, height=image.height, kind=kind, is_turned=is_turned)
        # Whatever Pillow makes of bytes that are not its own.
        except Exception:
            return _NOTHING


def _problem(encoded: bytes) -> str:
    if not encoded:
        return "it is empty"
    if reason := too_large(encoded):
        return reason
    try:
        decode(tf.constant(encoded))
    except tf.errors.OpError as error:
        return "animated WebP is not read" if "animated WebP" in error.message else "it is damaged, or no image"
    return ""


class Copies(NamedTuple):
    """Images of equal content, two or more.

    Attributes:
        looks: the images.
        is_leak: whether test images are among them, and training images.
        is_contradiction: whether they have different labels.
    """

    looks: Sequence[InspectedImage]
    is_leak: bool
    is_contradiction: bool


def copies_among(looks: Sequence[InspectedImage]) -> Iterator[Copies]:
    """Groups of images whose bytes (or pixels) are equal."""
    groups: dict[bytes, list[InspectedImage]] = defaultdict(list)
    for look in looks:
        if look.digest and not look.problem:
            groups[look.digest].append(look)
    for group in groups.values():
        if len(group) > 1:
            labels = {look.label for look in group if look.label >= 0}
            yield Copies(group, len({look.is_test for look in group}) > 1, len(labels) > 1)
