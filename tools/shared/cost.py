"""What a run costs: images, and the multiply-adds of its network. An estimate: convolutions and dense layers alone."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from r2d2_tf.config.config import Config
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.system.startup import import_tensorflow_quietly

GPU = 10e12
"""Operations a second of the GPU that times are estimated for, sustained in float32."""
CPU_CORE = 40e9
"""Of one CPU core: what configs/cifar10_cpu.cfg sustained over the rows of table 1 in docs/results, evaluation included."""


@dataclass(frozen=True)
class Cost:
    """Images that a run trains on, and images that it only predicts."""

    trained: int
    predicted: int

    def without(self, other: "Cost") -> "Cost":
        """The rest, where `other` is done already."""
        return Cost(self.trained - other.trained, self.predicted - other.predicted)

    def seconds(self, multiply_adds: float, speed: float) -> float:
        """Seconds at `speed` operations a second: a trained image costs three forward passes."""
        return (3 * self.trained + self.predicted) * 2 * multiply_adds / speed


def cost_of(config: Config, num_train: int) -> Cost:
    """The cost of a run on `num_train` training images, without evaluation."""
    import_tensorflow_quietly()
    from r2d2_tf.training.stages import plan

    num_labeled = config.num_labels or num_train
    num_unlabeled = num_train - num_labeled
    trained = predicted = 0
    for stage in plan(config, spec_of(config)):
        images = stage.images.steps_per_epoch(num_labeled, num_unlabeled) * stage.images.batch_size
        trained += stage.epochs * images
        # At the end of stage 2 the rows are compared with the network once more.
        predicted += (len(stage.prediction_epochs) + stage.learn_pseudo_labels) * num_unlabeled
    return Cost(trained, predicted)


def multiply_adds(config: Config) -> int:
    """Multiply-adds of the config's network for one image."""
    import_tensorflow_quietly()
    from r2d2_tf import backbones

    spec = spec_of(config)
    network = backbones.build(config.backbone, spec.image_shape, spec.num_classes, mean=spec.mean, std=spec.std)
    with_kernel = [layer for layer in _flat(network) if getattr(layer, "kernel", None) is not None]
    return sum(math.prod((*layer.kernel.shape, *layer.output.shape[1:-1])) for layer in with_kernel)


def _flat(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        yield from _flat(layer) if hasattr(layer, "layers") else (layer,)
