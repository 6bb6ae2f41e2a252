"""Decodes every photograph once, before training: which cannot be decoded, and what is to be said of the others."""

import enum
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from r2d2_tf.data.decoders.orientation import UNKNOWN, UPRIGHT
from r2d2_tf.data.decoding import decoded_once, sixteen_bit_peak, too_large, turn_of
from r2d2_tf.data.photographs import Photographs
from r2d2_tf.system import c_messages
from r2d2_tf.system.c_messages import Held
from r2d2_tf.system.messages import one_line

_ROWS_A_TASK = 64
_SUBJECT = "views"
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
    # Line by line first: along the colors of pixel after pixel, NumPy takes fifty times as long.
    lines = image.reshape(len(image), -1)
    highest, lowest = (ends.reshape(-1, image.shape[-1]) for ends in (lines.max(0), lines.min(0)))
    spread = highest.max(0).astype(np.int64) - lowest.min(0)
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=8)
    digest.update(np.ascontiguousarray(image).data)
    return Pixels(bool((spread <= MOST_LEVELS).all()), int.from_bytes(digest.digest(), "big"))


NOTHING = Pixels(False, 0)
"""Of an image that cannot be decoded."""


def as_arrays(pixels: Sequence[Pixels]) -> tuple[np.ndarray, np.ndarray]:
    """Whether each is plain, and digests."""
    return np.array([one.is_plain for one in pixels], bool), np.array([one.digest for one in pixels], np.uint64)


class Looks(NamedTuple):
    """What is found of photographs.

    Attributes:
        rows: that cannot be decoded, `[unreadable]`.
        peaks: largest values of those that have 16 bits, `[deep]`.
        is_noisy: whether the decoder warned, `[1]`.
        turns: see `decoding.turn_of`, `[rows]` int8; UPRIGHT where it cannot be decoded.
        plain: whether each row is of a single color, `[rows]`.
        digests: of the pixels of each row, `[rows]` uint64; 0 where it cannot be decoded.
    """

    rows: np.ndarray
    peaks: np.ndarray
    is_noisy: np.ndarray
    turns: np.ndarray
    plain: np.ndarray
    digests: np.ndarray


def looks_of(photographs: Photographs, bar: tqdm, said: Held, see: Callable[[int, tf.Tensor], None]) -> Looks:
    """What an earlier run found in these very files, or else what is found now, which is kept.

    `see` is called with the row and the pixels of each image that is decoded for it, from several threads.
    """
    if (looks := kept_looks(photographs)) is not None:
        bar.update(len(photographs))
        return looks
    looks, all_were_read = _looked_at(photographs, bar, said, see)
    # A disk or a network that failed once says nothing of the images.
    if photographs.cache is not None and all_were_read:
        photographs.cache.save(_SUBJECT, {**looks._asdict(), "known": _known(photographs)})
    return looks


def kept_looks(photographs: Photographs) -> Looks | None:
    if photographs.cache is None:
        return None
    kept = photographs.cache.load(_SUBJECT, (*Looks._fields, "known"))
    if kept is None or not np.array_equal(kept.pop("known"), _known(photographs)):
        return None
    looks = Looks(**kept)
    shapes = {found.shape for found in (looks.turns, looks.plain, looks.digests)}
    is_whole = shapes == {(len(photographs),)} and len(looks.is_noisy) == 1 and np.isin(looks.turns, range(9)).all()
    return looks if is_whole and np.isin(looks.rows, np.arange(len(photographs))).all() else None


def digests_of(photographs: Photographs) -> np.ndarray:
    """See Looks; decodes all of them, where nobody has looked at them yet."""
    if photographs.digests is not None:
        return photographs.digests
    with c_messages.held() as said, tqdm(total=len(photographs), leave=False, disable=True) as bar:
        return _looked_at(photographs, bar, said, lambda row, image: None)[0].digests


def _known(photographs: Photographs) -> np.ndarray:
    # Another decoder may see another thing.
    view = "shown" if photographs.as_shown else "stored"
    return np.array([f"TensorFlow {tf.__version__}, {len(photographs)} images, {view}"])


def _looked_at(photographs: Photographs, bar: tqdm, said: Held, see: Callable[[int, tf.Tensor], None]) -> tuple[Looks, bool]:
    """Decodes all; and tells whether the bytes of all could at least be read."""

    def look_at(rows: range) -> list[tuple[int, _Readable, int | None, int, Pixels]]:
        found = [(row, *_readable(photographs, row, see)) for row in rows]
        bar.update(len(rows))
        return found

    before, count = said.size, len(photographs)
    tasks = [range(start, min(start + _ROWS_A_TASK, count)) for start in range(0, count, _ROWS_A_TASK)]
    # Threads: TensorFlow holds no lock of Python's while it decodes.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = [one for ones in pool.map(look_at, tasks) for one in ones]
    bad = [(row, readable) for row, readable, *_ in found if readable != _Readable.YES]
    rows, peaks = np.array([row for row, _ in bad], np.int64), [peak for *_, peak, _, _ in found if peak is not None]
    is_noisy = np.array([said.size > before and said.is_about_images])
    turns = np.array([turn for *_, turn, _ in found], np.int8)
    looks = Looks(rows, np.array(peaks, np.int64), is_noisy, turns, *as_arrays([pixels for *_, pixels in found]))
    return looks, all(readable == _Readable.NO for _, readable in bad)


class _Readable(enum.Enum):
    YES = "it is an image"
    NO = "its bytes are none"
    UNKNOWN = "its bytes could not be had"


def _readable(
    photographs: Photographs, row: int, see: Callable[[int, tf.Tensor], None]
) -> tuple[_Readable, int | None, int, Pixels]:
    """Whether an image can be decoded; its largest value if it has 16 bits; its turn; what is seen of it."""
    try:
        encoded = photographs.read(row)
        # Some decoders forgive an image that is cut short.
        if len(encoded) != photographs.length[row] or too_large(encoded):
            return _Readable.NO, None, UPRIGHT, NOTHING
        turn = turn_of(encoded)
        decoded = decoded_once(encoded, as_shown=photographs.as_shown and turn != UPRIGHT)
        pixels, peak = np.asarray(decoded), sixteen_bit_peak(encoded)
    except OSError:
        return _Readable.UNKNOWN, None, UNKNOWN, NOTHING
    except tf.errors.OpError:
        return _Readable.NO, None, UPRIGHT, NOTHING
    if not pixels.size:
        return _Readable.NO, None, UPRIGHT, NOTHING
    see(row, decoded)
    return _Readable.YES, peak, turn, pixels_of(pixels)


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
