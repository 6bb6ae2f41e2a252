"""Reprediction beside a bare forward loop of the same network over the same batches."""

import tensorflow as tf

from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from tools.benchmark import networks
from tools.benchmark.measuring import Row, alternate, per_second
from tools.benchmark.settings import Settings

REPREDICTION, FORWARD = "reprediction, images/s", "forward alone, images/s"


def part(settings: Settings) -> list[Row]:
    networks.prepare(settings)
    return [measure(config, settings) for config in settings.cases]


def measure(config: Config, settings: Settings) -> Row:
    """One network, in batches of `--eval_batch_size` or, where training takes fewer than 64, four of its batches."""
    spec = DATASETS[config.dataset]
    size = config.eval_batch_size if config.batch_size >= 64 else 4 * config.batch_size
    table = PseudoLabelTable(networks.some_labels(2 * size, spec.num_classes, num_labeled=size), spec.num_classes)
    model = networks.build_model(config, table)
    batches = networks.repeated(networks.noise(spec.image_shape, size), table.unlabeled_rows)

    @tf.function(jit_compile=False)
    def forward(pixels: tf.Tensor) -> tf.Tensor:
        return model.backbone(pixels, training=False)

    def forward_alone(steps: int) -> None:
        for pixels, _ in batches.take(steps):
            forward(pixels)

    arms = {REPREDICTION: lambda steps: model.repredict(batches.take(steps)), FORWARD: forward_alone}
    seconds, steps = alternate(arms, settings)
    return Row(
        f"{config.backbone}, batch {size}",
        {name: per_second(size, own) for name, own in seconds.items()},
        {"reprediction / forward, images/s": (REPREDICTION, FORWARD)},
        steps=steps,
    )
