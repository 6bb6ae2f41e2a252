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
from r2d2_tf.data.looking import pixels_of
from r2d2_tf.data.photographs import Photographs
from r2d2_tf.system import c_messages
from tools.check_data.near_copies import MOST_COMPARED, Appearance, appearance, near_pairs

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
        digest: SHA-256 of the decoded pixels; empty if they cannot be read.
        file_digest: of the encoded bytes; empty of an image in memory.
        is_plain: whether it is of a single color.
        appearance: how it looks; None if it is too small or too plain to be compared.
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
    file_digest: bytes
    is_plain: bool
    appearance: Appearance | None
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
    _pixels(images.read(row))
    return look._replace(has_stray_bytes=said.size > before and not look.problem)


_NOTHING = InspectedImage("", False, -1, b"", b"", False, None, 0, 0, "", False, "")


def _of_pixels(pixels: np.ndarray) -> InspectedImage:
    kind = "grey pixels" if pixels.shape[-1] == 1 else "RGB pixels"
    return _decoded(_NOTHING, pixels)._replace(width=pixels.shape[1], height=pixels.shape[0], kind=kind)


def _decoded(look: InspectedImage, pixels: np.ndarray) -> InspectedImage:
    """Adds what the pixels show. Files of other bytes may hold the same ones: saved again, or with a comment put in."""
    digest = hashlib.sha256(f"{pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return look._replace(digest=digest.digest(), is_plain=pixels_of(pixels).is_plain, appearance=appearance(pixels))


def _of_photograph(images: Photographs, row: int, said: c_messages.Held) -> InspectedImage:
    try:
        encoded = images.read(row)
    except OSError as error:
        return _NOTHING._replace(problem=error.strerror or "it cannot be read")
    look, before = _header(encoded)._replace(file_digest=hashlib.sha256(encoded).digest()), said.size
    pixels = _pixels(encoded)
    look = look._replace(has_stray_bytes=said.size > before and encoded.startswith(b"\xff\xd8"))
    if isinstance(pixels, str):
        return look._replace(problem=pixels)
    return _decoded(look, pixels)._replace(peak=-1 if (peak := sixteen_bit_peak(encoded)) is None else peak)


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


def _pixels(encoded: bytes) -> np.ndarray | str:
    """The decoded image, or why there is none."""
    if not encoded:
        return "it is empty"
    if reason := not_read(encoded) or too_large(encoded):
        return reason
    try:
        return np.asarray(decoded_once(encoded, as_shown=True))
    except tf.errors.OpError as error:
        return "animated WebP is not read" if "animated WebP" in error.message else "it is damaged, or no image"


class Copies(NamedTuple):
    """Images of equal content, two or more.

    Attributes:
        looks: the images.
        is_leak: whether test images are among them, and training images.
        is_contradiction: whether they have different labels.
        is_of_files: whether their files differ, and nothing but what these hold is equal.
    """

    looks: Sequence[InspectedImage]
    is_leak: bool
    is_contradiction: bool
    is_of_files: bool = False


def copies_among(looks: Sequence[InspectedImage]) -> Iterator[Copies]:
    """Groups of images whose pixels are equal."""
    groups: dict[bytes, list[InspectedImage]] = defaultdict(list)
    for look in looks:
        if look.digest and not look.problem:
            groups[look.digest].append(look)
    for group in groups.values():
        if len(group) > 1:
            labels = {look.label for look in group if look.label >= 0}
            is_leak, of_files = len({look.is_test for look in group}) > 1, len({look.file_digest for look in group}) > 1
            yield Copies(group, is_leak, len(labels) > 1, of_files)


class NearCopies(NamedTuple):
    """Pairs of images that look alike and are not equal.

    Attributes:
        pairs: of images, the nearest first.
        compared: how many images were large enough, and not too plain, to be compared.
        of: how many images there are.
    """

    pairs: Sequence[tuple[InspectedImage, InspectedImage]]
    compared: int
    of: int


def near_copies_among(looks: Sequence[InspectedImage]) -> NearCopies:
    """Images that look alike; nothing is compared where there are more than MOST_COMPARED."""
    compared = [look for look in looks if look.appearance is not None]
    if len(compared) > MOST_COMPARED:
        return NearCopies((), 0, len(looks))
    pairs = ((compared[a], compared[b]) for a, b in near_pairs([look.appearance for look in compared]))
    return NearCopies([(a, b) for a, b in pairs if a.digest != b.digest], len(compared), len(looks))
