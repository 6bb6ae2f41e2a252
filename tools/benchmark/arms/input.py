"""Is the input a bottleneck? Order, gathering and augmentation alone, beside training on a ready batch."""

import numpy as np

from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from r2d2_tf.training import pipeline
from r2d2_tf.training.stages import plan
from tools.benchmark import networks
from tools.benchmark.measuring import Row, alternate, per_second
from tools.benchmark.settings import Settings

NUM_IMAGES = 20_000
READ_STEPS = 5
"""Batches that are read for each that is trained on: reading is the faster of the two."""
INPUT, TRAINING = "input, images/s", "training, images/s"


def part(settings: Settings) -> list[Row]:
    networks.prepare(settings)
    return [measure(config, settings) for config in settings.cases]


def measure(config: Config, settings: Settings) -> Row:
    """One network, with the augmentation of its data set."""
    spec = DATASETS[config.dataset]
    stage = plan(config, spec)[1]
    images = networks.noise(spec.image_shape, NUM_IMAGES)
    labels = networks.some_labels(NUM_IMAGES, spec.num_classes, num_labeled=config.num_labels)
    table = PseudoLabelTable(labels, spec.num_classes)
    dataset = pipeline.training_batches(images, table.labeled_rows, table.unlabeled_rows, stage, seed=0)
    ready = networks.repeated(*(np.asarray(part) for part in next(iter(dataset))))

    def read(steps: int) -> None:
        # A new iterator each round, and none while the network trains: neither works ahead for the other's time.
        for _ in dataset.take(steps * READ_STEPS):
            pass

    train = networks.fitting(networks.build_model(config, table), ready)
    seconds, steps = alternate({INPUT: read, TRAINING: train}, settings)
    size, augmentation = config.batch_size, f"translate{' and flip' if config.flip else ''}"
    return Row(
        f"{config.backbone}, batch {size}, {augmentation}",
        {INPUT: per_second(READ_STEPS * size, seconds[INPUT]), TRAINING: per_second(size, seconds[TRAINING])},
        {"input / training": (INPUT, TRAINING)},
        steps=steps,
    )
