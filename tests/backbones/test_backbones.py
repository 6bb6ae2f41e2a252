import functools
import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, make_strategy

from export import inference
from export.formats import EXPORTERS, stage
from export.serving_model import ServingModel
from r2d2_tf import backbones
from r2d2_tf.backbones.layers import (
    FusedBatchNormalization,
    Normalization,
    ShakeShake,
    WeightNormConv2D,
    WeightNormDense,
    batch_norm,
    conv,
    dense,
    head_of,
)

SHAPES = {"lenet": (28, 28, 1), "lenet_2d": (28, 28, 1), "resnet18": (64, 64, 3)}
PARAMETERS = {
    ("lenet", 28, 10): 431_080,
    ("lenet_2d", 28, 10): 427_102,
    ("shake_shake_26_2x96d", 32, 10): 26_193_466,
    ("shake_shake_26_2x96d", 32, 100): 26_228_116,
    ("shake_shake_26_2x32d", 32, 10): 2_923_322,
    ("conv_large", 32, 10): 3_121_802,
    ("conv_large", 32, 100): 3_133_412,
    ("conv_large_weight_norm", 32, 10): 3_125_908,
    ("conv_large_weight_norm", 32, 100): 3_137_608,
    ("wrn_28_2", 32, 10): 1_467_610,
    ("wrn_16_2", 32, 10): 691_674,
    ("cifar_fast", 32, 10): 1_972_826,
    ("cifar_fast", 32, 100): 1_995_956,
    ("conv_small", 32, 10): 72_954,
    ("conv_medium", 32, 10): 1_148_874,
    ("resnet18", 224, 1000): 11_689_512,
    ("efficientnet_lite0", 224, 1000): 4_652_008,
    ("efficientnet_lite1", 240, 1000): 5_416_680,
    ("efficientnet_lite2", 260, 1000): 6_092_072,
}
LARGER = ("shake_shake_26_2x96d", "efficientnet_lite1", "efficientnet_lite2")
"""The same code as others, and slow."""
SMALL = [name for name in backbones.BACKBONES if name not in LARGER]


def shape_of(name):
    return SHAPES.get(name, (32, 32, 3))


def build(name, shape=None, classes=10):
    shape = shape or shape_of(name)
    return backbones.build(name, shape, classes, mean=[0.2] * shape[2], std=[0.5] * shape[2])


@functools.cache
def built(name, side, classes):
    """A network whose weights nobody may leave changed."""
    keras.utils.set_random_seed(0)
    return build(name, (side, side, shape_of(name)[2]), classes)


def pixels_of(name, count=3):
    return np.random.default_rng(0).integers(0, 256, (count, *shape_of(name))).astype(np.uint8)


@pytest.mark.parametrize(("key", "count"), PARAMETERS.items(), ids=[f"{key[0]}_{key[2]}" for key in PARAMETERS])
def test_every_backbone_has_its_parameters(key, count):
    assert sum(int(np.prod(w.shape)) for w in built(*key).trainable_variables) == count


def test_no_backbone_is_missing_from_the_counts():
    assert {name for name, _, _ in PARAMETERS} == set(backbones.BACKBONES)


@pytest.mark.parametrize("name", SMALL)
def test_every_backbone_gives_one_logit_a_class_for_raw_pixels(name):
    logits = np.asarray(built(name, shape_of(name)[0], 10)(pixels_of(name)))
    assert logits.shape == (3, 10)
    assert logits.min() < 0, "logits, not probabilities"


@pytest.mark.parametrize("name", SMALL)
def test_every_backbone_survives_saving_and_safe_loading(name, tmp_path):
    model, pixels = built(name, shape_of(name)[0], 10), pixels_of(name)
    initial = model.get_weights()
    model(pixels, training=True)
    for weight in model.trainable_variables:
        weight.assign(weight * 1.1)
    model.save(tmp_path / "backbone.keras")
    loaded = keras.saving.load_model(tmp_path / "backbone.keras", compile=False, safe_mode=True)
    np.testing.assert_array_equal(loaded(pixels), model(pixels))
    model.set_weights(initial)


