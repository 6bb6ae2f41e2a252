"""Networks of keras.applications and of a user's own module: named, made, trained, resumed, exported."""

import csv
import dataclasses
import importlib
import re
import subprocess
import sys
import time

import h5py
import keras
import numpy as np
import pytest
from conftest import ROOT, SHORT, StopAt

from export import __main__ as export_command
from export import inference
from export.formats import stage
from export.serving_model import ServingModel
from r2d2_tf import backbones, train
from r2d2_tf.backbones import names, preprocessing
from r2d2_tf.backbones.layers import FusedBatchNormalization, head_of
from r2d2_tf.backbones.weights import keras_files
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.runs import preflight
from r2d2_tf.system.interrupts import RunInterrupted
from r2d2_tf.training.experiment import Experiment
from tools.torture.exactness import differences

SMALL = "keras.applications:MobileNetV3Small"
OWN = "own_networks:features"
SOURCE = """
import h5py
import keras
from keras import layers
from keras.layers import *


def features(image_shape):
    images = keras.Input(image_shape)
    x = layers.Conv2D(8, 5, strides=3, use_bias=False)(images)
    x = layers.Dropout(0.2)(layers.ReLU()(layers.BatchNormalization()(x)))
    return keras.Model(images, layers.Conv2D(12, 3, strides=2, activation="relu")(x))


def flat_features(image_shape, width=6):
    return keras.Sequential([keras.Input(image_shape), layers.Flatten(), layers.Dense(width)])


def logits(image_shape, num_classes, batch_norm):
    images = keras.Input(image_shape)
    x = layers.Conv2D(8, 5, strides=3, use_bias=False)(images)
    return keras.Model(images, layers.Dense(num_classes)(layers.Flatten()(batch_norm()(x))))


def normalizes(image_shape):
    return keras.Sequential([keras.Input(image_shape), layers.Normalization(), layers.Conv2D(4, 5, strides=3)])


@keras.saving.register_keras_serializable(package="own_networks")
class Doubled(layers.Layer):
    def call(self, images):
        return 2.0 * images


def own_layers(image_shape):
    return keras.Sequential([keras.Input(image_shape), Doubled(), layers.Conv2D(4, 5, strides=3)])


@keras.saving.register_keras_serializable(package="own_networks")
class Subclassed(keras.Model):
    def __init__(self, num_classes, **options):
        super().__init__(**options)
        self.num_classes = num_classes
        self.parts = [layers.Conv2D(4, 5, strides=3), layers.BatchNormalization(), layers.Flatten(), layers.Dense(num_classes)]

    def call(self, images, training=False):
        convolution, batch_norm, flatten, dense = self.parts
        return dense(flatten(batch_norm(convolution(images), training=training)))

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}


def subclassed(image_shape, num_classes):
    return Subclassed(num_classes)


class Unregistered(layers.Layer):
    def call(self, images):
        return 2.0 * images


def unregistered(image_shape):
    return keras.Sequential([keras.Input(image_shape), Unregistered(), layers.Flatten()])


def code_inside(image_shape):
    return keras.Sequential([keras.Input(image_shape), layers.Lambda(lambda x: 2.0 * x), layers.Flatten()])


def probabilities(image_shape, num_classes):
    return keras.Sequential([keras.Input(image_shape), layers.Flatten(), layers.Dense(num_classes, activation="softmax")])


def too_few(image_shape, num_classes):
    return keras.Sequential([keras.Input(image_shape), layers.Flatten(), layers.Dense(num_classes - 1)])


def two_outputs(image_shape):
    images = keras.Input(image_shape)
    return keras.Model(images, [layers.Flatten()(images), images])


def two_inputs(image_shape):
    images, more = keras.Input(image_shape), keras.Input(image_shape)
    return keras.Model([images, more], layers.Flatten()(images + more))


def three_axes(image_shape):
    return keras.Sequential([keras.Input(image_shape), layers.Reshape((-1, 4))])


def other_size(image_shape):
    return keras.Sequential([keras.Input((7, 7, 1)), layers.Flatten()])


def no_model(image_shape):
    return [image_shape]


def raises(image_shape):
    raise RuntimeError("no weather")


def exits(image_shape):
    raise SystemExit(3)


def regularized(image_shape):
    return keras.Sequential([keras.Input(image_shape), layers.Conv2D(4, 5, kernel_regularizer="l2")])


def regularized_output(image_shape):
    return keras.Sequential([keras.Input(image_shape), layers.Conv2D(4, 5, activity_regularizer="l1")])


def other_argument(image_shape, depth):
    return features(image_shape)


def no_image_shape(num_classes):
    return None


not_a_function = 3
"""
COLORS = {"mean": [0.2], "std": [0.5]}


