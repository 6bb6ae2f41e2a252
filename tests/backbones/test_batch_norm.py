"""Batch normalisation over the images of all replicas."""

import keras
import numpy as np
import pytest
import small_network
import tensorflow as tf
from conftest import batches_of, make_strategy, table_values

from r2d2_tf import backbones
from r2d2_tf.backbones.layers import FusedBatchNormalization, batch_norm
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.data.image_data import UNLABELED
from r2d2_tf.method.losses import CLASS_LOSSES
from r2d2_tf.method.model import R2D2Model
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from r2d2_tf.training.experiment import Experiment

SHAPE, CLASSES = (16, 16, 3), 3
FEATURES = np.random.default_rng(0).normal(2.0, 3.0, (8, 5, 5, 4)).astype(np.float32)


def build(*, synchronized):
    colors = {"mean": [0.5] * 3, "std": [0.25] * 3}
    name = f"{small_network.__name__}:twice_normalized"
    return backbones.build(name, SHAPE, CLASSES, **colors, synchronized_batch_norm=synchronized)


def learned(replicas, *, epochs):
    """Weights and running statistics, and the table, after `epochs` of D2 on batches of 8, 8, 3, 8 and 1 images."""
    strategy, labels = make_strategy(replicas), np.full(28, UNLABELED)
    labels[::3] = np.arange(10) % CLASSES
    table = PseudoLabelTable(labels, CLASSES)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        loss = CLASS_LOSSES["reverse_kl"]
        model = R2D2Model(build(synchronized=True), table, class_loss=loss, alpha=0.1, beta=0.03, pseudo_label_lr=4000.0)
        model.use_unlabeled = model.learn_pseudo_labels = True
        optimizer = keras.optimizers.SGD(0.02, momentum=0.9, nesterov=True)
        optimizer.build(model.trainable_variables)
        model.compile(optimizer=optimizer, jit_compile=False)
    images = np.random.default_rng(0).integers(0, 256, (28, *SHAPE)).astype(np.uint8)
    batches = batches_of(images[:19], np.arange(19), 8).concatenate(batches_of(images[19:], np.arange(19, 28), 8))
    model.repredict(batches)
    model.fit(batches, epochs=epochs, verbose=0, shuffle=False)
    return np.concatenate([weight.ravel() for weight in model.backbone.get_weights()]), table_values(table)


def test_one_and_two_replicas_agree_on_uneven_batches_and_where_one_gets_no_images():
    for one, two in zip(learned(1, epochs=3), learned(2, epochs=3), strict=True):
        assert np.linalg.norm(one - two) < 1e-5 * np.linalg.norm(one)


def test_on_one_replica_it_is_the_fused_one_to_rounding():
    ours, fused = batch_norm(synchronized=True), batch_norm()
    for layer in (ours, fused):
        layer.build(FEATURES.shape)
        layer.gamma.assign([1.0, 2.0, 0.5, -1.0])
        layer.beta.assign([0.0, 1.0, -1.0, 2.0])
    for training in (True, True, False):
        np.testing.assert_allclose(ours(FEATURES, training=training), fused(FEATURES, training=training), atol=1e-5)
    for mine, other in zip(ours.get_weights(), fused.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


def test_features_far_from_zero_keep_their_variance():
    layer = batch_norm(synchronized=True)
    far = 1000.0 + FEATURES
    np.testing.assert_allclose(layer(far, training=True), batch_norm()(FEATURES, training=True), atol=1e-3)


def test_what_a_replica_without_images_is_shown_stays_out_of_the_statistics():
    strategy = make_strategy(2)
    with strategy.scope():
        layer = batch_norm(synchronized=True)
        layer.build(FEATURES.shape)

    @tf.function
    def step(features, count):
        return strategy.run(lambda x, n: layer(x, training=True, num_images=n), args=(features, count))

    def part(one, two):
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant((one, two)[context.replica_id_in_sync_group])
        )

    outputs = step(part(FEATURES, np.full((1, 5, 5, 4), 9.0, np.float32)), part(len(FEATURES), 0))
    alone = batch_norm(synchronized=True)
    np.testing.assert_allclose(strategy.experimental_local_results(outputs)[0], alone(FEATURES, training=True), atol=1e-6)
    np.testing.assert_allclose(layer.moving_mean, alone.moving_mean, rtol=1e-6)


def test_it_takes_over_the_weights_of_the_fused_one(tmp_path):
    ours, fused = build(synchronized=True), build(synchronized=False)
    fused.save_weights(tmp_path / "fused.weights.h5")
    ours.load_weights(tmp_path / "fused.weights.h5")
    for mine, other in zip(ours.get_weights(), fused.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_a_saved_network_is_read_and_predicts_the_same(tmp_path):
    network, pixels = build(synchronized=True), np.full((2, *SHAPE), 100, np.uint8)
    network(pixels, training=True)
    network.save(tmp_path / "network.keras")
    np.testing.assert_array_equal(backbones.load(tmp_path / "network.keras")(pixels), network(pixels))


@pytest.mark.parametrize("flags", [[], ["--synchronized_batch_norm"]], ids=["by_default", "with_the_flag"])
def test_the_flag_synchronizes_every_layer(flags):
    network = Experiment(from_command_line(["--backbone=conv_small", *flags])).model.backbone
    norms = [layer for layer in network.layers[-1].layers if isinstance(layer, FusedBatchNormalization)]
    assert [layer.synchronized for layer in norms] == [bool(flags)] * 6


def test_keras_still_passes_arguments_down_by_the_private_name():
    assert callable(getattr(keras.layers.Layer, "_register_call_context_args", None))
