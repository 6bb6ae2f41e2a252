"""From the bytes of an image file to the pixels that a network sees: decoded, resized, cropped."""

import io
import math
import warnings

import tensorflow as tf
from PIL import Image

from r2d2_tf.data.decoders import orientation
from r2d2_tf.data.decoders.orientation import turned
from r2d2_tf.data.decoders.transparency import gif_on_white, numbers, on_white, png_on_white
from r2d2_tf.data.file_kinds import NOT_READ

MOST_PIXELS = 89_478_485
"""Of an image: Pillow's own limit, a quarter of a GiB decoded. A small file can hold far more."""


MOST_LENGTHS = 100
"""How many times as long as wide an image may be: resized by its shorter side, it grows by so much."""


_LOG_ASPECT = math.log(4 / 3)


# The default of TensorFlow may be the fast, inexact one, with which no other decoder agrees.
_DCT = "INTEGER_ACCURATE"


_MARGIN = 16
"""Pixels around a crop of a JPEG that are decoded with it; 2 are enough for the usual halved colors."""


def decode(encoded: tf.Tensor, *, as_shown: bool = True, turn: tf.Tensor | None = None) -> tf.Tensor:
    """Decodes one JPEG, PNG, BMP, still WebP or GIF (its first picture), a grey one too: `[height, width, 3]` uint8.

    Of 16 bits the upper 8 are kept: a scale of its own for each picture would make different pixels of one brightness.

    Args:
        encoded: the bytes of a file.
        as_shown: as a viewer shows it, turned as EXIF says and transparent parts on white; else the pixels as they are stored.
        turn: what `turn_of` said of it (int32), so that its header need not be searched again; None: nothing.

    Raises:
        tf.errors.InvalidArgumentError: if it is none of these, or damaged.
    """
    if not as_shown:
        image = _as_stored(encoded)
    elif turn is None:
        image = _as_shown(encoded)
    else:
        image = tf.cond(turn == orientation.UNKNOWN, lambda: _as_shown(encoded), lambda: turned(_as_stored(encoded), turn))
    return tf.ensure_shape(image, [None, None, 3])


@orientation.traced_once
def _as_stored(encoded: tf.Tensor) -> tf.Tensor:
    return tf.case(
        [
            (tf.io.is_jpeg(encoded), lambda: _decoded_jpeg(encoded)),
            (_begins(encoded, 0, b"BM"), lambda: _decoded_bmp(encoded, as_shown=False)),
            (_is_webp(encoded), lambda: _webp(encoded)[..., :3]),
        ],
        default=lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )


@orientation.traced_once
def _as_shown(encoded: tf.Tensor) -> tf.Tensor:
    return tf.case(
        [
            (tf.io.is_jpeg(encoded), lambda: turned(_decoded_jpeg(encoded), orientation.of_jpeg(encoded))),
            (_begins(encoded, 0, b"\x89PNG"), lambda: turned(png_on_white(encoded), orientation.of_png(encoded))),
            (_begins(encoded, 0, b"GIF8"), lambda: gif_on_white(encoded, MOST_PIXELS)),
            (_begins(encoded, 0, b"BM"), lambda: _decoded_bmp(encoded, as_shown=True)),
            (_is_webp(encoded), lambda: turned(_webp_on_white(encoded), orientation.of_webp(encoded))),
        ],
        default=lambda: _refused(encoded),
    )


def _is_webp(encoded: tf.Tensor) -> tf.Tensor:
    return _begins(encoded, 0, b"RIFF") & _begins(encoded, 8, b"WEBP")


def turn_of(encoded: bytes) -> int:
    """EXIF's orientation of a JPEG or opaque PNG, which is all that `decode` does to show it; of others UNKNOWN.

    The bytes are searched, not parsed, for what only some have: a picture that holds the letters by chance is decoded with
    more care than it needs.
    """
    if encoded.startswith(b"\xff\xd8\xff"):
        return int(orientation.of_jpeg(tf.constant(encoded))) if b"Exif" in encoded else orientation.UPRIGHT
    is_opaque_png = encoded.startswith(b"\x89PNG") and encoded[25:26] in (b"\x00", b"\x02", b"\x03")
    if not is_opaque_png or b"tRNS" in encoded:
        return orientation.UNKNOWN
    return int(orientation.of_png(tf.constant(encoded))) if b"eXIf" in encoded else orientation.UPRIGHT


def decoded_once(encoded: bytes, *, as_shown: bool) -> tf.Tensor:
    """`decode` of a single image, outside of any graph."""
    return (_as_shown if as_shown else _as_stored)(tf.constant(encoded))


def _decoded_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_jpeg(encoded, channels=3, dct_method=_DCT)