@pytest.fixture(scope="module", autouse=True)
def own_module(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_networks.py").write_text(SOURCE)
    (folder / "own_broken.py").write_text("def features(image_shape:\n")
    (folder / "own_package").mkdir()
    (folder / "own_package" / "__init__.py").write_text("raise RuntimeError('it is imported')\n")
    (folder / "own_package" / "nets.py").write_text("def features(image_shape):\n    return None\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder
    sys.modules.pop("own_networks", None)


@pytest.fixture(scope="module")
def small_set():
    """mnist5k: thirty digits a class to train on and ten to test on, with a border of two pixels: 32x32."""
    spec = DATASETS["mnist5k"]

    def load(data_dir):
        data = spec.load(data_dir)
        train_rows, test_rows = (
            np.sort(np.concatenate([np.flatnonzero(labels == c)[:count] for c in range(10)]))
            for labels, count in ((data.train_labels, 30), (data.test_labels, 10))
        )
        border = [(0, 0), (2, 2), (2, 2), (0, 0)]
        return dataclasses.replace(
            data,
            train_images=np.pad(data.train_images[train_rows], border),
            train_labels=data.train_labels[train_rows],
            train_ids=[data.train_ids[row] for row in train_rows],
            test_images=np.pad(data.test_images[test_rows], border),
            test_labels=data.test_labels[test_rows],
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "mnist5k", dataclasses.replace(spec, image_shape=(32, 32, 1), num_train=300, load=load))
        yield DATASETS["mnist5k"]


def build(name, shape=(28, 28, 1), **options):
    return backbones.build(name, shape, 10, **{"mean": [0.2] * shape[2], "std": [0.5] * shape[2], **options})


def pixels_for(network, count=3):
    return np.random.default_rng(0).integers(0, 256, (count, *network.input_shape[1:])).astype(np.uint8)


def numbers(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


# Names.

WRONG_NAMES = {
    "no form": ("a b:c", "is not module:function: write keras.applications:"),
    "no function": ("own_networks:", "is not module:function"),
    "no application": ("keras.applications:ResNet51", "has no network ResNet51: did you mean keras.applications:ResNet50"),
    "the module of an application": ("keras.applications.resnet:ResNet50", "write keras.applications:ResNet50"),
    "no module": ("own_netwerks:features", "there is no module own_netwerks: give one of the current folder"),
    "no module in a package": ("own_package.nats:features", "there is no module own_package.nats"),
    "a module that is no package": ("own_networks.nets:features", "there is no module own_networks.nets"),
    "not Python": ("own_broken:features", "own_broken.py, line 1, is not Python"),
    "no such function in a package": ("own_package.nets:feature", "there is no feature in"),
    "an argument that nobody gives": ("own_networks:other_argument", "wants depth: write def other_argument(image_shape)"),
    "no image_shape": ("own_networks:no_image_shape", "does not take image_shape: write def no_image_shape(image_shape)"),
}


@pytest.mark.parametrize(("name", "message"), WRONG_NAMES.values(), ids=WRONG_NAMES)
def test_a_name_that_leads_nowhere_is_one_line_and_its_package_is_not_imported(name, message, capsys):
    assert train.main([f"--backbone={name}"]) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert message in error
    assert "own_package" not in sys.modules


def test_a_wrong_name_is_told_before_tensorflow_is_imported(own_module):
    code = (
        "import sys; from r2d2_tf import backbones\n"
        "for name in sys.argv[1:]:\n"
        "    try: backbones.check(name); print('right')\n"
        "    except ValueError: print('wrong')\n"
        "assert not {'tensorflow', 'keras', 'own_networks'} & set(sys.modules)"
    )
    checked = ["keras.applications:VGG17", "own_networks:other_argument", "keras.applications:VGG16", OWN]
    command = [sys.executable, "-c", code, *checked]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(own_module)}, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["wrong", "wrong", "right", "right"], done.stderr


def test_the_list_of_applications_is_that_of_keras():
    functions = {name for name, value in vars(keras.applications).items() if callable(value)}
    assert set(names.applications()) == functions
    assert {module for module in names.applications().values() if not hasattr(keras.applications, module)} == set()


def test_the_digest_of_a_run_of_the_projects_own_networks_is_as_it_was():
    assert from_command_line(["--backbone=conv_small", "--dataset=cifar10"]).digest == "805c7dc5"


# Networks.

WRONG_NETWORKS = {
    "probabilities": "ends in a softmax: leave it out, so that it gives logits",
    "too_few": r"takes num_classes, and gives \(None, 9\) in place of logits \(None, 10\)",
    "two_outputs": "gives several outputs",
    "two_inputs": "does not take images of shape .*ValueError",
    "other_size": "does not take images of shape",
    "three_axes": r"gives \(None, 196, 4\): let it give features",
    "no_model": "returned list: let it return a keras.Model",
    "raises": r"raised RuntimeError: no weather \(.*own_networks.py, line \d+\)",
    "exits": r"raised SystemExit: 3 \(",
    "regularized": "has losses of its own, such as regularizers, which would not be trained on",
    "regularized_output": "has losses of its own",
    "unregistered": r"cannot be saved and loaded: register its layers .*Unregistered",
    "code_inside": "cannot be saved and loaded: .*take no Lambda",
    "not_a_function": "there is no function not_a_function in .*own_networks.py",
}


@pytest.mark.parametrize(("function", "message"), WRONG_NETWORKS.items(), ids=WRONG_NETWORKS)
def test_a_network_that_cannot_be_trained_is_one_line(function, message):
    with pytest.raises(ValueError, match=message) as caught:
        build(f"own_networks:{function}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["InceptionV3", "MobileNetV3Small", "Xception", "VGG16"])
def test_images_too_small_for_an_application_are_one_line_that_says_how_large_they_must_be(name):
    with pytest.raises(ValueError, match=r"cannot be made for images of 28x28 pixels: .*at least \d+x\d+") as caught:
        build(f"keras.applications:{name}")
    assert "\n" not in str(caught.value)


def test_batch_normalisation_is_not_synchronized_where_it_is_not_the_projects_own():
    for name in (SMALL, OWN):
        with pytest.raises(ValueError, match="synchronized_batch_norm does not reach the layers of"):
            backbones.check(name, synchronized_batch_norm=True)
    network = build("own_networks:logits", synchronized_batch_norm=True)
    [batch_norm] = [layer for layer in network.layers[-1].layers if isinstance(layer, FusedBatchNormalization)]
    assert batch_norm.synchronized


@pytest.mark.parametrize("function", ["features", "flat_features", "logits", "own_layers", "subclassed"])
@pytest.mark.parametrize("mixed_precision", ["none", "bfloat16"])
def test_a_users_network_gives_one_float32_logit_a_class_and_takes_what_a_step_tells(function, mixed_precision, tmp_path):
    network = build(f"own_networks:{function}", mixed_precision=mixed_precision)
    logits = network(pixels_for(network), training=True, num_images=keras.ops.convert_to_tensor(3))
    assert logits.dtype == "float32"
    assert logits.shape == (3, 10)
    assert {weight.dtype for weight in network.trainable_variables} == {"float32"}
    assert head_of(network).weights[0].shape[-1] == 10
    network.save(tmp_path / "network.keras")
    saved = backbones.load(tmp_path / "network.keras")
    # The parts of a user's own layers are made anew when it is loaded, without a policy: they compute in float32.
    rounding = 0.02 if (function, mixed_precision) == ("subclassed", "bfloat16") else 0.0
    np.testing.assert_allclose(saved(pixels_for(network)), network(pixels_for(network)), rtol=0, atol=rounding)


def test_a_users_network_gets_images_normalized_as_the_projects_own_do():
    network = build(OWN)
    pixels = pixels_for(network)
    tail = keras.Sequential(network.layers[2:])
    np.testing.assert_allclose(network(pixels), tail((pixels / 255.0 - 0.2) / 0.5), rtol=1e-5, atol=1e-5)


MODULES = {module: name for name, module in reversed(names.applications().items())}


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "color"])
def test_pixels_are_preprocessed_as_each_module_of_applications_does(module, channels):
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 7, channels)).astype(np.uint8)
    color = np.repeat(images, 3 // channels, axis=-1).astype(np.float32)
    preprocess = importlib.import_module(f"keras.applications.{module}").preprocess_input
    expected = preprocess(color)
    actual = images.astype(np.float32)
    for layer in preprocessing.layers_for(preprocess, channels):
        actual = layer(actual)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-5)


