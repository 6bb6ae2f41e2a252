"""EXPORTERS: how a model is written, one function a format."""

import contextlib
import dataclasses
import json
import logging
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from export import eight_bits
from export.serving_model import ServingModel
from r2d2_tf.system.files import move_into_place
from r2d2_tf.system.startup import output_held_back

_ONNX_OPSET = 18
"""Of December 2022: newer ones add nothing that is used here, and older runtimes lack them."""
_PLAIN = "serving_default"
MOST_WORSE = 1.0
"""Points by which the error of a format on test images may be above the network's, beyond chance."""


def write_saved_model(model: ServingModel, path: Path) -> None:
    """Writes a SavedModel with the signatures `serving_default`, `image_bytes` and `logits`, for any batch size."""
    images, encoded = _images(model), [tf.TensorSpec([None], tf.string, name="image_bytes")]
    signatures = {
        _PLAIN: _traced(model.classify, images),
        "image_bytes": _traced(model.classify_bytes, encoded),
        "logits": _traced(lambda images: {"logits": model.logits(images)}, images),
    }
    _save(model, path, signatures)


def _save(model: ServingModel, path: Path, signatures: dict[str, Callable[..., Any]]) -> None:
    # Not Keras' ExportArchive: it writes each variable twice, as Keras' and as TensorFlow's.
    holder = tf.Module()
    holder.weights = [variable.value for variable in model.network.variables]
    tf.saved_model.save(holder, str(path), signatures)


def _traced(function: Callable[..., Any], signature: list[tf.TensorSpec]) -> Callable[..., Any]:
    return tf.function(function, signature, autograph=False, jit_compile=False).get_concrete_function()


def _images(model: ServingModel) -> list[tf.TensorSpec]:
    return [tf.TensorSpec([None, *model.image_shape], tf.uint8, name="images")]


def write_tflite(model: ServingModel, path: Path, *, small: bool = False, halves: bool = False, scaled: bool = False) -> None:
    """Writes a TensorFlow Lite file, float32 out.

    A `small` one has weights in 8 bits, and activations that are scaled as they come; with `halves` its weights are in float16,
    with which a CPU computes in float32; `scaled`, its activations are in 8 bits too, scaled to `model.representative`, and the
    network is made ready for that, see eight_bits.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(output_held_back())
        stack.enter_context(warnings.catch_warnings())
        if scaled:
            model = dataclasses.replace(model, network=eight_bits.normalizing_at_once(model.network))
            stack.enter_context(eight_bits.rounded_kernels(model.network))
        # The converter runs images through TensorFlow's own interpreter, which says that it is on its way out.
        warnings.filterwarnings("ignore", message=".*tf.lite.Interpreter is deprecated")
        function = _traced(lambda images: {"probabilities": model.probabilities(images)}, _images(model))
        _save(model, Path(folder), {_PLAIN: function})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[_PLAIN])
        if small:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if halves:
            converter.target_spec.supported_types = [tf.float16]
        if scaled:
            converter.representative_dataset = lambda: ({"images": image[None]} for image in model.representative)
        content = converter.convert()
    path.write_bytes(content)


def write_onnx(model: ServingModel, path: Path) -> None:
    """Writes an ONNX file, float32, the names of the classes among its metadata."""
    import onnx
    import tf2onnx

    # It tells each of its passes.
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    images = _images(model)
    function = tf.function(lambda images: {"probabilities": model.probabilities(images)}, images, jit_compile=False)
    content, _ = tf2onnx.convert.from_function(function, images, opset=_ONNX_OPSET)
    for value in (*content.graph.input, *content.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(content, {"class_names": json.dumps([*model.class_names])})
    onnx.checker.check_model(content)
    onnx.save(content, path)


class Format(NamedTuple):
    """A kind of file.

    Attributes:
        file_name: within the folder of an export; a SavedModel's folder of versions has no ending.
        write: writes it.
        most_different: largest difference of a probability to the network's that rounding may cause.
        least_agreement: smallest share of images, in percent, whose most probable class is the network's. Where that class
            is hardly more probable than the next, rounding decides: what users notice is `MOST_WORSE`.
    """

    file_name: str
    write: Callable[[ServingModel, Path], None]
    most_different: float
    least_agreement: float

    def allows(self, difference: float, agreement: float, worse: float) -> bool:
        """Whether a file that differs so, see checking.Row, is as the format should be; False for NaN."""
        return difference <= self.most_different and agreement >= self.least_agreement and worse <= MOST_WORSE


EXPORTERS: dict[str, Format] = {
    "saved_model": Format("saved_model", write_saved_model, 1e-4, 0.0),
    "tflite": Format("model.tflite", write_tflite, 1e-4, 0.0),
    "tflite_float16": Format("model_float16.tflite", partial(write_tflite, small=True, halves=True), 0.05, 99.0),
    "tflite_dynamic": Format("model_dynamic.tflite", partial(write_tflite, small=True), 1.0, 90.0),
    "tflite_int8": Format("model_int8.tflite", partial(write_tflite, small=True, scaled=True), 1.0, 90.0),
    "onnx": Format("model.onnx", write_onnx, 1e-4, 0.0),
}
"""Format -> how it is written, and how far it may be from the network."""


def staging(folder: Path) -> tempfile.TemporaryDirectory:
    """A hidden folder within `folder`, for what is not checked yet: no server looks into it."""
    return tempfile.TemporaryDirectory(prefix=".unchecked-", dir=folder)


def stage(name: str, model: ServingModel, unchecked: Path) -> Path:
    """Writes a format into the folder `unchecked` and returns where."""
    path = unchecked / EXPORTERS[name].file_name
    EXPORTERS[name].write(model, path)
    return path


def final_path(name: str, folder: Path, version: int) -> Path:
    """Where a format belongs; a SavedModel as TensorFlow Serving wants it, MODEL/VERSION."""
    path = folder / EXPORTERS[name].file_name
    return path if path.suffix else path / str(version)


def place(name: str, unchecked: Path, folder: Path, version: int) -> None:
    """Moves what was staged in `unchecked` to where it belongs, whole and over what was there."""
    staged, path = unchecked / EXPORTERS[name].file_name, final_path(name, folder, version)
    path.parent.mkdir(parents=True, exist_ok=True)
    if staged.is_file():
        move_into_place(staged, path)
        return
    if path.exists():
        path.rename(staged.with_name("replaced"))
    staged.rename(path)


def representative_rows(num_images: int, *, count: int, seed: int) -> np.ndarray:
    """`count` different rows of `num_images`, or all where there are fewer, sorted; a function of `seed`."""
    return np.sort(np.random.default_rng(seed).choice(num_images, min(count, num_images), replace=False))