def _refused(encoded: tf.Tensor) -> tf.Tensor:
    """Raises an error that says what the bytes are, if that is known."""
    said = tf.constant("it is damaged, or no image")
    for kind in NOT_READ:
        said = tf.where(_begins(encoded, kind.place, kind.letters), kind.reason, said)
    with tf.control_dependencies([tf.debugging.Assert(False, [said])]):
        return tf.zeros([1, 1, 3], tf.uint8)


def _begins(encoded: tf.Tensor, place: int, letters: bytes) -> tf.Tensor:
    """Whether `letters` stand at `place`; also of bytes that end before it."""
    return tf.strings.substr(tf.strings.join([encoded, bytes(place + 1)]), place, len(letters)) == letters


def _decoded_bmp(encoded: tf.Tensor, *, as_shown: bool) -> tf.Tensor:
    header = numbers(encoded, 0, 70)
    has_masks = header[30] == 3
    # TensorFlow reads both as if they were neither.
    refused = tf.debugging.Assert((header[30] == 0) | has_masks, ["a compressed BMP is not read"])
    has_alpha = tf.constant(False)
    if as_shown:
        usual = (header[28] == 32) & tf.reduce_all(header[54:66] == [0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 0])
        refused = tf.group(
            refused, tf.debugging.Assert(~has_masks | usual, ["a BMP with unusual places of colors is not read"])
        )
        has_alpha = has_masks & (header[14] >= 56) & tf.reduce_all(header[66:70] == [0, 0, 0, 255])

    def from_palette() -> tf.Tensor:
        # TensorFlow takes the numbers of colors for levels of grey.
        palette = tf.strings.substr(encoded, 14 + header[14] + 256 * header[15], 4 * 256)
        colors = tf.reshape(tf.io.decode_raw(palette, tf.uint8), [-1, 4])[:, 2::-1]
        return tf.gather(colors, tf.cast(tf.io.decode_bmp(encoded, channels=0)[..., 0], tf.int32))

    with tf.control_dependencies([refused]):
        plain = tf.identity(header[28] != 8)
    return tf.case(
        [(~plain, from_palette), (has_alpha & plain, lambda: on_white(tf.io.decode_bmp(encoded, channels=4)))],
        default=lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )


def _webp(encoded: tf.Tensor) -> tf.Tensor:
    """The pixels of a WebP, `[height, width, 3 or 4]`."""
    header = numbers(encoded, 0, 21)
    animated = _begins(encoded, 12, b"VP8X") & (tf.bitwise.bitwise_and(header[20], 2) != 0)
    # Of one with pictures that move, TensorFlow 2.21 writes beyond the memory that it has: it must never see it.
    refused = tf.debugging.Assert(~animated, ["an animated WebP is not read"])
    with tf.control_dependencies([refused]):
        # Asked for 3 channels it refuses pictures that have 4.
        frames = tf.image.decode_webp(tf.where(animated, b"", encoded), channels=0)
    return tf.ensure_shape(frames[0], [None, None, None])


def _webp_on_white(encoded: tf.Tensor) -> tf.Tensor:
    image = _webp(encoded)
    return tf.cond(tf.shape(image)[-1] == 4, lambda: on_white(image), lambda: image[..., :3])