def test_an_application_takes_grey_or_color_alone():
    with pytest.raises(ValueError, match="takes grey or color images, not 2 channels"):
        build(SMALL, (32, 32, 2))


FAST = ("MobileNetV3Small",)
SLOW = pytest.mark.slow


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in FAST else SLOW) for n in sorted({*FAST, *MODULES.values()})])
def test_an_application_preprocesses_averages_and_survives_saving_and_safe_loading(name, tmp_path):
    side = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}.get(name, 32)
    network = build(f"keras.applications:{name}", (side, side, 3))
    pixels = pixels_for(network, 2)
    logits = numbers(network(pixels, training=False))
    module = importlib.import_module(f"keras.applications.{names.applications()[name]}")
    inner, _, head = network.layers[-3:]
    features = numbers(inner(module.preprocess_input(pixels.astype(np.float32)), training=False)).mean((1, 2))
    np.testing.assert_allclose(logits, features @ numbers(head.kernel) + numbers(head.bias), rtol=1e-3, atol=1e-4)
    network.save(tmp_path / "network.keras")
    np.testing.assert_array_equal(backbones.load(tmp_path / "network.keras")(pixels, training=False), logits)


# Runs.

TINY = (
    *SHORT,
    "--deterministic",
    "--supervised_epochs=2",
    "--rounds=1:0.01,1:0.01",
    "--weight_decay=0.01",
)


