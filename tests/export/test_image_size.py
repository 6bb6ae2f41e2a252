import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from export.image_size import size_of

PIXELS = np.random.default_rng(0).integers(0, 256, (37, 300, 3), dtype=np.uint8)


def encoded(kind, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(file, kind, **options)
    return file.getvalue()


FILES = {
    "JPEG": encoded("JPEG"),
    "PNG": encoded("PNG"),
    "grey PNG": encoded("PNG", "L"),
    "GIF": encoded("GIF", "P"),
    "BMP": encoded("BMP"),
    "WebP": encoded("WEBP"),
    "lossless WebP": encoded("WEBP", lossless=True),
    "extended WebP": encoded("WEBP", "RGBA", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x00"),
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_the_size_is_that_of_the_image(content):
    assert size_of(tf.constant(content)).numpy().tolist() == [37, 300]


def test_the_three_kinds_of_webp_are_tried():
    kinds = {FILES[name][12:16] for name in ("WebP", "lossless WebP", "extended WebP")}
    assert kinds == {b"VP8 ", b"VP8L", b"VP8X"}


def test_a_bmp_may_run_from_the_top_down():
    upside_down = FILES["BMP"][:22] + struct.pack("<i", -37) + FILES["BMP"][26:]
    assert size_of(tf.constant(upside_down)).numpy().tolist() == [37, 300]


@pytest.mark.parametrize("content", [b"", b"B", b"not an image", b"RIFF", b"RIFF0000WAVE"])
def test_what_is_no_image_has_no_size(content):
    assert size_of(tf.constant(content)).numpy().tolist() == [0, 0]
