"""How a picture is to be turned before a person looks at it: EXIF's orientation, read in TensorFlow's graph.

A camera that is held upright stores the pixels as its sensor has them, and says beside them how to turn them. A block that is
missing or broken turns nothing, and no bytes whatever are an error here.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

UPRIGHT = 1
UNKNOWN = 0
"""In place of an orientation: the file is to be asked."""
_TAG = 0x0112
_HEAD = 14
"""Bytes that are read of a segment or chunk, more than its head; none that ends so near the file's end holds an orientation."""
_MOST_CHUNKS = 1000


traced_once = tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
"""Makes a function of a file's bytes one graph, which all pipelines share: to trace all of `decode` takes a second or two."""


class Chunk(NamedTuple):
    """What the head of a part of a file says: is it the wanted one, where and how long, where is the next, is it the last?"""

    is_wanted: tf.Tensor
    begin: int
    length: tf.Tensor
    step: tf.Tensor
    is_last: tf.Tensor


@traced_once
def of_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Orientation (1..8, int32) of a JPEG, from the segments that stand before its tables."""

    def describe(head: tf.Tensor) -> Chunk:
        marker, length = head[1], head[2] * 256 + head[3]
        is_filler = marker == 0xFF
        is_app = ((marker >= 0xE0) & (marker <= 0xEF)) | (marker == 0xFE)
        is_exif = (marker == 0xE1) & _equal(head[4:10], b"Exif\0\0")
        is_last = (head[0] != 0xFF) | ~(is_app | is_filler) | (is_app & (length < 2))
        return Chunk(is_exif, 10, length - 8, tf.where(is_filler, tf.constant(1, tf.int64), 2 + length), is_last)

    return _orientation(_chunk(encoded, 2, describe))


@traced_once
def of_png(encoded: tf.Tensor) -> tf.Tensor:
    """Orientation of a PNG, from a chunk eXIf before the pixels, as browsers read it."""
    return _orientation(png_chunk(encoded, b"eXIf"))


def png_chunk(encoded: tf.Tensor, name: bytes) -> tf.Tensor:
    """What a PNG holds in its chunk `name` before the pixels; empty if there is none."""

    def describe(head: tf.Tensor) -> Chunk:
        length, kind = _number(head[:4], is_big=tf.constant(True)), head[4:8]
        return Chunk(_equal(kind, name), 8, length, 12 + length, _equal(kind, b"IDAT") | _equal(kind, b"IEND"))

    return _chunk(encoded, 8, describe)


@traced_once
def of_webp(encoded: tf.Tensor) -> tf.Tensor:
    """Orientation of a WebP whose head says that there is EXIF."""

    def describe(head: tf.Tensor) -> Chunk:
        length = _number(head[4:8], is_big=tf.constant(False))
        return Chunk(_equal(head[:4], b"EXIF"), 8, length, 8 + length + length % 2, tf.constant(False))

    first = _bytes(encoded, tf.constant(0, tf.int64), 21)
    has_exif = _equal(first[12:16], b"VP8X") & ((first[20] // 8) % 2 == 1)
    return tf.cond(has_exif, lambda: _orientation(_chunk(encoded, 12, describe)), lambda: tf.constant(UPRIGHT))


def turned(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """The picture `[height, width, 3]` as it is to be seen."""

    def turn() -> tf.Tensor:
        # Pixel by pixel: to transpose 8 bits, TensorFlow's oneDNN complains on standard error where it has no AVX-512.
        height, width = tf.shape(image)[0], tf.shape(image)[1]
        from_below, from_right = _mirrored(orientation)
        down, across = tf.unstack(tf.where(_swaps_sides(orientation), [from_right, from_below], [from_below, from_right]))
        rows = tf.where(down, tf.range(height)[::-1], tf.range(height)) * width
        columns = tf.where(across, tf.range(width)[::-1], tf.range(width))
        places = tf.cond(
            _swaps_sides(orientation), lambda: rows[None] + columns[:, None], lambda: rows[:, None] + columns[None]
        )
        return tf.gather(tf.reshape(image, [-1, 3]), places)

    return tf.ensure_shape(tf.cond(orientation == UPRIGHT, lambda: image, turn), [None, None, 3])


def seen_shape(shape: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """(height, width) of a picture once it is turned, of those that are stored, `[2]`."""
    return tf.where(_swaps_sides(orientation), shape[1::-1], shape[:2])


def stored_box(box: tf.Tensor, shape: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Where a rectangle (top, left, height, width) of the turned picture of `shape` lies in the stored one."""
    top, left, height, width = tf.unstack(box, num=4)
    from_below, from_right = _mirrored(orientation)
    top = tf.where(from_below, shape[0] - top - height, top)
    left = tf.where(from_right, shape[1] - left - width, left)
    return tf.where(_swaps_sides(orientation), tf.stack([left, top, width, height]), tf.stack([top, left, height, width]))