def start(folder, *flags, signals=None):
    experiment = Experiment(from_command_line([*TINY, *flags, f"--run_dir={folder}"]), signals=signals)
    with experiment.claimed() as claimed:
        return experiment.run(claimed, time.perf_counter())


def run_in_pieces(folder, checks_a_piece, *flags):
    for pieces in range(1, 100):
        try:
            start(folder, *flags, signals=StopAt(checks_a_piece))
        except RunInterrupted:
            continue
        return pieces
    raise AssertionError("it gets nowhere")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(OWN, id="own"),
        pytest.param("own_networks:own_layers", id="own_layers", marks=SLOW),
        pytest.param(SMALL, id="application", marks=SLOW),
    ],
)
def test_a_network_trains_resumes_bit_for_bit_and_exports(name, small_set, tmp_path, capsys):
    summary = start(tmp_path / "undisturbed", f"--backbone={name}")
    assert list(summary["test_error_percent"]) == ["stage_1", "stage_2", "stage_3"]
    assert f"network   {name}, " in capsys.readouterr().out
    assert run_in_pieces(tmp_path / "run", 30, f"--backbone={name}") > 1
    assert differences(tmp_path / "run", tmp_path / "undisturbed") == []
    again = ["--rounds=1:0.02", "--finetune_epochs=0", f"--stage_1_from={tmp_path / 'run'}"]
    borrowed = start(tmp_path / "again", f"--backbone={name}", *again)
    assert borrowed["test_error_percent"]["stage_1"] == summary["test_error_percent"]["stage_1"]
    formats = ["saved_model", "tflite", "onnx"]
    assert export_command.main([f"--run_dir={tmp_path / 'run'}", f"--format={','.join(formats)}", "--latency_rounds=0"]) == 0
    network = backbones.load(tmp_path / "run" / "backbone.keras", name)
    images = small_set.load(None).test_images
    expected = numbers(keras.ops.softmax(network(images, training=False)))
    for file in ("saved_model", "model.tflite", "model.onnx"):
        actual = inference.load(tmp_path / "run" / "export" / file).predict(images)
        np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["tflite", "onnx"])
