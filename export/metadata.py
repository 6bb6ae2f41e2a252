"""What lies beside exported models: metadata.json, which a model's user needs, and a few test images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from export import inference
from export.serving_model import ServingModel
from r2d2_tf.config.config import SHOWN, STORED
from r2d2_tf.data.image_data import ImageData
from r2d2_tf.data.photographs import Photographs
from r2d2_tf.data.readers.file_search import IMAGE_ENDINGS
from r2d2_tf.runs import run_directory
from r2d2_tf.system import files

NUM_EXAMPLES = 10


def write_beside(model: ServingModel, data: ImageData, summary: dict[str, Any], folder: Path) -> dict[str, object]:
    """Writes metadata.json, whose content is returned, and a test image of each class into examples/."""
    height, width, channels = model.image_shape
    resize = model.resize_shorter_side
    size = f"{width}x{height} pixels"
    if resize is not None:
        size = f"shorter side resized to {resize} pixels, and of that the central {size}"
    color = "grey" if channels == 1 else "RGB"
    metadata: dict[str, object] = {
        "class_names": model.class_names,
        "image_shape": model.image_shape,
        "input": "uint8 pixels",
        "preprocessing": f"{color}, {size}, values 0..255 as they are: the model normalizes them itself",
        "image_view": SHOWN if model.as_shown else STORED,
        "output": "probabilities, in the order of class_names",
        "run": run_directory.title_of(summary),
        "git_commit": summary["git_commit"],
    }
    if resize is not None:
        metadata["resize_shorter_side"] = resize
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / inference.METADATA_FILE, json.dumps(metadata, indent=2) + "\n")
    _write_examples(folder / "examples", data.test_images, data.test_labels)
    return metadata


def _write_examples(folder: Path, images: np.ndarray | Photographs, labels: np.ndarray) -> None:
    """Writes one test image of each of the first classes, its true class in its name: a photograph as it is, else as PNG."""
    folder.mkdir(exist_ok=True)
    for number in np.unique(labels)[:NUM_EXAMPLES]:
        index = int(np.flatnonzero(labels == number)[0])
        if not isinstance(images, np.ndarray):
            ending = images.files[images.file_of_row[index]].suffix.lower()
            name = f"true_class_{number}{ending if ending in IMAGE_ENDINGS else '.jpg'}"
            (folder / name).write_bytes(images.read(index))
            continue
        pixels = images[index]
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(folder / f"true_class_{number}.png")