def too_large(encoded: bytes) -> str | None:
    """Why an image is not to be decoded, though it could be: it would take too much memory. Reads its header alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(encoded)) as image:
                width, height = image.size
        except Image.DecompressionBombError:
            return f"it has more than {MOST_PIXELS:,} pixels"
        except (OSError, ValueError, SyntaxError):
            # What Pillow does not know, TensorFlow may.
            return None
    if width * height > MOST_PIXELS:
        return f"{width}x{height} pixels are more than {MOST_PIXELS:,}"
    if max(width, height) > MOST_LENGTHS * min(width, height):
        return f"of its {width}x{height} pixels one side is more than {MOST_LENGTHS} times the other"
    return None


def shrunk(image: tf.Tensor, side: int) -> tf.Tensor:
    """An image whose shorter side is longer than `side` pixels, resized to that; any other as it is."""
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    shorter = tf.minimum(height, width)

    def small() -> tf.Tensor:
        return _resize(image, side * height // shorter, side * width // shorter)

    return tf.ensure_shape(tf.cond(shorter > side, small, lambda: image), [None, None, 3])


def central_crop(image: tf.Tensor, resize: int, size: int) -> tf.Tensor:
    """Resizes one image, its shorter side to `resize`, and cuts out the central square of `size` pixels."""
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    shorter = tf.minimum(height, width)
    new_height, new_width = resize * height // shorter, resize * width // shorter
    resized = _resize(image, new_height, new_width)
    top, left = (new_height - size + 1) // 2, (new_width - size + 1) // 2
    return tf.ensure_shape(resized[top : top + size, left : left + size], [size, size, 3])


def random_crop(image: tf.Tensor, scale: float, size: int, seed: tf.Tensor) -> tf.Tensor:
    """Cuts out a random rectangle and resizes it to a square of `size` pixels (Szegedy et al. 2015).

    Its share of the area is uniform in `scale`..1, the logarithm of its width / height in that of 3/4..4/3. Of ten draws
    the first that fits into the image; the central square if none does.
    """
    top, left, height, width = tf.unstack(_random_box(tf.shape(image), scale, seed), num=4)
    return _square(image[top : top + height, left : left + width], size)


def decoded_random_crop(
    encoded: tf.Tensor, scale: float, size: int, seed: tf.Tensor, *, as_shown: bool = True, turn: tf.Tensor | None = None
) -> tf.Tensor:
    """`random_crop` of `decode`, to the same pixel, but of a JPEG little more than the rectangle is decoded.

    `as_shown` and `turn`: see `decode`.
    """

    def of_jpeg() -> tf.Tensor:
        stored = tf.image.extract_jpeg_shape(encoded)[:2]
        own = _turn_of_jpeg(encoded, turn) if as_shown else tf.constant(orientation.UPRIGHT)
        seen = orientation.seen_shape(stored, own)
        box = orientation.stored_box(_random_box(seen, scale, seed), seen, own)
        top, left, height, width = tf.unstack(box, num=4)
        # At the border of what is decoded the colors, which have fewer pixels than the brightness, lack neighbors to be
        # interpolated with: a margin is decoded, too, and cut off.
        above, before = tf.maximum(top - _MARGIN, 0), tf.maximum(left - _MARGIN, 0)
        below, after = tf.minimum(top + height + _MARGIN, stored[0]), tf.minimum(left + width + _MARGIN, stored[1])
        window = [above, before, below - above, after - before]
        image = tf.image.decode_and_crop_jpeg(encoded, window, channels=3, dct_method=_DCT)
        top, left = top - above, left - before
        return _square(turned(image[top : top + height, left : left + width], own), size)

    def of_others() -> tf.Tensor:
        return random_crop(decode(encoded, as_shown=as_shown, turn=turn), scale, size, seed)

    return tf.cond(tf.io.is_jpeg(encoded), of_jpeg, of_others)


def _turn_of_jpeg(encoded: tf.Tensor, known: tf.Tensor | None) -> tf.Tensor:
    if known is None:
        return orientation.of_jpeg(encoded)
    return tf.cond(known == orientation.UNKNOWN, lambda: orientation.of_jpeg(encoded), lambda: known)


def sixteen_bit_peak(encoded: bytes) -> int | None:
    """The largest value of a PNG's color or grey, of 65535, where it has 16 bits; None where it has not.

    Raises:
        tf.errors.OpError: if it is damaged.
    """
    if not encoded.startswith(b"\x89PNG") or encoded[24:25] != b"\x10":
        return None
    pixels = tf.io.decode_png(encoded, channels=0, dtype=tf.uint16)
    return int(tf.reduce_max(pixels[..., : 3 if pixels.shape[-1] >= 3 else 1]))


@tf.function(
    input_signature=[tf.TensorSpec([None], tf.int32), tf.TensorSpec([]), tf.TensorSpec([2], tf.int32)], autograph=False
)
def _random_box(shape: tf.Tensor, scale: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Top, left, height and width of the rectangle that `random_crop` cuts out of an image of a shape."""
    height, width = tf.cast(shape[0], tf.float32), tf.cast(shape[1], tf.float32)
    area_seed, shape_seed, place_seed = tf.unstack(tf.random.split(seed, 3), num=3)
    area = height * width * tf.random.stateless_uniform([10], area_seed, scale, 1.0)
    aspect = tf.exp(tf.random.stateless_uniform([10], shape_seed, -_LOG_ASPECT, _LOG_ASPECT))
    widths, heights = tf.round(tf.sqrt(area * aspect)), tf.round(tf.sqrt(area / aspect))
    fits = (widths <= width) & (heights <= height) & (widths >= 1) & (heights >= 1)
    first, shorter = tf.argmax(fits), tf.minimum(height, width)
    crop_height = tf.where(tf.reduce_any(fits), heights[first], shorter)
    crop_width = tf.where(tf.reduce_any(fits), widths[first], shorter)
    place = tf.where(tf.reduce_any(fits), tf.random.stateless_uniform([2], place_seed), 0.5)
    top, left = place[0] * (height - crop_height + 1), place[1] * (width - crop_width + 1)
    return tf.cast(tf.stack([top, left, crop_height, crop_width]), tf.int32)


def _square(image: tf.Tensor, size: int) -> tf.Tensor:
    return tf.ensure_shape(_resize(image, size, size), [size, size, 3])


@tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8), *[tf.TensorSpec([], tf.int32)] * 2], autograph=False)
def _resize(image: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    # Antialiasing: without it a strong reduction picks single pixels. It is what Pillow does, too.
    resized = tf.image.resize(image, [height, width], method="bilinear", antialias=True)
    return tf.cast(tf.round(tf.clip_by_value(resized, 0.0, 255.0)), tf.uint8)
