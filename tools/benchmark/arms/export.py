"""Latency of the exported models: one image at a time."""

import tempfile
from pathlib import Path

import numpy as np

from export import inference
from export.checking import Predict
from export.formats import stage
from export.serving_model import ServingModel
from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS
from tools.benchmark import networks
from tools.benchmark.measuring import Row, Work, alternate
from tools.benchmark.settings import Settings

KERAS, SAVED_MODEL, FLOAT32, INT8 = (f"{name}, ms" for name in ("Keras", "SavedModel", "TFLite float32", "TFLite int8"))
_FORMATS = {SAVED_MODEL: "saved_model", FLOAT32: "tflite", INT8: "tflite_int8"}
_REPRESENTATIVE = 50
_CHECKED = 20


def part(settings: Settings) -> list[Row]:
    networks.prepare(settings)
    return [measure(config, settings) for config in settings.cases]


def measure(config: Config, settings: Settings) -> Row:
    images = networks.noise(DATASETS[config.dataset].image_shape, _REPRESENTATIVE)
    backbone = networks.build_backbone(config)
    model = ServingModel(backbone, [str(number) for number in range(backbone.output_shape[-1])], images)
    with tempfile.TemporaryDirectory(dir=settings.folder) as name:
        paths = {arm: stage(kind, model, Path(name)) for arm, kind in _FORMATS.items()}
        loaded = {arm: inference.load(path, num_threads=settings.threads).predict for arm, path in paths.items()}
        predict: dict[str, Predict] = {KERAS: model.predict, **loaded}
        sizes = {arm: paths[arm].stat().st_size for arm in (FLOAT32, INT8)}
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


def _one_at_a_time(predict: Predict, images: np.ndarray) -> Work:
    def work(steps: int) -> None:
        for step in range(steps):
            predict(images[step % len(images)][None])

    return work
