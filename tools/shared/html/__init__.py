"""Pages that stand alone: templates, style, and the images in them."""

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from r2d2_tf.system import terminal
from tools.shared import run_images

if TYPE_CHECKING:
    from r2d2_tf.training.pipeline import Images

SIDE = 112
"""Longer side of a thumbnail, in pixels; smaller images stay as they are."""
_AT_ONCE = 32
"""Images that are decoded at a time."""


def render(template: str, content: dict[str, Any]) -> str:
    """The page that a template of this folder makes of `content`; all text in it is escaped, control characters too."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        # A misspelt name is an error, not a gap in the page.
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return terminal.escaped(environment.get_template(template).render(content), keep="\n\t")


def thumbnails(images: "Images", rows: np.ndarray) -> dict[int, str]:
    """Images as data URIs, by their row; of an image that comes twice there is one.

    Raises:
        ValueError: if an image cannot be read.
    """
    chosen = np.unique(rows)
    found: dict[int, str] = {}
    for pixels, which in run_images.batches(images, chosen, _AT_ONCE):
        found |= {int(row): data_uri(image) for row, image in zip(chosen[which], pixels, strict=True)}
    return found


def data_uri(pixels: np.ndarray, side: int = SIDE, *, exact: bool = True) -> str:
    """An image, `[height, width, channels]` uint8, as a data URI.

    Args:
        pixels: the image, of 1 or 3 channels.
        side: its longer side is shrunk to that; smaller images stay as they are.
        exact: keep images that are smaller than a thumbnail without loss, as one sees their pixels.
    """
    from PIL import Image

    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    picture.thumbnail((side, side))
    # JPEG takes a tenth for photographs.
    kind, options = ("PNG", {"optimize": True}) if exact and max(pixels.shape[:2]) < SIDE else ("JPEG", {"quality": 85})
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