def _swaps_sides(orientation: tf.Tensor) -> tf.Tensor:
    return orientation >= 5


def _mirrored(orientation: tf.Tensor) -> list[tf.Tensor]:
    """Whether the picture is mirrored top to bottom, and left to right, after its sides are swapped."""
    return [tf.reduce_any(orientation == numbers) for numbers in ([3, 4, 7, 8], [2, 3, 6, 7])]


def _chunk(encoded: tf.Tensor, first: int, describe: Callable[[tf.Tensor], Chunk]) -> tf.Tensor:
    """What the wanted one holds of the segments of a file, which begin at `first`; empty if there is none."""
    size = tf.cast(tf.strings.length(encoded), tf.int64)

    def or_end(place: tf.Tensor) -> tf.Tensor:
        return tf.where(place + _HEAD <= size, place, tf.constant(-1, tf.int64))

    def look(place: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        chunk = describe(_bytes(encoded, place, _HEAD))
        is_found = chunk.is_wanted & ~chunk.is_last
        length = tf.where(is_found, tf.maximum(chunk.length, 0), tf.constant(0, tf.int64))
        found = tf.strings.substr(encoded, place + chunk.begin, length)
        ends = is_found | chunk.is_last
        return tf.where(ends, tf.constant(-1, tf.int64), or_end(place + chunk.step)), found

    start = (or_end(tf.constant(first, tf.int64)), tf.constant(b""))
    return tf.while_loop(lambda place, _: place >= 0, look, start, maximum_iterations=_MOST_CHUNKS)[1]


@traced_once
def _orientation(exif: tf.Tensor) -> tf.Tensor:
    """What a block of EXIF says, in 1..8."""

    def read() -> tf.Tensor:
        has_name = tf.strings.substr(exif, 0, 6) == b"Exif\0\0"
        block = tf.strings.substr(exif, tf.where(has_name, 6, 0), tf.strings.length(exif))
        head = _bytes(block, tf.constant(0, tf.int64), 8)
        is_big = _equal(head[:4], b"MM\0*")
        place, size = _number(head[4:], is_big), tf.cast(tf.strings.length(block), tf.int64)
        is_whole = (is_big | _equal(head[:4], b"II*\0")) & (place + 2 <= size)
        place = tf.where(is_whole, place, size)
        count = tf.where(is_whole, _number(_bytes(block, place, 2), is_big), 0)
        table = tf.strings.substr(block, tf.minimum(place + 2, size), 12 * count)
        # The entries that are there, of a table that is cut short.
        table = tf.strings.substr(table, 0, tf.strings.length(table) // 12 * 12)
        entries = tf.reshape(tf.cast(tf.io.decode_raw(table, tf.uint8), tf.int64), [-1, 12])
        is_long = _number(entries[:, 2:4], is_big) == 4
        is_one = (is_long | (_number(entries[:, 2:4], is_big) == 3)) & (_number(entries[:, 4:8], is_big) == 1)
        values = tf.where(is_long, _number(entries[:, 8:12], is_big), _number(entries[:, 8:10], is_big))
        found = tf.boolean_mask(values, is_one & (_number(entries[:, :2], is_big) == _TAG))
        # Of several the last, as Pillow.
        last = tf.concat([[UPRIGHT], found], 0)[-1]
        return tf.cast(tf.where((last >= 1) & (last <= 8), last, UPRIGHT), tf.int32)

    return tf.cond(tf.strings.length(exif) > 0, read, lambda: tf.constant(UPRIGHT))


def _bytes(encoded: tf.Tensor, place: tf.Tensor, count: int) -> tf.Tensor:
    """`count` bytes from a place that is within `encoded`, or its end; zeros where there are none: `[count]` int64."""
    padded = tf.strings.join([tf.strings.substr(encoded, place, tf.constant(count, tf.int64)), bytes(count)])
    return tf.ensure_shape(tf.cast(tf.io.decode_raw(tf.strings.substr(padded, 0, count), tf.uint8), tf.int64), [count])


def _number(digits: tf.Tensor, is_big: tf.Tensor) -> tf.Tensor:
    """The numbers in base 256 along the last axis, the largest digit first (`is_big`) or last."""
    weights = [256**place for place in range(digits.shape[-1])]
    return tf.reduce_sum(digits * tf.where(is_big, tf.constant(weights[::-1], tf.int64), tf.constant(weights, tf.int64)), -1)


def _equal(numbers: tf.Tensor, letters: bytes) -> tf.Tensor:
    return tf.reduce_all(numbers == tf.constant([*letters], tf.int64))
