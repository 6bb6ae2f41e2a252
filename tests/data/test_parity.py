"""What a picture looks like is decided once: all readers see the same pixels, or refuse alike."""

import contextlib
import functools
import io
import struct
import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps
from serving import RunningServer
from test_photographs import smooth

from export import picture_files
from export.client import RestClient, ServerError
from export.formats import write_saved_model
from export.serving_model import ServingModel
from r2d2_tf.data.decoding import central_crop, decode, decoded_once, decoded_random_crop, random_crop, turn_of

COLORS = smooth(40, 31)
OPAQUE = np.where(np.arange(31) > 9, 255, np.arange(31) * 12)[None].repeat(40, 0).astype(np.uint8)
WITH_ALPHA = np.dstack([COLORS, OPAQUE])
GREY = COLORS[..., 0]
TURNS = range(1, 9)


def saved(image, kind, **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def exif(turn, *, order="<", kind=3, count=1, entries=1):
    """A block of EXIF that says how to turn, with entries of no meaning before that."""
    head = struct.pack(f"{order}2sHI", {"<": b"II", ">": b"MM"}[order], 42, 8)
    rest = [struct.pack(f"{order}HHII", 0x100 + i, 4, 1, 7) for i in range(entries - 1)]
    value = struct.pack(f"{order}H2x" if kind == 3 else f"{order}I", turn)
    own = struct.pack(f"{order}HHI", 0x112, kind, count) + value
    return b"Exif\0\0" + head + struct.pack(f"{order}H", entries) + b"".join([*rest, own]) + bytes(4)


def with_segments(jpeg, *segments):
    return jpeg[:2] + b"".join(b"\xff" + bytes([m]) + struct.pack(">H", len(d) + 2) + d for m, d in segments) + jpeg[2:]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(rows, *, depth, color, chunks=()):
    """A PNG of rows of packed bytes."""
    head = struct.pack(">IIBBBBB", rows[1], len(rows[0]), depth, color, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows[0]))
    middle = b"".join(chunk(*one) for one in chunks)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + middle + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def grey_png(depth, clear):
    """32 x 24 pixels of as many levels of grey as there are, one of them transparent."""
    levels = np.arange(32 * 24).reshape(24, 32) * 37 % 2**depth
    packed = [np.packbits(((row[:, None] >> np.arange(depth)[::-1]) & 1).astype(np.uint8)).tobytes() for row in levels]
    return png((packed, 32), depth=depth, color=0, chunks=[(b"tRNS", struct.pack(">H", clear))])


def rgb16_png(chunks=()):
    rows = [(row.astype(">u2") * 257 + 3).tobytes() for row in COLORS]
    return png((rows, 31), depth=16, color=2, chunks=chunks)


def gif(*, clear=None, area=None, local=False, screen=(31, 40)):
    """A GIF of 16 colors whose one picture may fill a part of the screen, with a palette of its own or none."""
    image = Image.fromarray(COLORS).quantize(16)
    palette = bytes(image.getpalette()[:48]).ljust(48, b"\0")
    left, top, width, height = area or (0, 0, 31, 40)
    whole = saved(image.crop((0, 0, width, height)), "GIF")
    # Pillow's own: the compressed pixels behind the descriptor.
    at = whole.index(b"\x2c" + struct.pack("<HHHH", 0, 0, width, height))
    pixels = whole[at + 10 + (3 * 2 ** (1 + whole[at + 9] % 8) if whole[at + 9] & 128 else 0) :]
    table = bytes(whole[13 : 13 + 3 * 2 ** (1 + whole[10] % 8)]) if whole[10] & 128 else palette
    bits = (len(table) // 3).bit_length() - 2
    control = b"\x21\xf9\x04" + bytes([0 if clear is None else 1, 0, 0, clear or 0, 0])
    comment = b"\x21\xfe\x05hello\x03you\0"
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0 if local else 0x80 | bits, 0, 0)
    descriptor = b"\x2c" + struct.pack("<HHHHB", left, top, width, height, 0x80 | bits if local else 0)
    return head + (b"" if local else table) + comment + control + descriptor + (table if local else b"") + pixels


def webp_with(chunks, *, flags=8):
    """A WebP in the extended form, its EXIF behind a chunk of odd length."""
    inner = saved(COLORS, "WEBP", lossless=True)[12:]
    head = b"VP8X" + struct.pack("<IB3x", 10, flags) + struct.pack("<I", 30)[:3] + struct.pack("<I", 39)[:3]
    rest = b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks)
    body = b"WEBP" + head + inner + rest
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp32(*, alpha=True, masks=(0xFF0000, 0xFF00, 0xFF)):
    """A BMP of 32 bits with masks of its colors, and of what is opaque."""
    pixels = np.ascontiguousarray(WITH_ALPHA[::-1, :, [2, 1, 0, 3]]).tobytes()
    head = struct.pack("<IiiHHIIiiII", 108, 31, 40, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    head += struct.pack("<IIII", *masks, 0xFF000000 if alpha else 0) + b"BGRs" + bytes(48)
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(pixels), 0, 0, 14 + len(head)) + head + pixels


