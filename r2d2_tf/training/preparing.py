"""What a stage asks of the model before its first step."""

import tensorflow as tf

from r2d2_tf.config.config import Config
from r2d2_tf.method import mixed_precision as precision
from r2d2_tf.method.model import R2D2Model
from r2d2_tf.method.weight_average import WeightAverage
from r2d2_tf.training.optimizer import sgd
from r2d2_tf.training.stages import Stage


def prepare(model: R2D2Model, stage: Stage, config: Config, strategy: tf.distribute.Strategy) -> None:
    """Sets the switches of a stage, and compiles the model anew."""
    model.use_unlabeled, model.learn_pseudo_labels = stage.images.use_unlabeled, stage.learn_pseudo_labels
    model.weight_decay, model.compatibility = stage.weight_decay, config.compatibility
    model.weighs_certainty = stage.weighs_certainty
    model.table.labeled_step = stage.labeled_step(len(model.table.labeled_rows), len(model.table.unlabeled_rows))
    with strategy.scope():
        # A new optimizer each stage; through the rounds of stage 2 its momentum lives on.
        optimizer = sgd(model.backbone, stage.learning_rates[0], momentum=config.momentum, body_share=stage.body_share)
        model.compile(precision.built(optimizer, model.trainable_variables, config.mixed_precision))
    model.average = WeightAverage(model, config.ema) if config.ema else None
