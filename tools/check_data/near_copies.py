"""Photographs that look alike and are not equal: saved again, made smaller, a picture of a burst."""

from collections.abc import Sequence
from typing import NamedTuple

import imagehash
import numpy as np
from PIL import Image

FEWEST_PIXELS = 32
"""The shorter side of an image that is compared: digits of 28 pixels are alike without being copies."""
MOST_COMPARED = 200_000
"""Images; each is held against each, which takes a minute of so many."""
MOST_PAIRS = 100_000
"""Pairs that are looked for."""
_MOST_BITS = 8
"""Of the 64 of a perceptual hash, in which near copies may differ."""
_SIDE = 16
_MOST_DIFFERENCE, _SHARE_OF_CONTRAST = 2.0, 0.08
"""Largest root mean square difference of two thumbnails, in levels of 255: so much, and this share of their contrast."""
_LEAST_CONTRAST = 6.0
"""Of a thumbnail, in levels: in an image of nearly one color, noise alone would decide."""
_BLOCK = 256
"""Images that are held against all others at once."""
_WORKING_SIDE = 128


class Appearance(NamedTuple):
    """How an image looks.

    Attributes:
        hash: 64 bits, which nearly stay when it is saved again or resized (Marr / pHash: signs of its lowest frequencies).
        thumbnail: bytes of `[16, 16, 3]` uint8; hashes are blind to color, and may agree by chance.
    """

    hash: int
    thumbnail: bytes


def appearance(pixels: np.ndarray) -> Appearance | None:
    """How an image, `[height, width, 1 or 3]` uint8, looks; None if it is too small or too plain to be compared."""
    if min(pixels.shape[:2]) < FEWEST_PIXELS:
        return None
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
    # A cheap mean, before the costly filter of what follows.
    image = image.reduce(max(1, min(image.size) // _WORKING_SIDE))
    thumbnail = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BOX))
    if _contrast(thumbnail[None].astype(np.float32))[0] < _LEAST_CONTRAST:
        return None
    bits = np.packbits(imagehash.phash(image).hash)
    return Appearance(int.from_bytes(bits.tobytes(), "big"), thumbnail.tobytes())


def _contrast(thumbnails: np.ndarray) -> np.ndarray:
    """Root mean square distance of the pixels to the mean color, `[images, 16, 16, 3]` to `[images]`, in levels."""
    return np.sqrt(((thumbnails - thumbnails.mean((1, 2), keepdims=True)) ** 2).mean((1, 2, 3)))


def near_pairs(looks: Sequence[Appearance | None]) -> list[tuple[int, int]]:
    """Pairs of places in `looks` of images that are alike, the nearest first; MOST_PAIRS at most."""
    places = np.array([place for place, look in enumerate(looks) if look is not None], np.int64)
    seen = [look for look in looks if look is not None]
    hashes = np.array([look.hash for look in seen], np.uint64)
    thumbnails = np.frombuffer(b"".join(look.thumbnail for look in seen), np.uint8).reshape(-1, _SIDE, _SIDE, 3)
    found: list[tuple[float, int, int]] = []
    for start in range(0, len(hashes), _BLOCK):
        own = np.arange(start, min(start + _BLOCK, len(hashes)))
        bits = np.bitwise_count(hashes[own, None] ^ hashes[None, start:])
        first, second = np.nonzero(bits <= _MOST_BITS)
        first, second = own[first], second + start
        later = first < second
        found += _alike(thumbnails, first[later], second[later], most=MOST_PAIRS - len(found))
        if len(found) >= MOST_PAIRS:
            break
    return [(int(places[a]), int(places[b])) for _, a, b in sorted(found)[:MOST_PAIRS]]


def _alike(thumbnails: np.ndarray, first: np.ndarray, second: np.ndarray, *, most: int) -> list[tuple[float, int, int]]:
    """Of pairs whose hashes agree those whose thumbnails do, with their difference; not many more than `most`."""
    alike: list[tuple[float, int, int]] = []
    # In pieces: of a thousand pictures of one thing there are half a million pairs.
    for start in range(0, len(first), 4 * _BLOCK):
        if len(alike) >= most:
            break
        a, b = first[start : start + 4 * _BLOCK], second[start : start + 4 * _BLOCK]
        ours, theirs = thumbnails[a].astype(np.float32), thumbnails[b].astype(np.float32)
        difference = np.sqrt(((ours - theirs) ** 2).mean((1, 2, 3)))
        near = difference <= _MOST_DIFFERENCE + _SHARE_OF_CONTRAST * np.minimum(_contrast(ours), _contrast(theirs))
        alike += list(zip(difference[near].tolist(), a[near].tolist(), b[near].tolist(), strict=True))
    return alike
