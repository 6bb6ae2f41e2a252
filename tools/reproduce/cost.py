"""What a run of a config costs: images, and the multiply-adds of its network."""

import math
from collections.abc import Iterator
from typing import Any

from r2d2_tf.config.config import Config
from r2d2_tf.recipes.image_cost import Cost
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.system.startup import import_tensorflow_quietly


def cost_of(config: Config, num_train: int) -> Cost:
    """The cost of a run on `num_train` training images, without evaluation."""
    import_tensorflow_quietly()
    from r2d2_tf.training.stages import plan
    from r2d2_tf.training.timing.work import predictions_of

    num_labeled = config.num_labels or num_train
    num_unlabeled = num_train - num_labeled
    trained = predicted = 0
    for stage in plan(config, spec_of(config)):
        images = stage.images.steps_per_epoch(num_labeled, num_unlabeled) * stage.images.batch_size
        trained += stage.epochs * images
        predicted += predictions_of(stage) * num_unlabeled
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
