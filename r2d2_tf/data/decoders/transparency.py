"""Pictures with transparent parts as they are seen on white, in TensorFlow's graph."""

import tensorflow as tf

from r2d2_tf.data.decoders.orientation import png_chunk

_WHITE = 255
_MOST_BLOCKS = 10_000


def on_white(image: tf.Tensor) -> tf.Tensor:
    """`[height, width, 4]` uint8, the last channel how opaque, to `[height, width, 3]`: the nearest level of 255.

    `export.inference` has the same formula.
    """

    def blend() -> tf.Tensor:
        # 16 bits are enough: 255 * 255 + 127.
        pixels = tf.cast(image, tf.uint16)
        opaque = pixels[..., 3:]
        return tf.cast((pixels[..., :3] * opaque + _WHITE * (_WHITE - opaque) + 127) // 255, tf.uint8)

    is_opaque = tf.reduce_all(image[..., 3] == 255)
    return tf.ensure_shape(tf.cond(is_opaque, lambda: image[..., :3], blend), [None, None, 3])


def png_on_white(encoded: tf.Tensor) -> tf.Tensor:
    """A PNG. A transparent color that has 16 bits a channel is not looked for: of them 8 are kept."""
    depth, color = tf.unstack(numbers(encoded, 24, 2))
    may_be_clear = (color != 2) | (depth != 16)
    # Asked for 4 channels of a picture that has none transparent, TensorFlow mistakes palettes and levels of less than 8 bits.
    has_clear = (color == 4) | (color == 6) | (may_be_clear & (tf.strings.length(png_chunk(encoded, b"tRNS")) > 0))
    return tf.cond(
        has_clear,
        lambda: on_white(tf.io.decode_png(encoded, channels=4)),
        lambda: tf.io.decode_png(encoded, channels=3),
    )


def gif_on_white(encoded: tf.Tensor, most_pixels: int) -> tf.Tensor:
    """The first picture of a GIF; what it leaves free of the GIF's area is transparent too.

    TensorFlow makes black of what is transparent, and tells it from no other black: the transparent color is made white in the
    bytes, and no longer transparent. It has no room for a picture that does not begin at the upper left: there it is moved.
    """
    control, place = _first_picture(encoded)

    def decoded() -> tf.Tensor:
        head, screen = numbers(encoded, place, 10), numbers(encoded, 6, 5)
        flags = tf.where(head[9] >= 128, head[9], screen[4])
        palette = tf.where(head[9] >= 128, place + 10, 13)
        about = numbers(encoded, tf.maximum(control, 0), 7)
        color = about[6]
        is_clear = (control >= 0) & (about[3] % 2 == 1) & (color < 2 ** (1 + flags % 8)) & (flags >= 128)
        letters = tf.constant([bytes([number]) for number in range(256)])
        moved = _with(encoded, place + 1, bytes(4))
        opaque = _with(moved, control + 3, letters[about[3] - about[3] % 2])
        moved = tf.cond(is_clear, lambda: _with(opaque, palette + 3 * color, b"\xff\xff\xff"), lambda: moved)
        left, top, width, height = (head[1 + 2 * i] + 256 * head[2 + 2 * i] for i in range(4))
        all_width = tf.maximum(left + width, screen[0] + 256 * screen[1])
        all_height = tf.maximum(top + height, screen[2] + 256 * screen[3])
        fits = tf.cast(all_width, tf.int64) * tf.cast(all_height, tf.int64) <= most_pixels
        with tf.control_dependencies([tf.debugging.Assert(fits, [f"it has more than {most_pixels:,} pixels"])]):
            picture = _decoded(moved)[:height, :width]
        sides = [[top, all_height - top - height], [left, all_width - left - width], [0, 0]]
        return tf.pad(picture, sides, constant_values=_WHITE)

    return tf.cond(place >= 0, decoded, lambda: _decoded(encoded))


def _decoded(encoded: tf.Tensor) -> tf.Tensor:
    return tf.ensure_shape(tf.io.decode_image(encoded, channels=3, expand_animations=False), [None, None, 3])


def _first_picture(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where in a GIF the first picture's control block (else -1) and descriptor begin; -1 of what is no whole GIF."""
    size = tf.strings.length(encoded)

    def look(place: tf.Tensor, control: tf.Tensor, in_block: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        head = numbers(encoded, place, 3)
        begins = ~in_block & (head[0] == 0x21)
        is_control = begins & (head[1] == 0xF9) & (head[2] == 4)
        # A block is a chain of pieces, each with its length before it; the last has none.
        step = tf.where(begins, 2, 1 + tf.where(in_block, head[0], 0))
        ends = (~in_block & ~begins) | (place + step + 10 > size)
        goes_on_in_block = begins | (in_block & (head[0] != 0))
        return tf.where(ends, -1, place + step), tf.where(is_control, place, control), goes_on_in_block

    def is_on_the_way(place: tf.Tensor, control: tf.Tensor, in_block: tf.Tensor) -> tf.Tensor:
        return (place >= 0) & (in_block | (numbers(encoded, tf.maximum(place, 0), 1)[0] != 0x2C))

    flags = numbers(encoded, 10, 1)[0]
    first = 13 + tf.where(flags >= 128, 3 * 2 ** (1 + flags % 8), 0)
    start = (tf.where(first + 10 <= size, first, -1), tf.constant(-1), tf.constant(False))
    place, control, in_block = tf.while_loop(is_on_the_way, look, start, maximum_iterations=_MOST_BLOCKS)
    is_there = (place >= 0) & ~in_block & (numbers(encoded, tf.maximum(place, 0), 1)[0] == 0x2C)
    return control, tf.where(is_there, place, -1)


def _with(encoded: tf.Tensor, place: tf.Tensor, letters: tf.Tensor | bytes) -> tf.Tensor:
    """The bytes with others in their place; unchanged where that is outside."""
    size, length = tf.strings.length(encoded), tf.strings.length(letters)
    place = tf.where((place >= 0) & (place + length <= size), place, size)
    after = tf.minimum(place + length, size)
    between = tf.where(place < size, letters, b"")
    return tf.strings.join([tf.strings.substr(encoded, 0, place), between, tf.strings.substr(encoded, after, size)])


def numbers(encoded: tf.Tensor, place: tf.Tensor | int, count: int) -> tf.Tensor:
    """Some bytes, zeros where there are none: `[count]` int32."""
    place = tf.minimum(place, tf.strings.length(encoded))
    padded = tf.strings.join([tf.strings.substr(encoded, place, count), bytes(count)])
    return tf.ensure_shape(tf.cast(tf.io.decode_raw(tf.strings.substr(padded, 0, count), tf.uint8), tf.int32), [count])
