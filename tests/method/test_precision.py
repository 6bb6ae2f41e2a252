"""Mixed precision: what computes in 16 bits, and what never does."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import NUM_CLASSES, SHORT, StopAt, batches_of, make_model, make_strategy, table_values, tiny_images, tiny_labels

from export import inference
from export.formats import stage
from export.serving_model import ServingModel, in_float32
from r2d2_tf import backbones
from r2d2_tf.backbones.layers import batch_norm
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.method import finite
from r2d2_tf.method import mixed_precision as precision
from r2d2_tf.system.interrupts import RunInterrupted
from r2d2_tf.training.experiment import Experiment
from tools.torture.exactness import differences

HALVES = ("bfloat16", "float16")
SHAPES = {"lenet": (28, 28, 1), "lenet_2d": (28, 28, 1), "resnet18": (64, 64, 3)}
LARGER = ("shake_shake_26_2x96d", "efficientnet_lite1", "efficientnet_lite2")
FAST = ("conv_small", "conv_large_weight_norm")
NAMES = [pytest.param(n, marks=[] if n in FAST else pytest.mark.slow) for n in backbones.BACKBONES if n not in LARGER]
COUNT, LABELED = 12, 4
ROWS = np.random.default_rng(1).normal(size=(COUNT, NUM_CLASSES))


def build(name, mixed_precision="none"):
    keras.utils.set_random_seed(0)
    shape = SHAPES.get(name, (32, 32, 3))
    colors = {"mean": [0.2] * shape[2], "std": [0.5] * shape[2]}
    return backbones.build(name, shape, 10, **colors, mixed_precision=mixed_precision)


def pixels_of(name):
    return np.random.default_rng(0).integers(0, 256, (4, *SHAPES.get(name, (32, 32, 3)))).astype(np.uint8)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", NAMES)
def test_a_backbone_computes_in_16_bits_and_keeps_float32_weights_and_logits(name, half):
    network, float32, pixels = build(name, half), build(name), pixels_of(name)
    network(pixels, training=True)
    float32.set_weights(network.get_weights())
    assert {weight.dtype for weight in network.trainable_variables} == {"float32"}
    assert {layer.compute_dtype for layer in network.get_layer(name).layers} == {half}
    logits, expected = (np.asarray(n(pixels, training=False)) for n in (network, float32))
    assert logits.dtype == np.float32
    assert 0 < np.linalg.norm(logits - expected) < 0.05 * np.linalg.norm(expected)
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("synchronized", [False, True], ids=["own", "synchronized"])
def test_batch_normalisation_keeps_its_statistics_in_float32(half, synchronized):
    features = tf.cast(np.random.default_rng(0).normal(2.0, 3.0, (8, 5, 5, 4)), half)
    float32, layer = batch_norm(), batch_norm(synchronized=synchronized)
    layer.dtype_policy = f"mixed_{half}"
    for training in (True, True, False):
        output, expected = layer(features, training=training), float32(tf.cast(features, tf.float32), training=training)
        assert output.dtype == half
        np.testing.assert_allclose(tf.cast(output, tf.float32), expected, atol=0.05)
    np.testing.assert_allclose(layer.moving_variance, float32.moving_variance, rtol=1e-4)


@pytest.mark.parametrize("kind", ["saved_model", "tflite", "onnx"])
def test_an_export_of_a_saved_network_predicts_in_float32(kind, tmp_path):
    name = "conv_small"
    network, pixels = build(name, "float16"), pixels_of(name)
    network.save(tmp_path / "network.keras")
    loaded = backbones.load(tmp_path / "network.keras")
    np.testing.assert_array_equal(loaded(pixels), network(pixels))
    names = [str(number) for number in range(loaded.output_shape[-1])]
    path = stage(kind, ServingModel(in_float32(loaded), names, pixels), tmp_path)
    float32 = build(name)
    float32.set_weights(network.get_weights())
    probabilities = inference.load(path).predict(pixels)
    np.testing.assert_allclose(probabilities, keras.ops.softmax(float32(pixels)), atol=1e-5)


def scaled_model(strategy, *, scale=2.0**15, hidden=(), **arguments):
    """A model whose loss is scaled, as in a float16 run; the network itself computes in float32, so that it can be compared."""
    model = make_model(strategy, tiny_labels(COUNT, LABELED), rows=ROWS, hidden=hidden, **arguments)
    with strategy.scope():
        optimizer = precision.built(keras.optimizers.SGD(0.1, momentum=0.9), model.trainable_variables, "float16")
        model.compile(optimizer=optimizer, jit_compile=False)
    optimizer.dynamic_scale.assign(scale)
    return model


def fit(model, images=None, epochs=1):
    images = tiny_images(COUNT) if images is None else images
    model.fit(batches_of(images, np.arange(COUNT), COUNT), epochs=epochs, shuffle=False, verbose=0)
    return table_values(model.table), [weight.numpy() for weight in model.trainable_variables]


def test_the_scale_touches_neither_rows_nor_weights(strategy):
    plain = make_model(strategy, tiny_labels(COUNT, LABELED), rows=ROWS, weight_decay=0.1)
    with strategy.scope():
        optimizer = precision.built(keras.optimizers.SGD(0.1, momentum=0.9), plain.trainable_variables, "none")
        plain.compile(optimizer=optimizer, jit_compile=False)
    table, weights = fit(plain, epochs=2)
    scaled = [fit(scaled_model(strategy, scale=scale, weight_decay=0.1), epochs=2) for scale in (1.0, 2.0**60)]
    for scaled_table, scaled_weights in scaled:
        # Exactly: a power of two shifts an exponent.
        np.testing.assert_array_equal(scaled_table, scaled[0][0])
        for one, two in zip(scaled_weights, scaled[0][1], strict=True):
            np.testing.assert_array_equal(one, two)
    # To rounding: TensorFlow fuses the operations of another graph in another way.
    np.testing.assert_allclose(scaled[0][0], table, rtol=1e-5, atol=1e-6)
    for one, two in zip(scaled[0][1], weights, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


@keras.saving.register_keras_serializable(package="tests")
class OverflowsBackward(keras.layers.Layer):
    """Passes its input on; back, what belongs to images whose first number is above 100 is infinite."""

    def call(self, inputs):
        @tf.custom_gradient
        def passed(x):
            large = tf.reshape(x, [tf.shape(x)[0], -1])[:, :1] > 100.0
            return x, lambda upstream: tf.where(large, upstream * float("inf"), upstream)

        return passed(inputs)


HIDDEN = (keras.layers.Flatten, lambda: keras.layers.Dense(2), OverflowsBackward)


def overflowing(strategy, image, **arguments):
    """A model in which the gradient of one image overflows, and images."""
    images = tiny_images(COUNT)
    if image is not None:
        images[image] = 1e4
    model = scaled_model(strategy, hidden=tuple(make() for make in HIDDEN), **arguments)
    kernel = model.trainable_variables[0]
    kernel.assign(tf.abs(kernel))
    return model, images


# The last image is the second replica's: Keras' LossScaleOptimizer itself looks at the first replica alone.
@pytest.mark.parametrize("image", [0, COUNT - 1], ids=["first", "last"])
def test_where_a_gradient_overflows_the_weights_wait_and_every_row_descends(image, strategy):
    model, images = overflowing(strategy, image)
    before = [weight.numpy() for weight in model.trainable_variables]
    table, after = fit(model, images)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    assert float(model.optimizer.dynamic_scale.numpy()) == 2.0**14
    old = table_values(make_model(strategy, tiny_labels(COUNT, LABELED), rows=ROWS).table)
    assert (table[LABELED:] != old[LABELED:]).any(1).all()
    _, later = fit(model)
    assert all(np.isfinite(weight).all() for weight in later)
    assert any((old != new).any() for old, new in zip(after, later, strict=True))


def test_a_gradient_that_overflows_without_a_scale_stops_the_run_and_is_named(strategy):
    model, images = overflowing(strategy, 0, scale=4.0)
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        fit(model, images, epochs=9)
    assert re.fullmatch("the gradient of .*kernel", finite.name_of(error.value))
    assert float(model.optimizer.dynamic_scale.numpy()) == precision.LOWEST_SCALE


def test_a_loss_that_is_not_finite_stops_the_run_whatever_the_scale(strategy):
    images = tiny_images(COUNT)
    images[3] = np.nan
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        fit(scaled_model(strategy), images)
    assert finite.name_of(error.value) == "the loss"


def test_the_learning_rate_of_a_scaled_optimizer_can_be_set():
    optimizer = scaled_model(make_strategy(1)).optimizer
    optimizer.learning_rate.assign(0.25)
    assert float(optimizer.inner_optimizer.learning_rate.numpy()) == 0.25
    assert {"dynamic_scale", "step_counter"} <= {variable.name for variable in optimizer.variables}


@pytest.mark.slow
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("replicas", [1, 2])
def test_a_stopped_run_goes_on_bit_for_bit(half, replicas, tmp_path):
    flags = ["--max_steps=4", "--supervised_epochs=2", "--rounds=2:0.01", "--deterministic", f"--mixed_precision={half}"]
    devices = ["--num_logical_cpus=2", "--strategy=mirrored"] if replicas == 2 else []
    counts = []
    for name, checks in (("undisturbed", 0), ("stopped", 8), ("stopped", 0)):
        config = from_command_line([*SHORT, *flags, *devices, f"--run_dir={tmp_path / name}"])
        experiment = Experiment(config, signals=StopAt(checks))
        try:
            with experiment.claimed() as folder:
                experiment.run(folder, 0.0)
        except RunInterrupted:
            assert checks
        counts.append([int(v.numpy()) for v in experiment.model.optimizer.variables if v.name == "step_counter"])
    assert differences(tmp_path / "undisturbed", tmp_path / "stopped") == []
    assert counts[0] == counts[2] == ([4] if half == "float16" else [])
