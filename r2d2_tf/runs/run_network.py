"""The network of a run, made as its config says; other_runs.py gives it another run's weights."""

from pathlib import Path

import keras
import tensorflow as tf

from r2d2_tf import backbones
from r2d2_tf.backbones import weights
from r2d2_tf.config import flag_checks
from r2d2_tf.config.config import Config
from r2d2_tf.data.image_data import DatasetSpec


def build(config: Config, spec: DatasetSpec, strategy: tf.distribute.Strategy) -> tuple[keras.Model, str]:
    """Makes the network in the strategy's scope; the seed decides its weights, or those that do not come from a file.

    A run that goes on does so too, though a checkpoint has the weights. One with `--warm_start` reads no file: it gets that
    run's weights. ImageNet's it does take, as a network of keras.applications may be another one with them.

    Returns:
        The network; and where its weights come from, for people, if they are not at random.

    Raises:
        ValueError: in one line, if there is no such network, it does not fit the images, or its weights are not there.
    """
    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        network = backbones.build(
            config.backbone,
            spec.image_shape,
            spec.num_classes,
            mean=spec.mean,
            std=spec.std,
            synchronized_batch_norm=config.synchronized_batch_norm,
            mixed_precision=config.mixed_precision,
            imagenet=config.weights == flag_checks.IMAGENET,
            download=config.download,
            network_size=config.network_size,
        )
        if config.weights == flag_checks.IMAGENET:
            return network, "ImageNet's weights, the head at random"
        if config.weights == flag_checks.NO_WEIGHTS or config.warm_start:
            return network, ""
        return network, weights.load_file(network, Path(config.weights).expanduser())
