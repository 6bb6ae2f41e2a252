"""One and two replicas, on two logical CPUs, that train on the same global batch."""

import tensorflow as tf

from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.distributed import devices
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from tools.benchmark import networks
from tools.benchmark.arms import steps
from tools.benchmark.measuring import Row, alternate, per_second
from tools.benchmark.settings import Settings

ONE, TWO = "1 replica, images/s", "2 replicas, images/s"


def part(settings: Settings) -> list[Row]:
    """Its process must be its own."""
    networks.prepare(settings)
    one, two = (devices.make_strategy(choice, 2) for choice in ("none", "mirrored"))
    return [measure(config, settings, one, two) for config in settings.cases]


def measure(config: Config, settings: Settings, one: tf.distribute.Strategy, two: tf.distribute.Strategy) -> Row:
    spec, size = DATASETS[config.dataset], config.batch_size
    labels = networks.some_labels(steps.NUM_ROWS, spec.num_classes, num_labeled=config.num_labels)
    batches = networks.repeated(networks.noise(spec.image_shape, size), steps.mixed_rows(labels, config))
    arms = {
        name: networks.fitting(networks.build_model(config, PseudoLabelTable(labels, spec.num_classes), strategy), batches)
        for name, strategy in ((ONE, one), (TWO, two))
    }
    seconds, count = alternate(arms, settings)
    return Row(
        f"{config.backbone}, global batch {size}",
        {name: per_second(size, own) for name, own in seconds.items()},
        {"2 replicas / 1, images/s": (TWO, ONE)},
        note=f"Both share {settings.threads} threads: two replicas can show what they cost, not what they gain.",
        steps=count,
    )
