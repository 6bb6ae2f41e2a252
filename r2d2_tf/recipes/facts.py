"""What a recipe follows from: how many images and labels there are, how large, and on what it will be trained."""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from r2d2_tf.backbones.weights import packages
from r2d2_tf.data.datasets import PHOTOGRAPH_SIZE
from r2d2_tf.data.image_data import UNLABELED, ImageData

if TYPE_CHECKING:
    from r2d2_tf.data.photographs import Photographs

BACKBONE = "efficientnet_lite0"
"""The network whose weights come along."""
_SMALL_SIDE = 48
"""Files of so few pixels a side, in the median, are small images and no photographs."""
_SAMPLE = 200
"""Files whose headers are read to learn how large all of them are."""
_UNEQUAL = 10
"""Times as many labeled images in the largest class as in the smallest, from which on it is said."""


@dataclass(frozen=True)
class Facts:
    """What a proposal follows from.

    Attributes:
        fewest: labeled training images of the smallest class.
        most: of the largest.
        image_shape: (height, width, channels) of images in memory; None for photographs.
        shorter_side: median of the photographs' shorter sides, in pixels.
        minutes: that everything may take.
        is_grey: whether the images have no color.
        has_weights: whether the package with ImageNet's weights for BACKBONE is installed.
    """

    num_labeled: int
    num_unlabeled: int
    num_test: int
    fewest: int
    most: int
    num_classes: int
    image_shape: tuple[int, int, int] | None
    shorter_side: int
    has_gpu: bool
    minutes: float
    is_grey: bool = False
    has_weights: bool = False

    @property
    def has_photographs(self) -> bool:
        """Whether the images are photographs rather than small images, in files or not."""
        return self.image_shape is None and self.shorter_side > _SMALL_SIDE

    @property
    def side(self) -> int:
        """The images' shorter side, in pixels."""
        return min(self.image_shape[:2]) if self.image_shape else self.shorter_side


def facts_of(
    data: ImageData, given: np.ndarray, *, shorter_side: int, is_grey: bool, num_test: int, has_gpu: bool, minutes: float
) -> Facts:
    """The facts of a data set; `given` are the labels that may be trained on, of readable images `[rows]`, -1 for none."""
    counts = np.bincount(given[given != UNLABELED], minlength=len(data.class_names))
    images = data.train_images
    return Facts(
        num_labeled=int(counts.sum()),
        num_unlabeled=int((given == UNLABELED).sum()),
        num_test=num_test,
        fewest=int(counts.min()),
        most=int(counts.max()),
        num_classes=len(counts),
        image_shape=images.shape[1:] if isinstance(images, np.ndarray) else None,
        shorter_side=shorter_side,
        has_gpu=has_gpu,
        minutes=minutes,
        is_grey=is_grey,
        has_weights=has_weights(),
    )


def has_weights() -> bool:
    """Whether the package with BACKBONE's weights is installed."""
    try:
        packages.file_of(BACKBONE)
    except ValueError:
        return False
    return True


def looks_of(images: "np.ndarray | Photographs") -> tuple[int, bool]:
    """The median shorter side, in pixels, and whether all are grey: of photographs by the headers of up to 200 alone.

    Those that cannot be read do not count; if there are no others, the side is PHOTOGRAPH_SIZE.
    """
    if isinstance(images, np.ndarray):
        return min(images.shape[1:3]), images.shape[-1] == 1
    from PIL import Image, UnidentifiedImageError

    sides, grey = [], True
    for row in np.unique(np.linspace(0, len(images) - 1, min(len(images), _SAMPLE)).astype(np.int64)).tolist():
        try:
            with Image.open(io.BytesIO(images.read(row))) as image:
                sides.append(min(image.size))
                grey &= image.mode in ("1", "L", "LA", "I;16", "I", "F")
        except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
    return int(np.median(sides or [PHOTOGRAPH_SIZE])), bool(sides) and grey


def remarks(facts: Facts) -> list[str]:
    """What is unusual about the data, a line each."""
    lines = []
    if facts.most > _UNEQUAL * facts.fewest:
        lines.append(
            f"The classes are unequal ({facts.fewest:,} to {facts.most:,} labeled images). Nothing is weighed: a rare class is "
            "learned as rarely as it comes. The error counts images, not classes."
        )
    if facts.fewest < 5:
        images = "image" if facts.fewest == 1 else "images"
        lines.append(f"The smallest class has {facts.fewest} labeled {images}: label more of it before anything else.")
    if not facts.has_weights:
        lines.append(
            f"ImageNet's weights are not here, with which most photographs do far better: {packages.how_to_install(BACKBONE)}"
        )
    if facts.num_test < 10 * facts.num_classes:
        few = f"{facts.num_test:,} test images tell an error only roughly."
        lines.append(few if facts.num_test else "There is no test image to tell an error by.")
    return lines
