"""`python -m tools.input_speed`: is the input a bottleneck? Images a second of the input alone, and of training steps.

For each network: its input pipeline alone (order, gathering, augmentation), and D2 steps on one ready batch, in
alternating rounds in one process, on noise of the data set's shape. Prints medians and their ratio.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from absl import flags

from r2d2_tf.command_line import parse_flags
from r2d2_tf.config import Config
from r2d2_tf.datasets import DATASETS
from r2d2_tf.startup import import_tensorflow_quietly

NUM_IMAGES = 20_000
READ_STEPS = 5
"""Batches that are read for each that is trained on: reading is the faster of the two."""
CASES = {
    "conv_small, 32x32x3, batch 128, translate and flip": Config(
        dataset="cifar10", backbone="conv_small", num_labels=1000, batch_size=128, translate=4, flip=True
    ),
    "lenet, 28x28x1, batch 64, translate": Config(
        dataset="mnist", backbone="lenet", num_labels=1000, batch_size=64, translate=2
    ),
}


def measure(config: Config, *, rounds: int, steps: int) -> tuple[list[float], list[float]]:
    """Images a second of the input alone and of training alone, `rounds` of each."""
    import keras
    import tensorflow as tf

    from r2d2_tf import backbones, pipeline
    from r2d2_tf.losses import CLASS_LOSSES
    from r2d2_tf.model import R2D2Model
    from r2d2_tf.pseudo_labels import UNLABELED, PseudoLabelTable
    from r2d2_tf.stages import plan

    spec, stage = DATASETS[config.dataset], plan(config)[1]
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (NUM_IMAGES, *spec.image_shape)).astype(np.uint8)
    labels = np.where(np.arange(NUM_IMAGES) < config.num_labels, np.arange(NUM_IMAGES) % spec.num_classes, UNLABELED)
    table = PseudoLabelTable(labels, spec.num_classes)
    backbone = backbones.build(config.backbone, spec.image_shape, spec.num_classes, mean=spec.mean, std=spec.std)
    model = R2D2Model(
        backbone,
        table,
        class_loss=CLASS_LOSSES[config.class_loss],
        alpha=config.alpha,
        beta=config.beta,
        pseudo_label_lr=config.pseudo_label_lr,
    )
    model.use_unlabeled = model.learn_pseudo_labels = True
    model.compile(optimizer=keras.optimizers.SGD(1e-3, momentum=0.9, nesterov=True), jit_compile=False)
    dataset = pipeline.training_batches(images, table.labeled_rows, table.unlabeled_rows, stage, seed=0)
    ready = tf.data.Dataset.from_tensors(next(iter(dataset))).repeat()

    def read() -> None:
        for _ in dataset.take(steps * READ_STEPS):
            pass

    def train() -> None:
        model.fit(ready, steps_per_epoch=steps, shuffle=False, verbose=0)

    train()
    read_speeds, train_speeds = [], []
    for _ in range(rounds):
        # A new iterator each round, and none while the network trains: neither works ahead for the other's time.
        read_speeds.append(READ_STEPS * steps * config.batch_size / _seconds(read))
        train_speeds.append(steps * config.batch_size / _seconds(train))
    return read_speeds, train_speeds


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def lines_of(cases: Iterator[tuple[str, tuple[list[float], list[float]]]]) -> Iterator[str]:
    """Lines of a Markdown table."""
    yield "| | input / training | input, images/s | training, images/s |"
    yield "|---|---|---|---|"
    for name, (read, trained) in cases:
        ratio = statistics.median(read) / statistics.median(trained)
        yield f"| {name} | **{ratio:.1f}** | {_spread(read)} | {_spread(trained)} |"


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    flag_values = flags.FlagValues()
    flags.DEFINE_integer("rounds", 7, "alternating rounds", lower_bound=1, flag_values=flag_values)
    flags.DEFINE_integer("steps", 60, "batches a round", lower_bound=1, flag_values=flag_values)
    if "--help" in arguments:
        print(f"{__doc__}\n{flag_values.get_help()}")
        return 0
    try:
        parse_flags(flag_values, arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    import_tensorflow_quietly()
    sizes = {name: flag_values[name].value for name in ("rounds", "steps")}
    for line in lines_of((name, measure(config, **sizes)) for name, config in CASES.items()):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
