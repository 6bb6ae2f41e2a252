"""Latency of the exported models: one image at a time."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from export.formats import EXPORTERS, serving_model
from r2d2_tf.config import Config
from r2d2_tf.datasets import DATASETS
from tools.benchmark import networks
from tools.benchmark.measuring import Row, Work, alternate
from tools.benchmark.settings import Settings

KERAS, SAVED_MODEL, FLOAT32, INT8 = (f"{name}, ms" for name in ("Keras", "SavedModel", "TFLite float32", "TFLite int8"))
_REPRESENTATIVE = 50
_CHECKED = 20
Predict = Callable[[np.ndarray], np.ndarray]


def part(settings: Settings) -> list[dict[str, Any]]:
    """The rows of this part."""
    networks.prepare(settings)
    return [measure(config, settings).to_json() for config in settings.cases]


def measure(config: Config, settings: Settings) -> Row:
    """One network."""
    model = serving_model(networks.build_backbone(config))
    images = networks.noise(DATASETS[config.dataset].image_shape, _REPRESENTATIVE)
    with tempfile.TemporaryDirectory(dir=settings.folder) as name:
        folder = Path(name)
        for file, write in EXPORTERS.values():
            write(model, folder / file)
        write_int8(model, folder / "int8.tflite", images)
        serve = tf.function(lambda pixels: model(pixels, training=False), jit_compile=False)
        predict: dict[str, Predict] = {
            KERAS: lambda pixels: serve(tf.constant(pixels)).numpy(),
            SAVED_MODEL: _saved_model(folder / EXPORTERS["saved_model"][0]),
            FLOAT32: _tflite(folder / EXPORTERS["tflite"][0], settings.threads),
            INT8: _tflite(folder / "int8.tflite", settings.threads),
        }
        sizes = {FLOAT32: (folder / EXPORTERS["tflite"][0]).stat().st_size, INT8: (folder / "int8.tflite").stat().st_size}
        seconds, steps = alternate({arm: _one_at_a_time(function, images) for arm, function in predict.items()}, settings)
        expected = predict[KERAS](images[:_CHECKED])
        off = {
            arm: max(float(np.abs(predict[arm](images[i : i + 1]) - expected[i]).max()) for i in range(_CHECKED))
            for arm in (SAVED_MODEL, FLOAT32, INT8)
        }
    notes = [f"{arm.removesuffix(', ms')} {off[arm]:.1e}" for arm in off]
    kib = [f"{arm.removesuffix(', ms')} {size / 1024:,.0f} KiB" for arm, size in sizes.items()]
    return Row(
        f"{config.backbone}, batch 1",
        {arm: [1000 * value for value in seconds[arm]] for arm in predict},
        {f"{arm.removesuffix(', ms')} / Keras": (arm, KERAS) for arm in (SAVED_MODEL, FLOAT32, INT8)},
        note=f"{config.backbone}, untrained, largest difference of a probability: {', '.join(notes)}; files: {', '.join(kib)}.",
        steps=steps,
    )


def write_int8(model: keras.Model, path: Path, images: np.ndarray) -> None:
    """Writes a TFLite file with 8-bit weights and activations, scaled to `images`; uint8 in, float32 out."""
    with tempfile.TemporaryDirectory() as folder:
        EXPORTERS["saved_model"][1](model, Path(folder) / "saved_model")
        converter = tf.lite.TFLiteConverter.from_saved_model(str(Path(folder) / "saved_model"))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in images)
        path.write_bytes(converter.convert())


def _saved_model(path: Path) -> Predict:
    loaded = tf.saved_model.load(str(path))

    def predict(pixels: np.ndarray) -> np.ndarray:
        # Through the loaded object: its variables do not outlive it.
        return loaded.signatures["serving_default"](images=tf.constant(pixels))["probabilities"].numpy()

    return predict


def _tflite(path: Path, threads: int) -> Predict:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    (put,), (get,) = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(pixels: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(put["index"], pixels)
        interpreter.invoke()
        return interpreter.get_tensor(get["index"])

    return predict


def _one_at_a_time(predict: Predict, images: np.ndarray) -> Work:
    def work(steps: int) -> None:
        for step in range(steps):
            predict(images[step % len(images)][None])

    return work