def test_an_application_that_takes_its_colors_in_another_order_is_exported_with_that(name, tmp_path):
    parts = [
        *preprocessing.layers_for(keras.applications.resnet.preprocess_input, 3),
        keras.layers.Conv2D(4, 3),
        keras.layers.GlobalAveragePooling2D(),
    ]
    network = keras.Sequential([keras.Input((32, 32, 3)), *parts, keras.layers.Dense(10)])
    pixels = pixels_for(network, 4)
    path = stage(name, ServingModel(network, [str(c) for c in range(10)], pixels), tmp_path)
    expected = numbers(keras.ops.softmax(network(pixels, training=False)))
    np.testing.assert_allclose(inference.load(path).predict(pixels), expected, atol=1e-5)


# Layers of a user's own in saved files.


def test_in_a_fresh_process_a_saved_network_loads_unless_it_has_layers_of_the_users_and_not_their_module(own_module, tmp_path):
    for function in ("features", "own_layers"):
        build(f"own_networks:{function}").save(tmp_path / f"{function}.keras")
    # With layers of the project's own.
    build("conv_small", (8, 8, 3)).save(tmp_path / "conv_small.keras")
    code = (
        "import sys; from pathlib import Path; from r2d2_tf import backbones\n"
        "print(backbones.load(Path(sys.argv[1]) / 'conv_small.keras').output_shape)\n"
        "for name in ('features', 'own_layers') * 2:\n"
        "    try: print(backbones.load(Path(sys.argv[1]) / f'{name}.keras', f'own_networks:{name}').output_shape)\n"
        "    except ValueError as error: print(error); sys.path.append(sys.argv[2])"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(own_module)]
    done = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True, check=False)
    own, first, second, *later = done.stdout.splitlines()
    assert own == first == "(None, 10)"
    assert "cannot be read: perhaps for want of the module that its layers are of (backbone (own" in second
    assert later == ["(None, 10)"] * 2


# Weights to begin with.


def with_other_weights(network):
    for weight in network.weights:
        if "float" in weight.dtype:
            weight.assign(keras.random.uniform(weight.shape, 0.5, 1.5))
    return network


def values_of(layer):
    return [numbers(weight) for weight in layer.weights]


def assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


FILES = {
    "what the function returns": lambda: importlib.import_module("own_networks").features((28, 28, 1)),
    "another run": lambda: build(OWN),
    "a part of something": lambda: keras.Sequential(
        [keras.Input((28, 28, 1)), importlib.import_module("own_networks").features((28, 28, 1)), keras.layers.Flatten()]
    ),
}


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
@pytest.mark.parametrize("make", FILES.values(), ids=FILES)
def test_a_file_of_weights_is_loaded_wherever_the_network_is_in_it(make, ending, tmp_path):
    source, path = with_other_weights(make()), tmp_path / f"file{ending}"
    (source.save if ending == ".keras" else source.save_weights)(path)
    network = build(OWN)
    head = values_of(network.layers[-1])
    text = keras_files.load(network, path)
    if make is FILES["another run"]:
        assert_same(values_of(network), values_of(source))
        assert text.endswith(f"{source.count_params():,} numbers in 4 layers; the head among them")
    else:
        inner = next((layer for layer in source.layers if isinstance(layer, keras.Model)), source)
        assert_same(values_of(network.layers[2]), values_of(inner))
        assert_same(values_of(network.layers[-1]), head)
        assert text.endswith("numbers in 3 layers; at random: the head (head, not there)")


