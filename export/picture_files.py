"""Reads image files as a model takes them: the pixels that training sees, by Pillow in place of TensorFlow.

This file stands alone, beside inference.py. It needs NumPy and Pillow.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

MOST_LENGTHS = 100
"""How many times as long as wide an image may be: resized by its shorter side, it would fill the memory."""
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".pjpeg", ".bmp", ".gif", ".webp")
_READ = ("JPEG", "MPO", "PNG", "GIF", "BMP", "WEBP")
"""Pillow's names of what training reads; MPO is a JPEG with more of them behind it."""
_ORIENTATION = 0x0112


def read_image(
    path: Path, image_shape: tuple[int, int, int], resize_shorter_side: int | None = None, *, as_shown: bool = True
) -> np.ndarray:
    """Reads an image file as `image_shape` uint8 pixels; for the others see Metadata.

    Raises:
        ValueError: if it is no image, or of another size.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            if max(image.size) > MOST_LENGTHS * min(image.size):
                raise ValueError(f"one side is more than {MOST_LENGTHS} times the other: {image.width}x{image.height} pixels")
            picture = _shown(image) if as_shown else _plain(image)
            converted = picture.convert("L" if image_shape[2] == 1 else "RGB")
            pixels = _central_square(converted, resize_shorter_side, image_shape[0])
    # Of damaged files Pillow raises more than OSError; of enormous ones, an error of its own.
    except Exception as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.shape != image_shape:
        height, width, _ = image_shape
        raise ValueError(f"{path} is {pixels.shape[1]}x{pixels.shape[0]} pixels; the model takes {width}x{height}")
    return pixels


def _shown(image: "Image.Image") -> "Image.Image":
    """As a viewer shows it: turned as EXIF says, transparent parts on white; of 16 bits the upper 8. As r2d2_tf's `decode`.

    Raises:
        ValueError: if it is of a kind that training does not read.
    """
    from PIL import Image

    # Once the pixels are read, Pillow no longer knows how they are packed and where they lie.
    tiles = getattr(image, "tile", None) or [("", None, 0, "")]
    codec, area, _, how = tiles[0]
    packing = str(how[0] if isinstance(how, tuple) else how)
    _check_kind(image, codec, packing)
    turn = _orientation(image.info.get("exif", b""))
    opaque = _opaque(image, packing)
    if image.mode == "CMYK":
        # TensorFlow's formula.
        inks = 255 - np.asarray(image).astype(np.uint16)
        pixels = (inks[..., :3] * inks[..., 3:] // 255).astype(np.uint8)
    else:
        # Pillow would change the colors of a palette that has transparent ones.
        pixels = np.asarray(_plain(image).convert("RGBA" if image.mode == "P" else "RGB"))[..., :3]
    if image.format == "GIF" and area and area != (0, 0, *image.size):
        opaque = _within(area, np.full(pixels.shape[:2], 255, np.uint8) if opaque is None else opaque)
    if opaque is not None:
        share = opaque[..., None].astype(np.uint16)
        pixels = ((pixels * share + 255 * (255 - share) + 127) // 255).astype(np.uint8)
    upright = pixels.swapaxes(0, 1) if turn >= 5 else pixels
    seen = upright[:: -1 if turn in (3, 4, 7, 8) else 1, :: -1 if turn in (2, 3, 6, 7) else 1]
    return Image.fromarray(np.ascontiguousarray(seen))


def _check_kind(image: "Image.Image", codec: str, packing: str) -> None:
    if image.format not in _READ:
        raise ValueError(f"it is {image.format}, which is not read: convert it to JPEG")
    if image.format == "WEBP" and getattr(image, "is_animated", False):
        raise ValueError("an animated WebP is not read")
    if image.format == "BMP" and (codec != "raw" or packing not in ("BGR", "BGRX", "BGRA", "P", "L")):
        raise ValueError("a BMP that is compressed, or has other than 8, 24 or 32 bits, is not read")


def _opaque(image: "Image.Image", packing: str) -> np.ndarray | None:
    """How opaque each pixel is, `[height, width]` uint8; None where all are."""
    clear = image.info.get("transparency")
    if image.mode in ("RGBA", "LA"):
        return np.asarray(image.getchannel("A"))
    # Of colors of 16 bits Pillow keeps 8.
    if clear is None or packing == "RGB;16B":
        return None
    if image.mode == "P":
        return np.asarray(image.convert("RGBA").getchannel("A"))
    pixels = np.asarray(image)
    if image.mode == "RGB":
        return np.where((pixels == np.array(clear) % 256).all(-1), 0, 255).astype(np.uint8)
    # The file's own levels of grey, which Pillow spreads over those of 8 bits.
    most = {"1": 1, "L;2": 3, "L;4": 15}.get(packing, 65535 if image.mode.startswith("I") else 255)
    level = clear % (most + 1) * (255 // most if most < 255 else 1)
    return np.where(pixels.astype(np.int32) * (255 if image.mode == "1" else 1) == level, 0, 255).astype(np.uint8)


def _within(area: tuple[int, int, int, int], opaque: np.ndarray) -> np.ndarray:
    """Transparent outside of a rectangle (left, top, right, bottom), which the first picture of a GIF fills."""
    inside = np.zeros_like(opaque)
    inside[area[1] : area[3], area[0] : area[2]] = 255
    return np.minimum(opaque, inside)


def _orientation(exif: bytes) -> int:
    """How a picture is to be turned, 1..8; 1 of a block that is broken. As r2d2_tf.data.decoders.orientation."""
    # Some programs write its name twice.
    block = exif.removeprefix(b"Exif\0\0").removeprefix(b"Exif\0\0")
    order: Literal["big", "little"] = "big" if block.startswith(b"MM") else "little"
    if block[:4] not in (b"MM\0*", b"II*\0"):
        return 1

    def number(place: int, length: int) -> int:
        return int.from_bytes(block[place : place + length], order)

    first, found = number(4, 4), 1
    for place in range(first + 2, min(first + 2 + 12 * number(first, 2), len(block) - 11), 12):
        kind = number(place + 2, 2)
        if number(place, 2) == _ORIENTATION and kind in (3, 4) and number(place + 4, 4) == 1:
            found = number(place + 8, 2 if kind == 3 else 4)
    return found if 1 <= found <= 8 else 1


def _plain(image: "Image.Image") -> "Image.Image":
    """The pixels as they are stored: 16 bits cut to 8, and transparency taken off."""
    from PIL import Image

    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.int32) >> 8).astype(np.uint8))
    if image.mode != "P" or "transparency" not in image.info:
        return image
    colors = image.convert("RGBA")
    if image.format == "GIF":
        colors.paste((0, 0, 0, 0), mask=colors.getchannel("A").point(lambda alpha: 255 - alpha))
    return colors


def _central_square(image: "Image.Image", resize: int | None, size: int) -> np.ndarray:
    """As r2d2_tf.data.decoding.central_crop, but for a pixel in thousands that is halfway between two levels."""
    if resize is None:
        return np.asarray(image)
    from PIL import Image

    shorter = min(image.size)
    width, height = (resize * side // shorter for side in image.size)
    left, top = (width - size + 1) // 2, (height - size + 1) // 2
    # In float32. In 8 bits a fifth of the pixels would be another level, and a few percent of close calls another class.
    resized = [channel.convert("F").resize((width, height), Image.Resampling.BILINEAR) for channel in image.split()]
    square = np.stack([np.asarray(each)[top : top + size, left : left + size] for each in resized], axis=-1)
    return np.round(square).astype(np.uint8)


def image_files(path: Path) -> list[Path]:
    """The image at `path`, or all images in the folder `path`, sorted.

    Raises:
        ValueError: if there is none.
    """
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in IMAGE_ENDINGS) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise ValueError(f"there is no image at {path}: give an image file or a folder of them ({', '.join(IMAGE_ENDINGS)})")
    return files
