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

from r2d2_tf.data.decoding import decoded_once, sixteen_bit_peak, too_large
from r2d2_tf.data.file_kinds import not_read
from r2d2_tf.data.image_data import ImageData
from r2d2_tf.data.photographs import Photographs
from r2d2_tf.system import c_messages

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
        is_turned: whether EXIF says that it is to be turned.
        problem: why it cannot be used, or "".
        has_profile: whether a profile says what its colors mean (ICC).
        peak: largest value of one of 16 bits, -1 of the others.
        has_stray_bytes: whether the decoder warns of it.
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
    has_profile: bool = False
    peak: int = -1
    has_stray_bytes: bool = False


def inspect_images(data: ImageData) -> list[InspectedImage]:
    """Looks at all training images and then at all test images."""
    given = data.train_labels if data.given_labels is None else data.given_labels
    names = [str(row) for row in range(len(data.test_labels))] if data.test_ids is None else data.test_ids
    total = len(given) + len(names)
    # Threads: nothing here holds Python's lock for long. disable=None: no bar where the output is a file.
    with c_messages.held() as said, ThreadPoolExecutor(os.cpu_count()) as pool:
        of_train = functools.partial(_inspect, data.train_images, data.train_ids, given, False, said)
        of_test = functools.partial(_inspect, data.test_images, names, data.test_labels, True, said)
        looks = itertools.chain(pool.map(of_train, range(len(given))), pool.map(of_test, range(len(names))))
        found = list(tqdm(looks, total=total, desc="looking at each image", delay=_DELAY, leave=False, disable=None))
        rows = [(data.train_images, row) for row in range(len(given))] + [(data.test_images, row) for row in range(len(names))]
        return [_with_stray_bytes(look, *place, said) for look, place in zip(found, rows, strict=True)]


def _inspect(
    images: np.ndarray | Photographs,
    names: Sequence[str],
    labels: np.ndarray,
    is_test: bool,
    said: c_messages.Held,
    row: int,
) -> InspectedImage:
    look = _of_photograph(images, row, said) if isinstance(images, Photographs) else _of_pixels(images[row])
    return look._replace(name=names[row], label=int(labels[row]), is_test=is_test)


def _with_stray_bytes(
    look: InspectedImage, images: np.ndarray | Photographs, row: int, said: c_messages.Held
) -> InspectedImage:
    """Looks again, and alone, at an image while which was decoded something was warned of."""
    if not (look.has_stray_bytes and isinstance(images, Photographs)):
        return look
    before = said.size
    _problem(images.read(row))
    return look._replace(has_stray_bytes=said.size > before and not look.problem)


_NOTHING = InspectedImage("", False, -1, b"", 0, 0, "", False, "")


def _of_pixels(pixels: np.ndarray) -> InspectedImage:
    kind = "grey pixels" if pixels.shape[-1] == 1 else "RGB pixels"
    digest = hashlib.sha256(np.ascontiguousarray(pixels).data).digest()
    return _NOTHING._replace(digest=digest, width=pixels.shape[1], height=pixels.shape[0], kind=kind)


def _of_photograph(images: Photographs, row: int, said: c_messages.Held) -> InspectedImage:
    try:
        encoded = images.read(row)
    except OSError as error:
        return _NOTHING._replace(problem=error.strerror or "it cannot be read")
    look, before = _header(encoded)._replace(digest=hashlib.sha256(encoded).digest()), said.size
    look = look._replace(problem=_problem(encoded), has_stray_bytes=said.size > before and encoded.startswith(b"\xff\xd8"))
    return look if look.problem else look._replace(peak=-1 if (peak := sixteen_bit_peak(encoded)) is None else peak)


def _header(encoded: bytes) -> InspectedImage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(encoded)) as image:
                is_turned = image.getexif().get(_ORIENTATION, 1) != 1
                look = _NOTHING._replace(width=image.width, height=image.height, kind=f"{image.format} {image.mode}")
                return look._replace(is_turned=is_turned, has_profile="icc_profile" in image.info)
        # Whatever Pillow makes of bytes that are not its own.
        except Exception:
            return _NOTHING


def _problem(encoded: bytes) -> str:
    if not encoded:
        return "it is empty"
    if reason := not_read(encoded) or too_large(encoded):
        return reason
    try:
        decoded_once(encoded, as_shown=True)
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
