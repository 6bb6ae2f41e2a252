"""How large an encoded image is, from its first bytes: what is too large need not be decoded to be refused."""

import tensorflow as tf

_HEADER = 34
"""Bytes, of which all that is wanted of a PNG, GIF, BMP or WebP lies within."""


def size_of(encoded: tf.Tensor) -> tf.Tensor:
    """(height, width) of one JPEG, PNG, GIF, BMP or WebP in pixels, `[2]` int64; (0, 0) of bytes that are none of these.

    Raises:
        tf.errors.InvalidArgumentError: if a JPEG is damaged.
    """
    padded = tf.strings.substr(tf.strings.join([encoded, bytes(_HEADER)]), 0, _HEADER)
    byte = tf.cast(tf.io.decode_raw(padded, tf.uint8), tf.int64)

    def little(place: int, length: int) -> tf.Tensor:
        return sum(byte[place + i] * 256**i for i in range(length))

    def big(place: int) -> tf.Tensor:
        return sum(byte[place + 3 - i] * 256**i for i in range(4))

    def begins(place: int, letters: bytes) -> tf.Tensor:
        return tf.reduce_all(byte[place : place + len(letters)] == [*letters])

    def of_webp() -> tf.Tensor:
        lossless = little(21, 4)
        return tf.case(
            [
                (begins(12, b"VP8X"), lambda: tf.stack([little(27, 3) + 1, little(24, 3) + 1])),
                (begins(12, b"VP8L"), lambda: tf.stack([(lossless // 2**14) % 2**14 + 1, lossless % 2**14 + 1])),
            ],
            default=lambda: tf.stack([little(28, 2) % 2**14, little(26, 2) % 2**14]),
        )

    return tf.case(
        [
            (tf.io.is_jpeg(encoded), lambda: tf.cast(tf.image.extract_jpeg_shape(encoded)[:2], tf.int64)),
            (begins(0, b"\x89PNG"), lambda: tf.stack([big(20), big(16)])),
            (begins(0, b"GIF8"), lambda: tf.stack([little(8, 2), little(6, 2)])),
            # Lines from the top down have a height below 0.
            (begins(0, b"BM"), lambda: tf.stack([tf.minimum(little(22, 4), 2**32 - little(22, 4)), little(18, 4)])),
            (begins(0, b"RIFF") & begins(8, b"WEBP"), of_webp),
        ],
        default=lambda: tf.zeros([2], tf.int64),
    )
