"""Loads an exported model and classifies images.

    python -m export.inference --model=RUN/export/model.tflite --images=RUN/export/examples

This file and picture_files.py stand alone: copy both to a server. They need NumPy and, for a .tflite model, `ai-edge-litert`,
for an .onnx model `onnxruntime`, or, for a SavedModel, TensorFlow; image files need Pillow. Neither Keras nor r2d2_tf is
imported.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING or __package__:
    from export.picture_files import image_files, read_image
else:
    from picture_files import image_files, read_image

SAVED_MODEL_FILE = "saved_model.pb"
METADATA_FILE = "metadata.json"
BATCH = 32
"""Images that are classified at once."""


class Predictor(Protocol):
    """A loaded model. `image_shape` is (height, width, channels)."""

    image_shape: tuple[int, int, int]

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Class probabilities `[images, classes]` float32 of `[images, *image_shape]` uint8 pixels, any number."""


class TFLitePredictor:
    """Runs a .tflite file with LiteRT."""

    def __init__(self, path: Path, num_threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=str(path), num_threads=num_threads)
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]["index"]
        height, width, channels = (int(side) for side in self._input["shape_signature"][1:])
        self.image_shape = (height, width, channels)
        self._allocated = 0

    def predict(self, images: np.ndarray) -> np.ndarray:
        """See Predictor."""
        check_images(images, self.image_shape)
        if len(images) != self._allocated:
            self._interpreter.resize_tensor_input(self._input["index"], images.shape)
            self._interpreter.allocate_tensors()
            self._allocated = len(images)
        self._interpreter.set_tensor(self._input["index"], images)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)


class OnnxPredictor:
    """Runs an .onnx file with ONNX Runtime."""

    def __init__(self, path: Path, num_threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0]
        height, width, channels = self._input.shape[1:]
        self.image_shape = (height, width, channels)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """See Predictor."""
        check_images(images, self.image_shape)
        return self._session.run(["probabilities"], {self._input.name: images})[0]


class SavedModelPredictor:
    """Runs a SavedModel with TensorFlow, in the threads that TensorFlow has."""

    def __init__(self, path: Path) -> None:
        import tensorflow as tf

        # The loaded object is kept: its signatures hold no reference to their variables.
        self._model = tf.saved_model.load(str(path))
        self._signature = self._model.signatures["serving_default"]
        self._constant = tf.constant
        ((self._input, spec),) = self._signature.structured_input_signature[1].items()
        height, width, channels = spec.shape[1:]
        self.image_shape = (height, width, channels)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """See Predictor."""
        check_images(images, self.image_shape)
        return self._signature(**{self._input: self._constant(images)})["probabilities"].numpy()


def check_images(images: np.ndarray, image_shape: tuple[int, int, int]) -> None:
    """Raises ValueError unless `images` are `[images, *image_shape]` uint8, at least one."""
    if images.dtype != np.uint8 or images.shape[1:] != image_shape or not len(images):
        raise ValueError(
            f"images are {images.dtype} of shape {images.shape}; the model takes uint8 of shape (1 or more, *{image_shape})"
        )


def load(path: str | Path, *, num_threads: int = 2) -> Predictor:
    """Loads a .tflite or .onnx file, or a SavedModel: its folder, or the one above, of which the highest version is taken.

    Raises:
        ValueError: if there is no such model, or it cannot be read.
    """
    path = Path(path)
    kinds: dict[str, Callable[[Path, int], Predictor]] = {".tflite": TFLitePredictor, ".onnx": OnnxPredictor}
    folder = saved_model_folder(path)
    if not folder and not (path.is_file() and path.suffix in kinds):
        raise ValueError(f"there is no model at {path}: give a .tflite or .onnx file, or the folder of a SavedModel")
    try:
        return SavedModelPredictor(folder) if folder else kinds[path.suffix](path, num_threads)
    except ImportError as error:
        raise ValueError(f"{path} needs a package that is not installed: {error}") from error
    # Whatever the three libraries make of bytes that are not theirs.
    except Exception as error:
        raise ValueError(f"the model {path} cannot be read: it is damaged, or none of an export's ({error})") from error


def is_saved_model(folder: Path) -> bool:
    """Whether `folder` is itself that of a SavedModel."""
    return (folder / SAVED_MODEL_FILE).is_file()


def saved_model_folder(path: Path) -> Path | None:
    """`path`, or the highest version in it, if that is the folder of a SavedModel; else None."""
    if is_saved_model(path):
        return path
    names = [version.name for version in path.glob("[0-9]*") if is_saved_model(version)]
    versions = [int(name) for name in names if name.isdecimal() and name == str(int(name))]
    return path / str(max(versions)) if versions else None


class Metadata(NamedTuple):
    """What a model does not say itself.

    Attributes:
        class_names: in the order of the probabilities; None if they are not known.
        resize_shorter_side: photographs are resized so, in pixels, and their central square is cut out; None: images
            have the model's own size.
        as_shown: files are read as a viewer shows them, turned as EXIF says and transparent parts on white; else the pixels
            as they are stored, as models see them that were exported before this was said.
    """

    class_names: list[str] | None = None
    resize_shorter_side: int | None = None
    as_shown: bool = False


def metadata(model_path: str | Path) -> Metadata:
    """What metadata.json beside the model (of a version: beside the folder of versions) says, if it is there.

    Raises:
        ValueError: if the file is damaged.
    """
    model_path = Path(model_path).resolve()
    is_version = model_path.name.isdecimal() and model_path.is_dir()
    path = (model_path.parent if is_version else model_path).parent / METADATA_FILE
    if not path.is_file():
        return Metadata()
    try:
        content = json.loads(path.read_text())
        names, resize = content["class_names"], content.get("resize_shorter_side")
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise ValueError("class_names is no list of names")
        if not (resize is None or (isinstance(resize, int) and resize > 0)):
            raise ValueError("resize_shorter_side is no number of pixels")
        view = content.get("image_view", "stored")
        if view not in ("shown", "stored"):
            raise ValueError("image_view is neither shown nor stored")
        return Metadata(names, resize, view == "shown")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: export the run again, or remove it") from error


def _path(name: str) -> Path:
    """Of an argument; bash leaves the ~ in --model=~/x as it is."""
    return Path(os.path.expanduser(name))


def main(arguments: Sequence[str]) -> int:
    """Classifies images from a command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Classifies images with an exported model.")
    parser.add_argument("--model", required=True, type=_path, help=".tflite or .onnx file, or folder of a SavedModel")
    parser.add_argument("--images", required=True, type=_path, help="image file, or folder of images")
    options = parser.parse_args(arguments)
    try:
        predictor = load(options.model)
        files = image_files(options.images)
        names, resize, as_shown = metadata(options.model)
        width = max(len(file.name) for file in files)
        for start in range(0, len(files), BATCH):
            part = files[start : start + BATCH]
            images = [read_image(file, predictor.image_shape, resize, as_shown=as_shown) for file in part]
            probabilities = predictor.predict(np.stack(images))
            names = names or [f"class {number}" for number in range(probabilities.shape[1])]
            if len(names) != probabilities.shape[1]:
                raise ValueError(f"the model has {probabilities.shape[1]} classes, and {METADATA_FILE} names {len(names)}")
            for file, p in zip(part, probabilities, strict=True):
                line = f"{file.name:{width}}  {names[int(p.argmax())]}  {100 * p.max():5.1f} %"
                # Whatever a file or a class is called, it moves no cursor.
                print("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line), flush=True)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
