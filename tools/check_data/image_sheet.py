"""A sheet of images, a row a class, as a network sees them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from r2d2_tf.data.image_data import ImageData
from r2d2_tf.training.pipeline import plain_images
from tools.shared import plots
from tools.shared.plots import plain, wrapped
from tools.shared.run_images import spread

MOST_ROWS, COLUMNS = 20, 8
_INCHES = 1.1
_LONGEST_LINE = 20


def draw(data: ImageData, usable: np.ndarray, title: str, path: Path) -> None:
    """Draws training images of the first classes and, in the last row, unlabeled ones, where they are `usable`, `[rows]`."""
    rows = _rows(data, usable)
    figure, axes = plots.pyplot().subplots(
        len(rows), COLUMNS, figsize=(COLUMNS * _INCHES + 1.6, len(rows) * _INCHES + 0.6), layout="constrained", squeeze=False
    )
    pixels_of = plain_images(data.train_images)
    for line, (name, chosen) in zip(axes, rows, strict=True):
        pixels = np.asarray(pixels_of(chosen)) if len(chosen) else ()
        for number, place in enumerate(line):
            place.set(xticks=[], yticks=[])
            place.spines[:].set_visible(False)
            if number < len(chosen):
                grey = pixels[number].shape[-1] == 1
                place.imshow(
                    pixels[number][..., 0] if grey else pixels[number], cmap="gray" if grey else None, vmin=0, vmax=255
                )
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    figure.suptitle(plain(title), fontsize=10)
    plots.save(figure, path, dpi=100)


def _rows(data: ImageData, usable: np.ndarray) -> Sequence[tuple[str, np.ndarray]]:
    """Title and rows of images, a class each."""
    given = data.train_labels if data.given_labels is None else data.given_labels
    lines = []
    for number, name in [*enumerate(data.class_names)][:MOST_ROWS]:
        own = np.flatnonzero((given == number) & usable)
        lines.append((f"{wrapped(name, _LONGEST_LINE)}\n{len(own):,} labeled", spread(own, COLUMNS)))
    rest = np.flatnonzero((given < 0) & usable)
    return [*lines, (f"unlabeled\n{len(rest):,}", spread(rest, COLUMNS))] if len(rest) else lines
