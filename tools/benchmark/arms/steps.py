"""The D2 step beside the same network's plain supervised step in Keras, and its D2 step in PyTorch."""

import importlib.util
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from tools.benchmark import networks
from tools.benchmark.measuring import Row, Work, alternate, per_second
from tools.benchmark.settings import Settings

NUM_ROWS = 50_000
D2, SUPERVISED, TORCH = "D2, images/s", "supervised Keras, images/s", "D2 in PyTorch, images/s"
SUPERVISED_RATIO, TORCH_RATIO = "D2 / supervised, time of a step", "D2 / PyTorch, images/s"


class CoupledSGD(keras.optimizers.SGD):
    """SGD that adds L2 to the gradient in the cheapest way: the D2 step pays for the same addition."""

    def __init__(self, learning_rate: float, *, momentum: float, weight_decay: float) -> None:
        super().__init__(learning_rate, momentum=momentum, nesterov=True)
        self.coupled_decay = weight_decay

    def apply(self, grads: Iterable[tf.Tensor], trainable_variables: Any = None) -> None:
        weights = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        super().apply([g + self.coupled_decay * w for g, w in zip(grads, weights, strict=True)], trainable_variables)


def part(settings: Settings) -> list[Row]:
    networks.prepare(settings)
    return [measure(config, settings) for config in settings.cases]


def measure(config: Config, settings: Settings) -> Row:
    spec, size = DATASETS[config.dataset], config.batch_size
    labels = networks.some_labels(NUM_ROWS, spec.num_classes, num_labeled=config.num_labels)
    images = networks.noise(spec.image_shape, size)
    rows = mixed_rows(labels, config)
    arms = {
        D2: networks.fitting(
            networks.build_model(config, PseudoLabelTable(labels, spec.num_classes)), networks.repeated(images, rows)
        ),
        SUPERVISED: networks.fitting(supervised(config), networks.repeated(images, rows % spec.num_classes)),
    }
    has_torch = importlib.util.find_spec("torch") is not None
    if has_torch:
        arms[TORCH] = _torch_steps(config, labels, images, rows, settings)
    seconds, steps = alternate(arms, settings)
    height, width, channels = spec.image_shape
    return Row(
        f"{config.backbone}, {height}x{width}x{channels}, batch {size}",
        {name: per_second(size, own) for name, own in seconds.items()},
        # Twice as fast is half the time.
        {SUPERVISED_RATIO: (SUPERVISED, D2)} | ({TORCH_RATIO: (D2, TORCH)} if has_torch else {}),
        note="" if has_torch else "PyTorch is not installed, so it is not compared with.",
        steps=steps,
    )


def supervised(config: Config) -> keras.Model:
    """The network with cross entropy and nothing measured but the loss: Keras' leanest `fit`."""
    network = networks.build_backbone(config)
    network.compile(
        optimizer=CoupledSGD(networks.LEARNING_RATE, momentum=config.momentum, weight_decay=config.weight_decay),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    return network


def mixed_rows(labels: np.ndarray, config: Config) -> np.ndarray:
    """Labeled and unlabeled rows as in a batch of stage 2, `[batch]`."""
    generator = np.random.default_rng(0)
    labeled = generator.choice(config.num_labels, config.labeled_per_batch, replace=False)
    unlabeled = generator.choice(np.arange(config.num_labels, len(labels)), config.batch_size - len(labeled), replace=False)
    return generator.permutation(np.concatenate([labeled, unlabeled]))


def _torch_steps(config: Config, labels: np.ndarray, images: np.ndarray, rows: np.ndarray, settings: Settings) -> Work:
    import torch

    from tools.benchmark.torch_arm import TorchD2

    torch.set_num_threads(settings.threads)
    # As TensorFlow does.
    torch.set_flush_denormal(True)
    arm = TorchD2(config, labels, networks.LEARNING_RATE)
    if settings.torch_compile:
        arm.compile()
    ready, ready_rows = arm.batch(images), torch.from_numpy(rows)

    def work(steps: int) -> None:
        for _ in range(steps):
            arm.step(ready, ready_rows)

    return work