def test_a_head_for_other_classes_stays_at_random_and_the_rest_is_loaded(tmp_path):
    for name in (OWN, "own_networks:logits", "own_networks:subclassed", "lenet"):
        source = with_other_weights(backbones.build(name, (28, 28, 1), 7, **COLORS))
        source.save_weights(tmp_path / "seven.weights.h5")
        network = build(name)
        head = head_of(network)
        before = values_of(head)
        text = keras_files.load(network, tmp_path / "seven.weights.h5")
        assert_same(values_of(head), before)
        assert re.search(r"at random: the head \(\w+, \(\d+, 7\) there, \(\d+, 10\) here\)$", text)
        assert_same(values_of(network)[:-2], values_of(source)[:-2])


def test_an_application_takes_the_weights_of_one_with_its_own_top(tmp_path):
    with_top = keras.applications.MobileNetV3Small(input_shape=(32, 32, 3), weights=None, classes=6)
    with_other_weights(with_top).save_weights(tmp_path / "top.weights.h5")
    network = build(SMALL, (32, 32, 1))
    text = keras_files.load(network, tmp_path / "top.weights.h5")
    inner = next(layer for layer in network.layers if isinstance(layer, keras.Model))
    assert_same(values_of(inner), values_of(with_top)[: len(inner.weights)])
    assert text.endswith("at random: the head (head, not there)")


def test_files_of_another_network_are_one_line_and_change_nothing(tmp_path):
    build(OWN).save(tmp_path / "own.keras")
    (tmp_path / "text.weights.h5").write_text("weights")
    (tmp_path / "text.keras").write_text("weights")
    shape = (32, 32, 3)
    other = keras.applications.MobileNet(include_top=False, weights=None, input_shape=shape)
    other.save_weights(tmp_path / "other.weights.h5")
    scaled = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Rescaling(2.0), *build(OWN).layers[2].layers[1:]])
    scaled.save_weights(tmp_path / "scaled.weights.h5")
    for file, name, message in (
        ("own.keras", "lenet", "are not of this --backbone: its layer .* only the head may differ"),
        ("other.weights.h5", SMALL, "are not of this --backbone: its layer .* only the head may differ"),
        ("scaled.weights.h5", OWN, "are not of this --backbone: one of the two preprocesses pixels by rescaling"),
        ("text.weights.h5", OWN, "cannot be read: is it a .weights.h5 or .keras file"),
        ("text.keras", OWN, "cannot be read: is it a .weights.h5 or .keras file"),
    ):
        network = build(name, shape if name == SMALL else (28, 28, 1))
        before = values_of(network)
        with pytest.raises(ValueError, match=message) as caught:
            keras_files.load(network, tmp_path / file)
        assert "\n" not in str(caught.value)
        assert_same(values_of(network), before)


WRONG_WEIGHTS = {
    "imagenet for another network": (
        ["--weights=imagenet"],
        "are there for networks of keras.applications and efficientnet_lite0, ",
    ),
    "no file of weights": (["--weights=weights.txt"], "must be none, imagenet, or a file .weights.h5 or .keras or .pth or"),
    "PyTorch's for another network": (["--weights=resnet18.pth", "--backbone=resnet18"], "not for resnet18: take one of"),
    "a file that is not there": (["--weights=nowhere.keras"], "weights (nowhere.keras) is not there, or is no file"),
}


@pytest.mark.parametrize(("flags", "message"), WRONG_WEIGHTS.values(), ids=WRONG_WEIGHTS)
def test_wrong_weights_are_one_line(flags, message, capsys):
    assert train.main(flags) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert message in error


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Keras' cache, empty; and nobody may fetch anything."""
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))

    def fetch(*arguments, **options):
        raise Exception("URL fetch failure")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", fetch)
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "VGG16" else SLOW) for n in MODULES.values()])
def test_imagenets_weights_are_looked_for_in_the_cache_and_their_file_is_named(name, cache):
    side = {"NASNetLarge": 331}.get(name, 224)
    with pytest.raises(
        ValueError, match=r"^the file of weights .*: add --download, or fetch it with: curl .*https://"
    ) as caught:
        build(f"keras.applications:{name}", (side, side, 3), imagenet=True)
    assert str(cache) in str(caught.value)


