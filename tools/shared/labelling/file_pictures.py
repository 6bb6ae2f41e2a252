"""Training images at a size at which a person can tell what they are, in files of a bounded size."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from r2d2_tf.system.messages import one_line
from tools.shared import html, run_images

if TYPE_CHECKING:
    from r2d2_tf.training.pipeline import Images

_SIDES = (640, 480, 360, 270, 200, 150, 112)
"""Longer sides that are tried, in pixels."""
_AT_ONCE = 32


def data_uris(images: "Images", rows: np.ndarray, most_bytes: int) -> list[str]:
    """Images as data URIs, each in the largest of a few sizes at which all of them take `most_bytes` in all.

    Photographs are those of the files, whole, not what a network sees of them. Where even the smallest size takes more, it is
    taken all the same.

    Raises:
        ValueError: if an image cannot be read.
    """
    return [_bounded(pixels, most_bytes // max(1, len(rows))) for pixels in _whole(images, rows)]


def _whole(images: "Images", rows: np.ndarray) -> Iterator[np.ndarray]:
    """The images of `rows`, `[height, width, channels]` uint8 each."""
    import tensorflow as tf

    from r2d2_tf.data.decoding import decode
    from r2d2_tf.data.photographs import Photographs

    if not isinstance(images, Photographs):
        for pixels, _ in run_images.batches(images, rows, _AT_ONCE):
            yield from pixels
        return
    for row in rows.tolist():
        try:
            # Step by step: to make a graph of it takes as long as hundreds of images.
            yield decode(tf.constant(images.read(row)), as_shown=images.as_shown).numpy()
        except (OSError, tf.errors.OpError) as error:
            raise ValueError(one_line(f"an image cannot be read: {error}")) from error


def _bounded(pixels: np.ndarray, most: int) -> str:
    pixels = _shrunk(pixels, _SIDES[0])
    longer = max(pixels.shape[:2])
    found = html.data_uri(pixels, longer)
    for side in dict.fromkeys(min(side, longer) for side in _SIDES):
        if len(found) <= most:
            break
        found = html.data_uri(pixels, side, exact=False)
    return found


def _shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    """Once for all sizes: a photograph of a camera has a hundred times the pixels."""
    from PIL import Image

    if max(pixels.shape[:2]) <= side:
        return pixels
    picture = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
    picture.thumbnail((side, side))
    return np.asarray(picture).reshape(*picture.size[::-1], -1)