FEWER_BITS = {"tflite_float16": (0.01, 0.0), "tflite_dynamic": (0.1, 0.0), "tflite_int8": (0.1, 1 / 256)}
"""Largest difference to the network: a share of the range of its probabilities, which untrained are alike, and their step."""
FAST_EXPORTS = [("lenet_2d", kind) for kind in EXPORTERS] + [
    ("conv_small", "onnx"),
    ("conv_small", "tflite_int8"),
]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(name, kind, marks=[] if (name, kind) in FAST_EXPORTS else pytest.mark.slow)
        for name in backbones.BACKBONES
        for kind in EXPORTERS
    ],
)
def test_every_backbone_exports_in_every_format(name, kind, tmp_path):
    model, pixels = built(name, shape_of(name)[0], 10), pixels_of(name, 8)
    names = [f"class {number}" for number in range(model.output_shape[-1])]
    path = stage(kind, ServingModel(model, names, pixels), tmp_path)
    expected = np.asarray(keras.ops.softmax(model(pixels, training=False)))
    actual = inference.load(path).predict(pixels)
    share, step = FEWER_BITS.get(kind, (0.0, 1e-5))
    tolerance = share * np.ptp(expected) + step
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", ["onnx", "tflite", pytest.param("tflite_int8", marks=pytest.mark.slow)])
def test_a_network_that_enlarges_its_images_is_exported_with_that(kind, tmp_path):
    keras.utils.set_random_seed(0)
    model = backbones.build("lenet_2d", (14, 20, 1), 3, mean=(0.1,), std=(0.3,), network_size=28)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 14, 20, 1), np.uint8)
    enlarged = tf.image.resize((pixels / 255 - 0.1) / 0.3, (28, 40)).numpy()
    inner = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    expected = np.asarray(keras.ops.softmax(inner(enlarged, training=False)))
    actual = inference.load(stage(kind, ServingModel(model, list("abc"), pixels), tmp_path)).predict(pixels)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=0.1 if kind == "tflite_int8" else 1e-5)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n == "conv_small" else pytest.mark.slow) for n in SMALL])
def test_every_backbone_trains_on_two_replicas(name):
    strategy = make_strategy(2)
    with strategy.scope():
        model = build(name)
        model.compile(
            optimizer=keras.optimizers.SGD(0.01),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
        )
    before = [np.asarray(w) for w in model.get_weights()]
    batches = tf.data.Dataset.from_tensor_slices((pixels_of(name, 4), np.arange(4))).batch(4)
    loss = model.fit(batches, verbose=0, shuffle=False).history["loss"][0]
    assert np.isfinite(loss)
    assert any((old != new).any() for old, new in zip(before, model.get_weights(), strict=True))


def test_normalising_is_inside_the_network():
    model, pixels = build("lenet"), pixels_of("lenet")
    normalized = (pixels / 255.0 - 0.2) / 0.5
    np.testing.assert_allclose(model(pixels), model.layers[-1](normalized), rtol=1e-5, atol=1e-6)


def test_uint8_and_float_pixels_give_the_same():
    model, pixels = build("lenet"), pixels_of("lenet")
    np.testing.assert_array_equal(model(pixels), model(pixels.astype(np.float32)))


def test_the_seed_decides_the_initial_weights():
    weights = []
    for seed in (0, 0, 1):
        keras.utils.set_random_seed(seed)
        weights.append(build("lenet").get_weights()[0])
    np.testing.assert_array_equal(weights[0], weights[1])
    assert (weights[0] != weights[2]).any()


def test_initial_weights_are_the_authors():
    layer = conv(64, 3)
    layer.build((None, 8, 8, 32))
    assert np.std(layer.get_weights()[0]) == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.02)
    layer = dense(200)
    layer.build((None, 100))
    kernel = layer.get_weights()[0]
    assert np.abs(kernel).max() == pytest.approx(0.1, rel=0.01)
    assert np.std(kernel) == pytest.approx(0.1 / np.sqrt(3), rel=0.02)


def test_biases_of_the_papers_heads_are_drawn_as_its_authors_do_and_others_stay_zero():
    def head_bias(name):
        return np.abs(np.asarray(head_of(built(name, 32, 10)).bias))

    for name, features in (("shake_shake_26_2x32d", 128), ("conv_large", 128), ("conv_large_weight_norm", 128)):
        assert 0.4 * features**-0.5 < head_bias(name).max() <= features**-0.5, name
    assert not head_bias("lenet").any()
    assert not head_bias("conv_small").any()


def test_a_skip_of_stride_2_counts_the_outputs_of_both_halves_of_its_grouped_convolution():
    network = next(layer for layer in built("shake_shake_26_2x32d", 32, 10).layers if isinstance(layer, keras.Model))
    halves = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D) and layer.use_bias]
    assert [(layer.kernel.shape[2], layer.filters) for layer in halves] == [(32, 32), (32, 32), (64, 64), (64, 64)]
    for layer in halves:
        channels, filters = layer.kernel.shape[2:]
        assert np.std(layer.kernel) == pytest.approx(np.sqrt(2 / (2 * filters)), rel=0.1)
        assert 0.8 * channels**-0.5 < np.abs(layer.bias).max() <= channels**-0.5


FEATURES = np.random.default_rng(0).normal(2.0, 3.0, (8, 5, 5, 4)).astype(np.float32)