def test_a_download_that_fails_is_one_line(cache):
    with pytest.raises(ValueError, match=r"^URL fetch failure: fetch it with: curl .*, elsewhere if need be$"):
        build(SMALL, (32, 32, 3), imagenet=True, download=True)


def test_a_damaged_file_in_the_cache_is_one_line(cache):
    (cache / "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5").write_text("no weights")
    with pytest.raises(ValueError, match=r"is damaged, or another one \(its digest is \w{32}, Keras wants \w{32}\): remove it"):
        build(SMALL, (32, 32, 3), imagenet=True)
    (cache / "mobilenet_1_0_224_tf_no_top.h5").write_text("no weights")
    with pytest.raises(ValueError, match="cannot be made for images of 32x32 pixels with --weights=imagenet: ") as caught:
        build("keras.applications:MobileNet", (32, 32, 3), imagenet=True)
    assert "\n" not in str(caught.value)


def test_imagenets_weights_are_taken_from_the_cache(cache):
    from keras.src.legacy.saving import legacy_h5_format

    source = with_other_weights(keras.applications.MobileNet(include_top=False, weights=None, input_shape=(32, 32, 3)))
    with h5py.File(cache / "mobilenet_1_0_224_tf_no_top.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, source)
    network = build("keras.applications:MobileNet", (32, 32, 1), imagenet=True)
    inner = next(layer for layer in network.layers if isinstance(layer, keras.Model))
    assert_same(values_of(inner), values_of(source))


# Starting from another run.


@pytest.fixture(scope="module")
def began_with_a_file(small_set, own_module):
    """The folder of a run whose network normalizes by what was in a file of weights, which is gone; and its flags."""
    path, folder = own_module / "normalizes.weights.h5", own_module / "began"
    network = build("own_networks:normalizes")
    [layer] = [layer for layer in network._flatten_layers() if isinstance(layer, keras.layers.Normalization)]
    layer.adapt(np.random.default_rng(0).normal(3.0, 0.5, (50, 28, 28, 1)))
    network.save_weights(path)
    start(folder, "--backbone=own_networks:normalizes", f"--weights={path}")
    path.unlink()
    return folder, ["--backbone=own_networks:normalizes", f"--warm_start={folder}", "--max_steps=3"]


@pytest.mark.parametrize("weights", [[], ["--weights=gone.weights.h5"]], ids=["without", "with"])
def test_a_warm_start_normalizes_as_the_other_run_did_and_needs_no_file_of_weights(weights, began_with_a_file, tmp_path):
    folder, flags = began_with_a_file
    config = from_command_line([*TINY, *flags, *weights, f"--run_dir={tmp_path / 'run'}"])
    preflight.check_data(config)
    experiment = Experiment(config)
    network, ended = experiment.model.backbone, backbones.load(folder / "backbone.keras")
    np.testing.assert_array_equal(network(pixels_for(network)), ended(pixels_for(network)))
    assert f"parameters; weights of {folder}, as it ended\n" in experiment.plan_text(tmp_path / "run")


def test_a_run_that_started_warm_normalizes_alike_when_it_goes_on_without_the_other_run(began_with_a_file, tmp_path):
    folder, flags = began_with_a_file
    start(tmp_path / "undisturbed", *flags)
    with pytest.raises(RunInterrupted):
        start(tmp_path / "run", *flags, signals=StopAt(8))
    folder.rename(tmp_path / "away")
    try:
        start(tmp_path / "run", *flags)
    finally:
        (tmp_path / "away").rename(folder)
    assert differences(tmp_path / "run", tmp_path / "undisturbed") == []


def test_a_warm_start_takes_imagenets_weights_where_the_other_run_did(tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "config.cfg").write_text(f"--backbone={SMALL}\n--weights=imagenet\n")
    with pytest.raises(ValueError, match=r"warm_start \(.*\) had --weights=imagenet, now none: give it here, too"):
        preflight.check_data(from_command_line([f"--backbone={SMALL}", f"--warm_start={folder}"]))


# Training the head first.


@pytest.fixture(scope="module")
def own_weights(own_module):
    path = own_module / "own.weights.h5"
    build(OWN).save_weights(path)
    return path


WRONG_FREEZING = {
    "weights at random": (["--freeze_epochs=2"], "trains the head on features that are random with --weights=none"),
    "more epochs than there are": (
        ["--freeze_epochs=5", "--supervised_epochs=4", f"--backbone={SMALL}", "--weights=imagenet"],
        "freeze_epochs (5) are more than stage 1 has, supervised_epochs (4)",
    ),
}


@pytest.mark.parametrize(("flags", "message"), WRONG_FREEZING.values(), ids=WRONG_FREEZING)
def test_freezing_what_should_not_be_frozen_is_one_line(flags, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        from_command_line(flags)


STAGE_1 = ("--rounds=", "--finetune_epochs=0", "--supervised_epochs=3", f"--backbone={OWN}")


def momenta_of(experiment):
    optimizer = experiment.model.optimizer
    return {v.path.partition("/")[2]: numbers(v) for v in optimizer.variables if "momentum" in v.path}


@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=SLOW)])
@pytest.mark.parametrize("precision", ["none", pytest.param("float16", marks=SLOW)])
def test_while_the_rest_is_frozen_the_head_alone_changes_and_decays_and_then_all_do_whenever_that_is(
    precision, replicas, small_set, own_weights, tmp_path
):
    flags = [f"--weights={own_weights}", f"--mixed_precision={precision}", "--num_logical_cpus=2"]
    flags += ["--strategy=mirrored"] if replicas == 2 else []
    experiment = Experiment(
        from_command_line([*TINY, *STAGE_1, *flags, "--freeze_epochs=3", f"--run_dir={tmp_path / 'frozen'}"])
    )
    before, head = (values_of(layer) for layer in (experiment.model.backbone, head_of(experiment.model.backbone)))
    with experiment.claimed() as folder:
        experiment.run(folder, time.perf_counter())
    network = experiment.model.backbone
    assert head_of(network).name == "head"
    assert_same(values_of(network)[:-2], before[:-2])
    assert all((old != new).any() for old, new in zip(head, values_of(head_of(network)), strict=True))
    moved = {path for path, values in momenta_of(experiment).items() if values.any()}
    assert {path.split("_")[0] for path in moved} == {"head"}
    start(tmp_path / "thawed", *STAGE_1, *flags, "--freeze_epochs=2")
    after = values_of(backbones.load(tmp_path / "thawed" / "backbone.keras"))
    assert all((old != new).any() for old, new in zip(before, after, strict=True))
    two, three = (losses_of(tmp_path / name) for name in ("thawed", "frozen"))
    assert two[:2] == three[:2]
    assert two[2] != three[2]


def losses_of(folder):
    with (folder / "metrics.csv").open() as file:
        return [row["loss"] for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_run_that_trains_the_head_first_resumes_bit_for_bit(small_set, own_weights, tmp_path, capsys):
    # Stage 2 sets out from an optimizer of its own.
    flags = [*STAGE_1, f"--weights={own_weights}", "--freeze_epochs=2", "--rounds=1:0.01"]
    start(tmp_path / "undisturbed", *flags)
    out = capsys.readouterr().out
    assert "; the head alone in the first 2 epochs\n" in out
    assert f"parameters; weights of {own_weights}: " in out
    for checks, place in ((8, "epoch 2 of 3, step 3"), (6, "epoch 3 of 3, step 3")):
        with pytest.raises(RunInterrupted):
            start(tmp_path / "run", *flags, signals=StopAt(checks))
        assert f"saved: stage 1 (supervised), {place}" in capsys.readouterr().err
    start(tmp_path / "run", *flags)
    assert differences(tmp_path / "run", tmp_path / "undisturbed") == []
