import keras
import numpy as np
import pytest

from export import eight_bits, inference
from export.formats import stage
from export.serving_model import ServingModel
from r2d2_tf import backbones
from r2d2_tf.backbones.layers import Normalization


@pytest.fixture(scope="module")
def filters():
    return np.random.default_rng(0).normal(size=(25, 40)).astype(np.float32)


def test_rounded_filters_are_eight_bits_of_their_largest_weight(filters):
    levels = eight_bits.rounded(filters) / np.abs(filters).max(0) * 127
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
    np.testing.assert_allclose(np.abs(levels).max(0), 127, rtol=1e-6)
    assert np.abs(levels - filters / np.abs(filters).max(0) * 127).max() < 1


def test_rounded_filters_keep_their_sum(filters):
    scale = np.abs(filters).max(0) / 127
    nearest = np.round(filters / scale) * scale
    assert (np.abs(eight_bits.rounded(filters) - filters).mean(0) < 2 * np.abs(nearest - filters).mean(0)).all()
    assert (np.abs((eight_bits.rounded(filters) - filters).sum(0)) <= 0.501 * scale).all()
    assert (np.abs((nearest - filters).sum(0)) > 0.501 * scale).mean() > 0.5


def test_a_filter_of_zeros_and_one_of_a_single_weight_stay():
    np.testing.assert_array_equal(eight_bits.rounded(np.zeros((9, 1), np.float32)), 0)
    np.testing.assert_allclose(eight_bits.rounded(np.float32([[0.3, -7.0]])), [[0.3, -7.0]], rtol=1e-6)


def edges(image_shape):
    """A network that finds edges, for pixels that change little from one to the next."""
    keras.utils.set_random_seed(0)
    images = keras.Input(image_shape)
    x = Normalization([1 / 58.0] * 3, [-2.1, -2.0, -1.8])(images)
    x = keras.layers.DepthwiseConv2D(5, depth_multiplier=4, use_bias=False)(x)
    network = keras.Model(images, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))))
    kernel = network.layers[2].kernel
    kernel.assign(30 * (kernel - keras.ops.mean(kernel, (0, 1))))
    return network


def test_eight_bits_see_the_edges_in_smooth_images(tmp_path):
    random = np.random.default_rng(0)
    brightness, slope = random.uniform(0, 200, (60, 1, 1, 3)), random.uniform(0, 50, (60, 1, 1, 3))
    pixels = np.broadcast_to(brightness + slope * np.linspace(0, 1, 64)[:, None, None], (60, 64, 20, 3)).astype(np.uint8)
    network = edges((64, 20, 3))
    model = ServingModel(network, list("abcde"), pixels)
    expected = model.predict(pixels)
    weights = network.get_weights()
    actual = inference.load(stage("tflite_int8", model, tmp_path)).predict(pixels)
    # 0.06; of two normalizing steps 0.10, of kernels rounded to the nearest 0.36.
    assert np.abs(actual - expected).mean() < 0.08 * np.ptp(expected, 0).mean()
    for after, before in zip(network.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(after, before)


def test_a_network_normalizes_by_a_convolution_as_before():
    network = backbones.build("lenet_2d", (14, 20, 1), 3, mean=(0.1,), std=(0.3,), network_size=28)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 14, 20, 1), np.uint8)
    at_once = eight_bits.normalizing_at_once(network)
    assert not any(isinstance(layer, Normalization) for layer in at_once.layers)
    np.testing.assert_allclose(at_once(pixels), network(pixels), rtol=1e-4, atol=1e-5)
