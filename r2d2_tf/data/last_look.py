"""What decoded pixels themselves show of an error, whatever its cause: images of a single color, and images that are equal."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from r2d2_tf.system.messages import one_line

MOST_LEVELS = 2
"""Of 255, by which the pixels of an image of a single color may differ: a JPEG rounds."""
SAMPLE = 64
"""Images that are looked at of the training and of the test part, where nothing else decodes all of them."""
_MOST_NAMED = 3


class Pixels(NamedTuple):
    """What is kept of a decoded image.

    Attributes:
        is_plain: whether it is of a single color.
        digest: 64 bits of a hash of its shape and pixels.
    """

    is_plain: bool
    digest: int


def pixels_of(image: np.ndarray) -> Pixels:
    """Looks at a decoded image, `[height, width, channels]` uint8."""
    flat = image.reshape(-1, image.shape[-1])
    spread = flat.max(0).astype(np.int64) - flat.min(0)
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=8)
    digest.update(np.ascontiguousarray(image).data)
    return Pixels(bool((spread <= MOST_LEVELS).all()), int.from_bytes(digest.digest(), "big"))


NOTHING = Pixels(False, 0)
"""Of an image that cannot be decoded."""


def as_arrays(pixels: Sequence[Pixels]) -> tuple[np.ndarray, np.ndarray]:
    """Whether each is plain, and digests."""
    return np.array([one.is_plain for one in pixels], bool), np.array([one.digest for one in pixels], np.uint64)


def seen_in_memory(names: Sequence[str], images: np.ndarray) -> "Seen":
    """A sample of the images of a part that nothing decodes."""
    rows = sampled_rows(len(images))
    return Seen(names, rows, *as_arrays([pixels_of(images[row]) for row in rows.tolist()]))


def sampled_rows(count: int) -> np.ndarray:
    """Rows of a sample, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, SAMPLE)).astype(np.int64))


class Seen(NamedTuple):
    """Decoded images of one part of a data set.

    Attributes:
        names: of all images of the part, as `train ID` or `test ID`.
        rows: those that were seen, `[rows]`.
        plain: see Pixels, `[rows]` bool.
        digests: see Pixels, `[rows]` uint64.
    """

    names: Sequence[str]
    rows: np.ndarray
    plain: np.ndarray
    digests: np.ndarray


def told(parts: Sequence[Seen], *, is_sample: bool) -> Iterator[str]:
    """What a person should know, a line a kind; nothing where all is well."""

    def some(places: np.ndarray, sign: str) -> str:
        named = [parts[part_of[p]].names[rows[p]] for p in places[:_MOST_NAMED].tolist()]
        return one_line(sign.join(named)) + ", ..." * (len(places) > _MOST_NAMED)

    part_of = np.repeat(np.arange(len(parts)), [len(part.rows) for part in parts])
    rows, plain, digests = (np.concatenate([getattr(part, what) for part in parts]) for what in ("rows", "plain", "digests"))
    among = f"of {len(rows):,} images{', a sample,' * is_sample}"
    if plain.any():
        yield f"{plain.sum():,} {among} are of a single color once decoded ({some(np.flatnonzero(plain), ', ')})"
    _, group, counts = np.unique(digests, return_inverse=True, return_counts=True)
    alike = np.flatnonzero(counts[group] > 1)
    if len(alike):
        in_part = [np.bincount(group[part_of == number], minlength=len(counts)) > 0 for number in range(len(parts))]
        leaks = int(np.all(in_part, 0).sum())
        leaked = f", {leaks:,} times test images to training images" * bool(leaks)
        first = np.flatnonzero(group == group[alike[0]])
        yield f"{len(alike):,} {among} are equal to another once decoded{leaked} ({some(first, ' = ')}, for example)"