def test_fused_batch_normalisation_is_keras_own_but_for_the_unbiased_running_variance():
    ours, keras_own = batch_norm(), keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    assert isinstance(ours, FusedBatchNormalization)
    for _ in range(3):
        np.testing.assert_allclose(ours(FEATURES, training=True), keras_own(FEATURES, training=True), atol=1e-5)
    np.testing.assert_allclose(ours.moving_mean, keras_own.moving_mean, rtol=1e-5)
    count = 8 * 5 * 5
    weight = 1 - 0.9**3
    expected = (np.asarray(keras_own.moving_variance) - (1 - weight)) * count / (count - 1) + (1 - weight)
    np.testing.assert_allclose(ours.moving_variance, expected, rtol=1e-5)
    keras_own.moving_variance.assign(ours.moving_variance)
    np.testing.assert_allclose(ours(FEATURES, training=False), keras_own(FEATURES, training=False), atol=1e-5)


def test_weight_normalisation_agrees_with_tensorflow_addons():
    path = Path(os.environ.get("R2D2_TF_REFERENCE", ROOT.parent / "shared" / "reference")) / "tensorflow_addons_vectors.npz"
    if not path.is_file():
        pytest.skip(f"NO REFERENCE NUMBERS: {path} is absent; set R2D2_TF_REFERENCE to its folder")
    vectors = np.load(path)
    layer = WeightNormConv2D(5, 3, padding="same")
    layer.build((None, 8, 8, 3))
    layer.v.assign(vectors["conv_v"])
    layer.g.assign(vectors["conv_g"])
    layer.bias.assign(vectors["conv_bias"])
    np.testing.assert_allclose(layer(vectors["images"]), vectors["weight_norm_conv_same"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", [WeightNormConv2D(6, 3), WeightNormDense(6)], ids=["conv", "dense"])
def test_weight_normalisation_starts_as_the_plain_layer_and_learns_length_and_direction(layer):
    layer.build((None, 8, 8, 3) if isinstance(layer, WeightNormConv2D) else (None, 8))
    np.testing.assert_allclose(layer.kernel, layer.v, rtol=1e-5, atol=1e-6)
    layer.g.assign(layer.g * 2)
    np.testing.assert_allclose(layer.kernel, 2 * np.asarray(layer.v), rtol=1e-5, atol=1e-6)
    layer.v.assign(layer.v * 5)
    lengths = np.sqrt((np.asarray(layer.kernel) ** 2).reshape(-1, 6).sum(0))
    np.testing.assert_allclose(lengths, layer.g, rtol=1e-5)
    assert {w.path.split("/")[-1] for w in layer.trainable_variables} == {"kernel", "g", "bias"}


def test_shake_shake_mixes_each_image_by_its_own_weight_and_halves_in_evaluation():
    layer = ShakeShake()
    zeros, ones = np.zeros((64, 3, 3, 2), np.float32), np.ones((64, 3, 3, 2), np.float32)
    mixed = np.asarray(layer((ones, zeros), training=True))
    weights = mixed[:, 0, 0, 0]
    assert (mixed == weights[:, None, None, None]).all()
    assert len(set(weights)) == 64
    assert 0 <= weights.min() < 0.2
    assert 0.8 < weights.max() <= 1
    np.testing.assert_array_equal(layer((ones, zeros), training=False), 0.5 * ones)


def test_shake_shakes_backward_weights_are_fresh_and_independent():
    layer = ShakeShake()
    zeros, ones = tf.zeros((256, 1, 1, 1)), tf.ones((256, 1, 1, 1))
    with tf.GradientTape() as tape:
        tape.watch([ones, zeros])
        mixed = layer((ones, zeros), training=True)
    first, second = (g.numpy().ravel() for g in tape.gradient(mixed, (ones, zeros)))
    np.testing.assert_allclose(first + second, 1.0, rtol=1e-6)
    assert abs(np.corrcoef(first, mixed.numpy().ravel())[0, 1]) < 0.2
    assert first.std() == pytest.approx(np.sqrt(1 / 12), rel=0.15)


@pytest.mark.parametrize("channels", [1, 3])
def test_normalising_is_keras_rescaling_bit_for_bit(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 9, channels)).astype(np.uint8)
    scale, offset = [0.017, 0.0175, 0.016][:channels], [-2.1, -2.0, -1.8][:channels]
    ours, theirs = Normalization(scale, offset), keras.layers.Rescaling(scale, offset)
    np.testing.assert_array_equal(ours(pixels), theirs(pixels))
    np.testing.assert_array_equal(ours(keras.Input((7, 9, channels))).shape, (None, 7, 9, channels))