def two_frames(kind):
    return saved(COLORS, kind, save_all=True, append_images=[Image.fromarray(255 - COLORS)])


JPEG = saved(COLORS, "JPEG", quality=90)
PALETTE = Image.fromarray(WITH_ALPHA).quantize(16)
FILES = {
    **{f"jpeg turned {t}": saved(COLORS, "JPEG", exif=exif(t, order="<>"[t % 2], entries=t), quality=90) for t in TURNS},
    **{f"png turned {t}": saved(COLORS, "PNG", exif=exif(t, order="><"[t % 2])) for t in TURNS},
    **{f"webp turned {t}": saved(COLORS, "WEBP", exif=exif(t), quality=90) for t in TURNS},
    "jpeg with EXIF behind other segments": with_segments(
        JPEG, (0xED, bytes(5000)), (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"), (0xFE, b"hello"), (0xE1, exif(6))
    ),
    "jpeg with a long number": with_segments(JPEG, (0xE1, exif(8, kind=4))),
    "jpeg with EXIF named twice": with_segments(JPEG, (0xE1, b"Exif\0\0" + exif(6))),
    "jpeg with two numbers": with_segments(JPEG, (0xE1, exif(8, count=2))),
    "jpeg turned by 9": with_segments(JPEG, (0xE1, exif(9))),
    "jpeg with EXIF cut short": with_segments(JPEG, (0xE1, exif(6)[:18])),
    "jpeg with empty EXIF": with_segments(JPEG, (0xE1, b"Exif\0\0")),
    "jpeg with EXIF that points away": with_segments(JPEG, (0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(20))),
    "jpeg with EXIF of nonsense": with_segments(JPEG, (0xE1, b"Exif\0\0" + bytes(range(200)))),
    "jpeg with too many entries": with_segments(JPEG, (0xE1, exif(6)[:14] + b"\xff\xff" + exif(6)[16:])),
    "grey jpeg": saved(GREY, "JPEG"),
    "grey jpeg turned": saved(GREY, "JPEG", exif=exif(6)),
    "progressive jpeg": saved(COLORS, "JPEG", progressive=True, exif=exif(5)),
    "cmyk jpeg": saved(Image.fromarray(COLORS).convert("CMYK"), "JPEG"),
    "jpeg with stray bytes": JPEG[:-2] + b"\x11" * 60 + JPEG[-2:],
    "jpeg with a profile": saved(COLORS, "JPEG", icc_profile=bytes(3000), exif=exif(3)),
    "png": saved(COLORS, "PNG"),
    "png with alpha": saved(WITH_ALPHA, "PNG"),
    "png with alpha, turned": saved(WITH_ALPHA, "PNG", exif=exif(7)),
    "grey png with alpha": saved(Image.fromarray(WITH_ALPHA).convert("LA"), "PNG"),
    "png of a palette": saved(Image.fromarray(COLORS).quantize(16), "PNG"),
    "png of a palette with alpha": saved(PALETTE, "PNG"),
    "png of a palette, one clear": saved(Image.fromarray(COLORS).quantize(16), "PNG", transparency=3),
    "png with a clear color": saved(COLORS, "PNG", transparency=tuple(map(int, COLORS[3, 4]))),
    **{f"grey png of {d} bits, one clear": grey_png(d, c) for d, c in ((1, 1), (2, 2), (4, 9), (8, 77), (16, 4033))},
    "png of 16 bits": saved((GREY.astype(np.uint16) << 8) + 77, "PNG"),
    "png of 48 bits": rgb16_png(),
    "png of 48 bits, one clear": rgb16_png([(b"tRNS", struct.pack(">HHH", *(COLORS[3, 4].astype(int) * 257 + 3)))]),
    "png of black and white": saved(Image.fromarray(COLORS).convert("1"), "PNG"),
    "interlaced gif": saved(Image.fromarray(COLORS).quantize(16), "GIF", interlace=True),
    "gif that moves": two_frames("GIF"),
    "gif with a clear color": gif(clear=3),
    "gif with a clear color of its own": gif(clear=2, local=True),
    "gif that fills a part": gif(area=(3, 5, 20, 21)),
    "gif that fills a part, with a clear color": gif(area=(0, 2, 20, 21), clear=1),
    "bmp": saved(COLORS, "BMP"),
    "bmp of 32 bits": saved(WITH_ALPHA, "BMP"),
    "bmp with alpha": bmp32(),
    "bmp with masks": bmp32(alpha=False),
    "bmp of a palette": saved(Image.fromarray(COLORS).quantize(16), "BMP"),
    "grey bmp": saved(GREY, "BMP"),
    "webp": saved(COLORS, "WEBP"),
    "webp with alpha": saved(WITH_ALPHA, "WEBP"),
    "webp with alpha without loss": saved(WITH_ALPHA, "WEBP", lossless=True),
    "webp with EXIF behind an odd chunk": webp_with([(b"XMP ", b"abc"), (b"EXIF", exif(6)[6:])], flags=12),
    "webp with EXIF that its head denies": webp_with([(b"EXIF", exif(6)[6:])], flags=0),
    "one pixel": saved(COLORS[:1, :1], "PNG"),
}
REFUSED = {
    "nothing": b"",
    "a text": b"this is no image at all",
    "half a jpeg": JPEG[: len(JPEG) // 2],
    "half a png": FILES["png"][: len(FILES["png"]) // 2],
    "a tiff": saved(COLORS, "TIFF"),
    "an avif": saved(COLORS, "AVIF"),
    "a jpeg 2000": saved(COLORS, "JPEG2000"),
    "a heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(300),
    "an icon": saved(COLORS, "ICO", sizes=[(16, 16)]),
    "a web page": b"<!DOCTYPE html><html><body>404</body></html>",
    "a webp that moves": two_frames("WEBP"),
    "a bmp of one bit": saved(Image.fromarray(COLORS).convert("1"), "BMP"),
    "a bmp with other masks": bmp32(masks=(0xFF, 0xFF00, 0xFF0000)),
    "a compressed bmp": FILES["bmp of a palette"][:30] + b"\1" + FILES["bmp of a palette"][31:],
}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


@pytest.fixture(scope="module")
def traced():
    return functools.partial(decoded_once, as_shown=True)


def pixels_of(path, data):
    """What the reader of tools and inference sees, before anything is resized."""
    path.write_bytes(data)
    with Image.open(path) as image:
        return np.asarray(picture_files._shown(image))


@pytest.mark.parametrize("kind", FILES)
def test_pillows_reader_sees_each_pixel_as_training_does(kind, traced, tmp_path):
    np.testing.assert_array_equal(pixels_of(tmp_path / "x", FILES[kind]), traced(tf.constant(FILES[kind])))


@pytest.mark.parametrize("turn", TURNS)
def test_a_picture_is_turned_as_pillow_would(turn, traced):
    for data in (JPEG, FILES["png"], FILES["webp"]):
        with Image.open(io.BytesIO(data)) as image:
            kind = image.format
        turned = saved(COLORS, kind, exif=exif(turn), quality=90)
        with Image.open(io.BytesIO(turned)) as image:
            expected = np.asarray(ImageOps.exif_transpose(image))
        np.testing.assert_array_equal(traced(tf.constant(turned)), expected)


def test_what_is_transparent_is_white_and_what_is_half_is_half(traced):
    pixels = np.dstack([np.full((2, 3, 3), 100, np.uint8), np.array([[0, 255, 128], [1, 254, 51]], np.uint8)])
    seen = traced(tf.constant(saved(pixels, "PNG")))[..., 0].numpy()
    # 255 + (100 - 255) * opaque / 255, rounded.
    assert seen.tolist() == [[255, 100, 177], [254, 101, 224]]


def test_a_gif_is_as_large_as_it_says_and_white_where_it_has_no_picture(traced):
    seen = traced(tf.constant(FILES["gif that fills a part"])).numpy()
    assert seen.shape == (40, 31, 3)
    assert (seen[:5] == 255).all()
    assert (seen[:, :3] == 255).all()
    assert seen[5:26, 3:23].std() > 20


@pytest.mark.parametrize("kind", REFUSED)
def test_what_one_reader_refuses_all_do(kind, traced, tmp_path):
    with pytest.raises(tf.errors.InvalidArgumentError):
        traced(tf.constant(REFUSED[kind]))
    (tmp_path / "x.jpg").write_bytes(REFUSED[kind])
    with pytest.raises(ValueError, match=r"x\.jpg cannot be read as an image"):
        picture_files.read_image(tmp_path / "x.jpg", (24, 24, 3), 28)


@pytest.fixture(scope="module")
def traced_crops():
    """A crop of what is encoded, decoded in part; and one of the whole image."""
    return tf.function(decoded_random_crop), tf.function(random_crop, reduce_retracing=True)


@pytest.mark.parametrize("kind", [f"jpeg turned {turn}" for turn in TURNS])
def test_of_a_turned_jpeg_the_same_window_is_decoded(kind, traced, traced_crops):
    part, crop = traced_crops
    large = saved(smooth(97, 131, 4), "JPEG", quality=80, exif=exif(int(kind[-1])))
    whole = traced(tf.constant(large))
    for number in range(6):
        seed = tf.constant([5, number])
        np.testing.assert_array_equal(part(tf.constant(large), 0.01, 32, seed), crop(whole, 0.01, 32, seed))


def test_pixels_as_they_are_stored_are_those_of_before(tmp_path):
    for kind in ("jpeg turned 6", "png with alpha", "webp turned 5"):
        (tmp_path / "x").write_bytes(FILES[kind])
        with Image.open(tmp_path / "x") as image:
            expected = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(decode(tf.constant(FILES[kind]), as_shown=False), expected)
        stored = picture_files.read_image(tmp_path / "x", (40, 31, 3), as_shown=False)
        np.testing.assert_array_equal(stored, expected)


def test_a_file_whose_turn_is_known_is_decoded_as_if_it_were_not(traced, traced_crops):
    specs = [tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32)]
    known = tf.function(lambda encoded, turn: decode(encoded, turn=turn), input_signature=specs)
    crop = tf.function(lambda encoded, turn, seed: decoded_random_crop(encoded, 0.1, 16, seed, turn=turn))
    turns = {kind: turn_of(encoded) for kind, encoded in FILES.items()}
    for kind, turn in turns.items():
        np.testing.assert_array_equal(known(FILES[kind], turn), traced(FILES[kind]), err_msg=kind)
        if FILES[kind].startswith(b"\xff\xd8"):
            seed = tf.constant([4, 5])
            expected = traced_crops[1](traced(FILES[kind]), 0.1, 16, seed)
            np.testing.assert_array_equal(crop(tf.constant(FILES[kind]), tf.constant(turn), seed), expected, err_msg=kind)
    assert set(turns.values()) == set(range(9)), "ordinary files and turned ones are known, transparent ones are not"


@pytest.mark.parametrize("seed", range(3))
def test_no_bytes_of_exif_are_an_error(seed, traced):
    generator = np.random.default_rng(seed)
    for _ in range(40):
        block = bytearray(exif(6, order="<>"[seed % 2], entries=3))
        for place in generator.integers(6, len(block), 4):
            block[place] = generator.integers(256)
        cut = bytes(block[: generator.integers(1, len(block) + 1)])
        jpeg = with_segments(JPEG, (0xE1, cut))
        expected = picture_files._orientation(cut) if cut.startswith(b"Exif\0\0") else 1
        assert traced(tf.constant(jpeg)).shape[0] == (31 if expected >= 5 else 40)


SIDE = 24


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """Asks a server that runs a SavedModel whose probabilities tell the pixels that it saw."""
    inputs = keras.Input((SIDE, SIDE, 3), dtype="uint8")
    logits = keras.layers.Reshape((3 * SIDE * SIDE, 1))(keras.layers.Rescaling(1 / 16)(inputs))
    # A last class, whose logit is 0.
    network = keras.Model(inputs, keras.layers.Flatten()(keras.layers.ZeroPadding1D((0, 1))(logits)))
    names = [str(number) for number in range(3 * SIDE * SIDE + 1)]
    folder = tmp_path_factory.mktemp("served") / "saved_model"
    write_saved_model(ServingModel(network, names, np.zeros((0, SIDE, SIDE, 3), np.uint8), 28), folder / "1")
    with (
        RunningServer(folder) as server,
        contextlib.closing(RestClient(server.rest, "tiny")) as asks,
    ):
        yield asks


def pixels_on_a_server(client, contents):
    """Through REST, image_bytes and the graph of a SavedModel."""
    p = client.predict({"image_bytes": contents}, "image_bytes")["probabilities"]
    pixels = 16 * (np.log(p[:, :-1]) - np.log(p[:, -1:]))
    return pixels.round().reshape(len(contents), SIDE, SIDE, 3)


def test_a_server_and_its_client_see_what_training_and_inference_see(client, tmp_path, traced):
    kinds = [*FILES]
    on_server = pixels_on_a_server(client, [FILES[kind] for kind in kinds])
    for kind, seen in zip(kinds, on_server, strict=True):
        in_training = central_crop(traced(tf.constant(FILES[kind])), 28, SIDE).numpy().astype(int)
        (tmp_path / "x").write_bytes(FILES[kind])
        by_inference = picture_files.read_image(tmp_path / "x", (SIDE, SIDE, 3), 28).astype(int)
        assert np.abs(seen - in_training).max() == 0, kind
        # Pillow sums in another order.
        assert np.abs(by_inference - in_training).max() <= 1, kind


@pytest.mark.parametrize("kind", REFUSED)
def test_a_server_refuses_what_the_others_refuse(kind, client):
    with pytest.raises(ServerError) as error:
        client.predict({"image_bytes": [REFUSED[kind]]}, "image_bytes")
    assert error.value.code == "400"
