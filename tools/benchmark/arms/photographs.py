"""Photographs of Imagenette read, decoded and cropped, beside the least that could be done.

Training batches and reprediction's, as a run makes them; and a random-resized crop of images whose bytes lie in memory, each
decoded whole by a parallel map. Processor time says more than speed on a busy machine.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import tensorflow as tf

from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.data.decoding import decode, random_crop
from r2d2_tf.data.photographs import PARALLEL, Photographs
from r2d2_tf.training import pipeline
from r2d2_tf.training.stages import plan
from tools.benchmark.arms import networks
from tools.benchmark.measuring import Row, in_turns
from tools.benchmark.settings import PHOTOGRAPHS, Settings

CONFIG = Config(
    dataset=PHOTOGRAPHS, backbone="resnet18", batch_size=32, crop_scale=0.25, translate=0, flip=True, rounds="999:0.1"
)
SPEED, COST = "images/s", "processor time an image, ms"
LEAST = "the least"
_STEPS, _QUICK_STEPS = 94, 10
"""Batches that each way makes in a round."""
_IN_MEMORY = 1000


def part(settings: Settings) -> list[Row]:
    networks.prepare(settings)
    data = DATASETS[CONFIG.dataset].load(Path(settings.data_dir))
    return measure(cast(Photographs, data.train_images), settings)


def measure(photographs: Photographs, settings: Settings) -> list[Row]:
    """Training and prediction, each beside the least."""
    rows, steps = np.arange(len(photographs)), _QUICK_STEPS if settings.quick else _STEPS
    labeled, unlabeled = rows[::10], rows[rows % 10 > 0]
    size, stage = CONFIG.batch_size, plan(CONFIG, DATASETS[PHOTOGRAPHS])[1]
    ways: dict[str, Callable[[], tf.data.Dataset]] = {
        "training": lambda: pipeline.training_batches(photographs, labeled, unlabeled, stage, seed=0),
        "prediction": lambda: pipeline.prediction_batches(photographs, np.resize(rows, (steps + 1) * size), size),
        LEAST: lambda: _least(photographs),
    }
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for name in in_turns(ways, settings.rounds):
        measured[name].append(_speed_and_cost(ways[name](), steps))
    numbers = {name: dict(zip((SPEED, COST), map(list, zip(*own, strict=True)), strict=True)) for name, own in measured.items()}
    least = {f"{LEAST}: {name}": values for name, values in numbers.pop(LEAST).items()}
    ratio = {f"this / {LEAST}, processor time": (COST, f"{LEAST}: {COST}")}
    return [Row(f"{name}, batch {size}", own | least, ratio, steps=steps) for name, own in numbers.items()]


def _least(photographs: Photographs) -> tf.data.Dataset:
    def crop(number: tf.Tensor, encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        seed = tf.random.fold_in(tf.constant([0, 0]), tf.cast(number, tf.int32))
        return random_crop(decode(encoded), CONFIG.crop_scale, photographs.size, seed), number

    encoded = [photographs.read(row) for row in range(min(len(photographs), _IN_MEMORY))]
    images = tf.data.Dataset.from_tensor_slices(encoded).repeat().enumerate()
    return pipeline.read_ahead(images.map(crop, **PARALLEL).batch(CONFIG.batch_size))


def _speed_and_cost(dataset: tf.data.Dataset, steps: int) -> tuple[float, float]:
    """Images a second, and milliseconds of processor time an image, once the first batch is there."""
    batches = iter(dataset)
    next(batches)
    began, used = time.perf_counter(), time.process_time()
    for _ in range(steps):
        next(batches)
    images = steps * CONFIG.batch_size
    return images / (time.perf_counter() - began), 1000 * (time.process_time() - used) / images
