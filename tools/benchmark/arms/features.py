"""Features of photographs, as a run computes and keeps them, beside the forward passes alone.

Each step is a batch of photographs and of their mirror images. The bare loop makes the same forward passes on batches that are
decoded as they come, or lie in memory.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import cast

import numpy as np
import tensorflow as tf

from r2d2_tf import backbones
from r2d2_tf.backbones.layers import features_of
from r2d2_tf.data.datasets import DATASETS, resize_for
from r2d2_tf.data.photographs import Photographs
from r2d2_tf.training import pipeline
from r2d2_tf.training.features.computing import BATCH, FeatureComputer, forward_of
from r2d2_tf.training.features.features import CENTRAL, MIRRORED, Views
from r2d2_tf.training.features.store import FeatureStore
from tools.benchmark import networks
from tools.benchmark.measuring import Row, alternate, per_second
from tools.benchmark.settings import PHOTOGRAPHS, Settings

BACKBONE, SIDE = "efficientnet_lite0", 128
_WAYS = ("features", "forward and decoding", "forward, ready in memory", "decoding alone")
FEATURES, DECODED, READY, DECODING = (f"{way}, photographs/s" for way in _WAYS)


def part(settings: Settings) -> list[Row]:
    networks.prepare(settings)
    data = DATASETS[PHOTOGRAPHS].load(Path(settings.data_dir))
    photographs = cast(Photographs, data.train_images)[np.arange(min(settings.images, len(data.train_labels)))]
    return [measure(dataclasses.replace(photographs, size=SIDE, resize=resize_for(SIDE)), settings)]


def measure(photographs: Photographs, settings: Settings) -> Row:
    shape, count = (photographs.size, photographs.size, 3), len(photographs)
    network = backbones.build(BACKBONE, shape, 10, mean=(0.5,) * 3, std=(0.25,) * 3)
    # A run knows them, as it has looked at each image.
    known = dataclasses.replace(photographs, digests=np.arange(1, count + 1, dtype=np.uint64) << np.uint64(20))
    body, views = features_of(network), Views(2, flip=True, translate=0, crop_scale=1.0)
    forward = forward_of(body)

    def rows(steps: int) -> np.ndarray:
        return np.arange(min(steps * BATCH, count))

    def features(steps: int) -> None:
        with tempfile.TemporaryDirectory(dir=settings.folder) as folder:
            store = FeatureStore(Path(folder), "features.bin", body.output_shape[-1])
            computer = FeatureComputer(body, views, store, lambda: None)
            computer.forward = forward
            computer.features([(known[rows(steps)], [CENTRAL, MIRRORED])])

    def forward_alone(batches: tf.data.Dataset) -> None:
        for pixels, _ in batches:
            forward(pixels)
            forward(tf.reverse(pixels, [2]))

    def decoded(steps: int) -> tf.data.Dataset:
        return pipeline.prediction_batches(photographs, rows(steps), BATCH)

    ready = list(decoded(-(-count // BATCH)))
    arms = {
        FEATURES: features,
        DECODED: lambda steps: forward_alone(decoded(steps)),
        READY: lambda steps: forward_alone(ready[:steps]),
        DECODING: lambda steps: [None for _ in decoded(steps)],
    }
    seconds, steps = alternate(arms, settings, steps=-(-count // BATCH))
    return Row(
        f"{BACKBONE}, {count:,} photographs of {SIDE} pixels, and mirrored",
        {name: per_second(BATCH, own) for name, own in seconds.items()},
        {"features / forward, decoded": (FEATURES, DECODED), "features / forward, ready": (FEATURES, READY)},
        note="Decoding limits what its speed is not far above that of the forward passes.",
        steps=steps,
    )
