"""Decodes every photograph once, before training: which cannot be decoded, and what is to be said of the others."""

import enum
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from r2d2_tf.data import last_look
from r2d2_tf.data.decoding import decoded_once, sixteen_bit_peak, too_large
from r2d2_tf.data.photographs import Photographs
from r2d2_tf.system.c_messages import Held

_ROWS_A_TASK = 64
_SUBJECT = "looks"


class Looks(NamedTuple):
    """What is found of photographs.

    Attributes:
        rows: that cannot be decoded, `[unreadable]`.
        peaks: largest values of those that have 16 bits, `[deep]`.
        is_noisy: whether the decoder warned, `[1]`.
        plain: whether each row is of a single color, `[rows]`.
        digests: of the pixels of each row, `[rows]` uint64; 0 where it cannot be decoded.
    """

    rows: np.ndarray
    peaks: np.ndarray
    is_noisy: np.ndarray
    plain: np.ndarray
    digests: np.ndarray


def looks_of(photographs: Photographs, bar: tqdm, said: Held) -> Looks:
    """What an earlier run found in these very files, or else what is found now, which is kept."""
    if (looks := kept_looks(photographs)) is not None:
        bar.update(len(photographs))
        return looks
    looks, all_were_read = _looked_at(photographs, bar, said)
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
    if not np.isin(looks.rows, np.arange(len(photographs))).all() or len(looks.is_noisy) != 1:
        return None
    return looks if {looks.plain.shape, looks.digests.shape} == {(len(photographs),)} else None


def _known(photographs: Photographs) -> np.ndarray:
    # Another decoder may see another thing.
    view = "shown" if photographs.as_shown else "stored"
    return np.array([f"TensorFlow {tf.__version__}, {len(photographs)} images, {view}"])


def _looked_at(photographs: Photographs, bar: tqdm, said: Held) -> tuple[Looks, bool]:
    """Decodes all; and tells whether the bytes of all could at least be read."""

    def look_at(rows: range) -> list[tuple[int, _Readable, int | None, last_look.Pixels]]:
        found = [(row, *_readable(photographs, row)) for row in rows]
        bar.update(len(rows))
        return found

    before, count = said.size, len(photographs)
    tasks = [range(start, min(start + _ROWS_A_TASK, count)) for start in range(0, count, _ROWS_A_TASK)]
    # Threads: TensorFlow holds no lock of Python's while it decodes.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = [one for ones in pool.map(look_at, tasks) for one in ones]
    bad = [(row, readable) for row, readable, *_ in found if readable != _Readable.YES]
    rows, peaks = np.array([row for row, _ in bad], np.int64), [peak for *_, peak, _ in found if peak is not None]
    is_noisy = np.array([said.size > before and said.is_about_images])
    looks = Looks(rows, np.array(peaks, np.int64), is_noisy, *last_look.as_arrays([pixels for *_, pixels in found]))
    return looks, all(readable == _Readable.NO for _, readable in bad)


class _Readable(enum.Enum):
    YES = "it is an image"
    NO = "its bytes are none"
    UNKNOWN = "its bytes could not be had"


def _readable(photographs: Photographs, row: int) -> tuple[_Readable, int | None, last_look.Pixels]:
    """Whether an image can be decoded; its largest value if it has 16 bits; and what is seen of it."""
    try:
        encoded = photographs.read(row)
        # Some decoders forgive an image that is cut short.
        if len(encoded) != photographs.length[row] or too_large(encoded):
            return _Readable.NO, None, last_look.NOTHING
        decoded = np.asarray(decoded_once(encoded, as_shown=photographs.as_shown))
        if not decoded.size:
            return _Readable.NO, None, last_look.NOTHING
        return _Readable.YES, sixteen_bit_peak(encoded), last_look.pixels_of(decoded)
    except OSError:
        return _Readable.UNKNOWN, None, last_look.NOTHING
    except tf.errors.OpError:
        return _Readable.NO, None, last_look.NOTHING
