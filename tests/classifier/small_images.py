"""Small images of three classes that a linear network tells apart, and files of them."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("ant", "bee", "cat")


def small_images(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright square where the class says: `[count, 8, 8]` uint8, and class numbers `[count]`."""
    random = np.random.default_rng(seed)
    images, numbers = random.integers(0, 90, (count, 8, 8), np.uint8), np.arange(count) % len(CLASSES)
    for image, number in zip(images, numbers.tolist(), strict=True):
        image[1:5, 2 * number : 2 * number + 3] += 150
    return images, numbers


def with_gaps(numbers: np.ndarray, labeled: int) -> np.ndarray:
    """Class numbers, -1 from the labeled ones on."""
    return np.where(np.arange(len(numbers)) < labeled, numbers, -1)


def write_images(folder: Path, images: np.ndarray) -> list[Path]:
    """Files of the images, in their order, in a folder that is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"image {place}.png" for place in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths
