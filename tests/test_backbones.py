import keras
import numpy as np
import pytest

from r2d2_tf import backbones
from r2d2_tf.backbones.layers import conv, dense

MEAN, STD = (0.2,), (0.5,)
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1)).astype(np.uint8)


def build(name):
    return backbones.build(name, (28, 28, 1), 10, mean=MEAN, std=STD)


@pytest.mark.parametrize("name", backbones.BACKBONES)
def test_every_backbone_gives_one_logit_a_class_for_raw_pixels(name):
    logits = build(name)(PIXELS)
    assert logits.shape == (3, 10)
    assert np.asarray(logits).min() < 0, "logits, not probabilities"


@pytest.mark.parametrize("name", backbones.BACKBONES)
def test_every_backbone_survives_saving_and_safe_loading(name, tmp_path):
    model = build(name)
    model.save(tmp_path / "backbone.keras")
    loaded = keras.saving.load_model(tmp_path / "backbone.keras", compile=False, safe_mode=True)
    np.testing.assert_array_equal(loaded(PIXELS), model(PIXELS))


def test_normalising_is_inside_the_network():
    model = build("lenet")
    normalized = (PIXELS / 255.0 - MEAN) / STD
    np.testing.assert_allclose(model(PIXELS), model.layers[-1](normalized), rtol=1e-5, atol=1e-6)


def test_uint8_and_float_pixels_give_the_same():
    model = build("lenet")
    np.testing.assert_array_equal(model(PIXELS), model(PIXELS.astype(np.float32)))


def test_lenet_has_its_parameters():
    assert build("lenet").count_params() == 431_080


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
