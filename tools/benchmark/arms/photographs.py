"""Photographs of Imagenette read, decoded and cropped, beside the least that could be done.

Training batches and reprediction's, as a run makes them; and a random-resized crop of images whose bytes lie in memory, each
decoded whole by a parallel map. Processor time says more than speed on a busy machine.
"""

import dataclasses
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import tensorflow as tf
from PIL import Image

from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS, crop_side_for
from r2d2_tf.data.decoding import decode, random_crop
from r2d2_tf.data.image_data import MEMORY
from r2d2_tf.data.photograph_copy import Maker
from r2d2_tf.data.photographs import PARALLEL, Photographs
from r2d2_tf.training import pipeline
from r2d2_tf.training.stages import plan
from tools.benchmark import networks
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
_LARGE, _MEGAPIXELS_12 = 32, (4000, 3000)
"""How many large photographs there are, and how wide and high; those of a batch take seconds."""
_TURNED = 6
"""EXIF's orientation of a phone that is held upright."""


def part(settings: Settings) -> list[Row]:
    networks.prepare(settings)
    data = DATASETS[CONFIG.dataset].load(Path(settings.data_dir))
    photographs = cast(Photographs, data.train_images)
    return [*measure(photographs, settings), *_measure_large(photographs, settings)]


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


def _measure_large(photographs: Photographs, settings: Settings) -> list[Row]:
    """A batch of large photographs, decoded for each epoch, and many batches of the copy, whose making is timed, too."""
    with tempfile.TemporaryDirectory(dir=settings.folder) as folder:
        files = [_enlarged(photographs.read(row), Path(folder) / f"{row}.jpg") for row in range(_LARGE)]
        lengths = np.array([path.stat().st_size for path in files])
        places = (np.arange(_LARGE), np.zeros(_LARGE, np.int64), lengths)
        decoded = Photographs(files, *places, size=photographs.size, resize=photographs.resize)
        shrunk = dataclasses.replace(decoded, crop_side=crop_side_for(photographs.size, CONFIG.crop_scale))
        began, used = time.perf_counter(), time.process_time()
        maker = Maker([shrunk], MEMORY)
        with maker.writing():
            maker.complete()
        making = [_LARGE / (time.perf_counter() - began)], [1000 * (time.process_time() - used) / _LARGE]
        ways = {"decoded": (decoded, 1), "copied": (dataclasses.replace(shrunk, copy=maker.copies()[0]), _QUICK_STEPS)}
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for name in in_turns(ways, settings.rounds):
            images, steps = ways[name]
            measured[name].append(_speed_and_cost(_epochs_of(images), steps))
    numbers = {f"{name}: {what}": [one[i] for one in measured[name]] for name in ways for i, what in enumerate((SPEED, COST))}
    numbers |= {f"making the copy: {what}": values for what, values in zip((SPEED, COST), making, strict=True)}
    ratio = {"decoded / copied, processor time": (f"decoded: {COST}", f"copied: {COST}")}
    return [Row(f"12 megapixels, {lengths.mean() / 2**20:.1f} MiB each, batch {CONFIG.batch_size}", numbers, ratio)]


def _enlarged(encoded: bytes, path: Path) -> Path:
    """Writes a photograph as a phone's camera might: large, with noise, turned."""
    with Image.open(io.BytesIO(encoded)) as image:
        pixels = np.asarray(image.convert("RGB").resize(_MEGAPIXELS_12, Image.Resampling.BICUBIC)).astype(np.int16)
    noise = np.random.default_rng(0).integers(-12, 13, pixels.shape[:2])[..., None]
    exif = Image.Exif()
    exif[0x0112] = _TURNED
    Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8)).save(path, quality=92, exif=exif)
    return path


def _epochs_of(photographs: Photographs) -> tf.data.Dataset:
    rows, stage = np.arange(len(photographs)), plan(CONFIG, DATASETS[PHOTOGRAPHS])[1]
    labeled = CONFIG.labeled_per_batch
    return pipeline.training_batches(photographs, rows[:labeled], rows[labeled:], stage, seed=0)


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
