"""The network of a run, made as its config says; other_runs.py gives it another run's weights."""

import keras
import tensorflow as tf

from r2d2_tf import backbones
from r2d2_tf.config import Config
from r2d2_tf.image_data import DatasetSpec


def build(config: Config, spec: DatasetSpec, strategy: tf.distribute.Strategy) -> keras.Model:
    """Makes the network in the strategy's scope; the seed decides its weights.

    Raises:
        ValueError: in one line, if there is no such network or it does not fit the images.
    """
    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        return backbones.build(
            config.backbone,
            spec.image_shape,
            spec.num_classes,
            mean=spec.mean,
            std=spec.std,
            synchronized_batch_norm=config.synchronized_batch_norm,
            mixed_precision=config.mixed_precision,
        )
