"""EXPORTERS: how a serving model is written, one function a format."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf

from r2d2_tf.files import written_whole


def serving_model(backbone: keras.Model) -> keras.Model:
    """The model that is exported: uint8 pixels `[batch, height, width, channels]` to probabilities `[batch, classes]`.

    Normalising is the backbone's first layer, so a server needs no preprocessing. A backbone in mixed precision is turned to
    float32, as its weights are: TensorFlow Lite has no convolutions in 16 bits.
    """
    _compute_in_float32(backbone)
    images = keras.Input(backbone.input_shape[1:], dtype="uint8", name="images")
    probabilities = keras.layers.Softmax(name="probabilities", dtype="float32")(backbone(images))
    return keras.Model(images, probabilities, name="serving")


def _compute_in_float32(layer: keras.layers.Layer) -> None:
    layer.dtype_policy = "float32"
    for part in getattr(layer, "layers", ()):
        _compute_in_float32(part)


def write_saved_model(model: keras.Model, path: Path) -> None:
    """Writes a SavedModel whose `serving_default` takes `images` and returns `probabilities`, for any batch size."""
    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = [tf.TensorSpec([None, *model.input_shape[1:]], tf.uint8, name="images")]
    archive.add_endpoint("serving_default", lambda images: {"probabilities": model(images, training=False)}, signature)
    partial, old = (path.with_name(f".{state}-{path.name}") for state in ("partial", "old"))
    for left_over in (partial, old):
        shutil.rmtree(left_over, ignore_errors=True)
    archive.write_out(partial, verbose=False)
    if path.exists():
        path.rename(old)
    partial.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def write_tflite(model: keras.Model, path: Path) -> None:
    """Writes a float32 TensorFlow Lite file, for any batch size."""
    with tempfile.TemporaryDirectory() as folder:
        saved_model = Path(folder) / "saved_model"
        write_saved_model(model, saved_model)
        content = tf.lite.TFLiteConverter.from_saved_model(str(saved_model)).convert()
    with written_whole(path) as temporary:
        temporary.write_bytes(content)


EXPORTERS: dict[str, tuple[str, Callable[[keras.Model, Path], None]]] = {
    "saved_model": ("saved_model", write_saved_model),
    "tflite": ("model.tflite", write_tflite),
}
"""Format -> name of the file or folder, and the function that writes it."""
