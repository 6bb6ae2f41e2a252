"""The model run directly: what the server's answers must be, and how fast they could be."""

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from export.inference import saved_model_folder
from export.picture_files import IMAGE_ENDINGS
from export.serving.errors import graph_message
from export.serving.folders import DEFAULT_SIGNATURE

NUM_IMAGES = 64
BATCH_SIZE = 32
_MEASURED_SECONDS = 2.0

Arrays = dict[str, np.ndarray]


class Reference:
    """The newest version of a model, loaded by TensorFlow alone, and images for it.

    Attributes:
        input: name of the input of `serving_default`.
        images: for it, `[1, height, width, channels]` uint8 each; `answers` are the model's.
        encoded: image files, where the model has the signature `image_bytes`; `encoded_answers` are the model's.
        loops: images a second of a loop around the model, by images a call.

    Raises:
        ValueError: if the model does not take uint8 images, or refuses one of the image files.
        OSError: if an image file cannot be read.
    """

    def __init__(self, model: Path, images_folder: Path | None, *, seed: int) -> None:
        # The loaded object is kept: its signatures hold no reference to their variables.
        self._model = tf.saved_model.load(str(saved_model_folder(model)))
        self.input, shape = _image_input(self._model)
        pixels = np.random.default_rng(seed).integers(0, 256, (NUM_IMAGES, *shape)).astype(np.uint8)
        self.images = [pixels[place : place + 1] for place in range(NUM_IMAGES)]
        self.answers = [self._run(DEFAULT_SIGNATURE, self.input, image) for image in self.images]
        encoded = self._encoded(pixels, images_folder)
        self.encoded = list(encoded.values())
        self.encoded_answers = [self._encoded_answer(name, content) for name, content in encoded.items()]
        self.loops = {count: self._images_a_second(pixels[:count]) for count in (1, BATCH_SIZE)}

    def _run(self, signature: str, name: str, values: Any) -> Arrays:
        outputs = self._model.signatures[signature](**{name: tf.constant(values)})
        return {key: output.numpy() for key, output in outputs.items()}

    def _encoded(self, pixels: np.ndarray, folder: Path | None) -> dict[str, bytes]:
        """Image files by name: those of `folder`, or `pixels` as PNG."""
        if "image_bytes" not in self._model.signatures:
            return {}
        if folder is None:
            return {f"image {n}": _png(image) for n, image in enumerate(pixels) if image.shape[-1] in (1, 3)}
        files = sorted(f for f in folder.iterdir() if f.suffix.lower() in IMAGE_ENDINGS)
        if not files:
            raise ValueError(f"images ({folder}) holds no image file ({', '.join(IMAGE_ENDINGS)}): give another folder")
        return {str(file): file.read_bytes() for file in files}

    def _encoded_answer(self, name: str, content: bytes) -> Arrays:
        try:
            return self._run("image_bytes", "image_bytes", [content])
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(f"the model refuses {name}: {graph_message(str(error))}; leave it out of --images") from error

    def _images_a_second(self, pixels: np.ndarray) -> float:
        end = (started := time.perf_counter()) + _MEASURED_SECONDS
        calls = 0
        while not calls or time.perf_counter() < end:
            self._run(DEFAULT_SIGNATURE, self.input, pixels)
            calls += 1
        return calls * len(pixels) / (time.perf_counter() - started)


def _image_input(model: Any) -> tuple[str, tuple[int, ...]]:
    specs = model.signatures[DEFAULT_SIGNATURE].structured_input_signature[1] if DEFAULT_SIGNATURE in model.signatures else {}
    for name, spec in specs.items():
        if len(specs) == 1 and spec.dtype == tf.uint8 and spec.shape.rank == 4 and None not in spec.shape[1:]:
            return name, tuple(spec.shape[1:])
    raise ValueError(f"signature serving_default takes {specs or 'nothing'}; the load test needs one input of uint8 images")


def _png(image: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(content, "png")
    return content.getvalue()


def largest_difference(actual: Arrays, expected: Arrays) -> float:
    """Between outputs; infinite if one is missing, or another text."""
    if actual.keys() != expected.keys():
        return np.inf
    return max((_difference(actual[name], wanted) for name, wanted in expected.items()), default=0.0)


def _difference(actual: np.ndarray, wanted: np.ndarray) -> float:
    if actual.shape != wanted.shape:
        return np.inf
    if wanted.dtype == object:
        return 0.0 if actual.tolist() == wanted.tolist() else np.inf
    difference = np.abs(actual.astype(np.float64) - wanted).max(initial=0.0)
    return float(difference) if np.isfinite(difference) else np.inf
