"""Every kind of image file is decoded by one piece of code, and by Pillow where there is no TensorFlow, to the same pixels."""

import functools
import io
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from PIL import Image
from test_photographs import smooth

from export import inference
from r2d2_tf.data.decoding import MOST_PIXELS, central_crop, decode, decoded_once, decoded_random_crop, random_crop, too_large

COLORS = smooth(40, 31)
WITH_ALPHA = np.dstack([COLORS, np.where(np.arange(31) > 9, 255, 40)[None, :, None].repeat(40, 0).astype(np.uint8)])
GREY16 = (COLORS[..., 0].astype(np.uint16) << 8) + 77


def saved(image, kind, **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def two_frames(kind, pixels=COLORS):
    return saved(pixels, kind, save_all=True, append_images=[Image.fromarray(255 - pixels)])


FILES = {
    "jpeg": saved(COLORS, "JPEG"),
    "grey jpeg": saved(COLORS[..., 0], "JPEG"),
    "cmyk jpeg": saved(Image.fromarray(COLORS).convert("CMYK"), "JPEG"),
    "png": saved(COLORS, "PNG"),
    "png of 16 bits": saved(GREY16, "PNG"),
    "png with alpha": saved(WITH_ALPHA, "PNG"),
    "png of a palette with alpha": saved(Image.fromarray(WITH_ALPHA).quantize(16), "PNG"),
    "png of black and white": saved(Image.fromarray(COLORS).convert("1"), "PNG"),
    "gif": saved(COLORS, "GIF"),
    "gif that moves": two_frames("GIF"),
    "gif with a transparent color": saved(Image.fromarray(COLORS).quantize(16), "GIF", transparency=3),
    "bmp": saved(COLORS, "BMP"),
    "grey bmp": saved(COLORS[..., 0], "BMP"),
    "bmp with alpha": saved(WITH_ALPHA, "BMP"),
    "bmp of a palette": saved(Image.fromarray(COLORS).quantize(16), "BMP"),
    "webp": saved(COLORS, "WEBP"),
    "webp without loss": saved(COLORS, "WEBP", lossless=True),
    "grey webp": saved(COLORS[..., 0], "WEBP"),
    "webp with alpha": saved(WITH_ALPHA, "WEBP"),
    "webp with alpha without loss": saved(WITH_ALPHA, "WEBP", lossless=True),
    "one pixel": saved(COLORS[:1, :1], "PNG"),
}


@pytest.fixture(scope="module")
def traced():
    return functools.partial(decoded_once, as_shown=True)


@pytest.mark.parametrize("kind", FILES)
def test_training_and_serving_see_the_same_pixels_of_every_kind_of_file(kind, traced, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(FILES[kind])
    pixels = traced(tf.constant(FILES[kind]))
    assert too_large(FILES[kind]) is None
    served = inference.read_image(path, (24, 24, 3), resize_shorter_side=28)
    assert np.abs(served.astype(int) - central_crop(pixels, 28, 24).numpy()).max() <= 1
    if kind != "one pixel":
        assert np.std(served) > 10, "a picture"


@pytest.mark.parametrize("kind", ["webp", "bmp of a palette", "gif that moves"])
def test_a_random_crop_is_one_of_the_decoded_image(kind):
    seed = tf.constant([3, 4])
    crop = decoded_random_crop(tf.constant(FILES[kind]), 0.2, 16, seed)
    np.testing.assert_array_equal(crop, random_crop(decode(tf.constant(FILES[kind])), 0.2, 16, seed))


REFUSED = {
    "nothing": b"",
    "a text": b"this is no image at all",
    "the first letters of a bmp": b"BM",
    "the first letters of a webp": b"RIFF\0\0\0\0WEBP",
    "the first letters of a webp that moves": b"RIFF\0\0\0\0WEBPVP8X",
    "half a jpeg": FILES["jpeg"][: len(FILES["jpeg"]) // 2],
    "half a png": FILES["png"][: len(FILES["png"]) // 2],
    "a tiff": saved(COLORS, "TIFF"),
    "a bmp of one bit": saved(Image.fromarray(COLORS).convert("1"), "BMP"),
    "a compressed bmp": FILES["bmp of a palette"][:30] + b"\1" + FILES["bmp of a palette"][31:],
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_image_is_an_error_and_no_pixels(kind, traced):
    for function in (traced, decode):
        with pytest.raises(tf.errors.InvalidArgumentError):
            function(tf.constant(REFUSED[kind]))


@pytest.mark.parametrize("kind", ["nothing", "a text", "half a jpeg"])
def test_what_is_no_image_is_one_line_where_there_is_no_tensorflow(kind, tmp_path):
    (tmp_path / "x.jpg").write_bytes(REFUSED[kind])
    with pytest.raises(ValueError, match=r"x\.jpg cannot be read as an image"):
        inference.read_image(tmp_path / "x.jpg", (24, 24, 3), 28)


@pytest.mark.slow
def test_a_webp_that_moves_is_refused_before_tensorflow_can_crash_on_it(tmp_path):
    # In a process of its own: what TensorFlow 2.21 does to memory would end this one, now or later.
    (tmp_path / "moves.webp").write_bytes(two_frames("WEBP"))
    program = (
        "import sys, tensorflow as tf\n"
        "from r2d2_tf.data.decoding import decode\n"
        "data = tf.constant(open(sys.argv[1], 'rb').read())\n"
        "for function, times in ((decode, 3), (tf.function(decode), 40)):\n"
        "    for _ in range(times):\n"
        "        try:\n"
        "            function(data)\n"
        "        except tf.errors.InvalidArgumentError as error:\n"
        "            assert 'animated WebP' in str(error)\n"
        "        else:\n"
        "            raise AssertionError\n"
        "print('refused')\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "moves.webp")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr[-2000:]


def test_images_that_would_fill_the_memory_are_told_by_their_header():
    assert MOST_PIXELS == Image.MAX_IMAGE_PIXELS
    bomb = saved(Image.new("1", (20_000, 20_000)), "PNG")
    assert len(bomb) < 100_000
    assert "pixels" in too_large(bomb)
    assert "10000x9000 pixels" in too_large(saved(Image.new("1", (10_000, 9000)), "PNG"))
    assert "more than 100 times the other" in too_large(saved(Image.new("1", (20_000, 1)), "PNG"))
    assert too_large(saved(Image.new("1", (20_000, 200)), "PNG")) is None
    assert too_large(b"no image") is None


def test_an_image_too_large_for_pillow_is_one_line(tmp_path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    with pytest.raises(ValueError, match=r"bomb\.png cannot be read as an image: .*decompression bomb"):
        inference.read_image(tmp_path / "bomb.png", (24, 24, 3), 28)
