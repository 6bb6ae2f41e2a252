"""Networks that are not the project's own: of keras.applications, or made by a function of the user's."""

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

from r2d2_tf.backbones import names, preprocessing
from r2d2_tf.backbones.layers import NUM_IMAGES, LayerMaker, dense
from r2d2_tf.backbones.weights import keras_cache
from r2d2_tf.system.messages import mistake, one_line

HEAD = "head"
"""Name of the dense layer that is added to a network that gives features."""
_NUM_TRIED = 4
"""Images that are shown to a network to see whether it gives probabilities."""


class Foreign(NamedTuple):
    """A network and what goes with it.

    Attributes:
        network: preprocessed pixels to logits or features.
        in_front: layers from pixels 0..255 to what the network takes; None: the data set's own normalising.
        gives_logits: no head is wanted.
    """

    network: keras.Model
    in_front: list[keras.layers.Layer] | None
    gives_logits: bool


def application(name: str, image_shape: tuple[int, int, int], *, weights: str | None, download: bool) -> Foreign:
    """A network of keras.applications without its own head, its batch normalisation as it is (momentum 0.99 or 0.999).

    It begins with `weights`, `imagenet` or, None, at random; those that are not in Keras' cache need `download`.

    Raises:
        ValueError: in one line, if there is no such network, it does not take such images, or its weights are not there.
    """
    function = names.parted(name)[1]
    module = importlib.import_module(f"{names.APPLICATIONS}.{names.application_module(function)}")
    in_front = preprocessing.layers_for(module.preprocess_input, image_shape[-1])
    height, width, _ = image_shape
    make = getattr(keras.applications, function)
    try:
        with keras_cache.files_of_keras(download=download):
            network = make(include_top=False, weights=weights, input_shape=(height, width, preprocessing.COLORS))
    except keras_cache.NoWeights:
        raise
    except (ValueError, OSError) as error:
        size = f"{width}x{height} pixels{f' with --weights={weights}' if weights else ''}"
        raise mistake(f"backbone ({name}) cannot be made for images of {size}: {error}") from error
    return Foreign(network, in_front, gives_logits=False)


def own(name: str, image_shape: tuple[int, int, int], num_classes: int, batch_norm: LayerMaker) -> Foreign:
    """The network of a function of the user's own.

    A function that takes `num_classes` gives logits, `[batch, num_classes]`; another one gives features, `[batch, features]` or
    `[batch, height, width, features]`. `batch_norm()` makes a layer of the project's batch normalisation. The images come
    normalized by the data set's mean and deviation.

    Raises:
        ValueError: in one line, if that fails or gives something else.
    """
    function = _imported(name)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise ValueError(f"backbone ({name}): {one_line(error)}; give a function") from error
    # What `**options` stands for is left alone.
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    taken = {p.name: p.default is p.empty for p in signature.parameters.values() if p.kind not in kinds}
    names.check_arguments(name, taken, synchronized_batch_norm=False)
    offered = {"image_shape": image_shape, "num_classes": num_classes, "batch_norm": batch_norm}
    network = _called(name, "raised", lambda: function(**{key: value for key, value in offered.items() if key in taken}))
    if not isinstance(network, keras.Model):
        raise ValueError(f"backbone ({name}) returned {type(network).__name__}: let it return a keras.Model")
    if "batch_norm" in taken:
        _called(name, "cannot pass on what its batch_norm is told:", lambda: network._register_call_context_args(NUM_IMAGES))
    return Foreign(network, None, gives_logits="num_classes" in taken)


def with_head(name: str, foreign: Foreign, images: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
    """Logits of preprocessed `images`: the network's own, or of a head: averages over the image, and a dense layer.

    Raises:
        ValueError: in one line, if the network does not take them, gives neither logits nor features, or gives probabilities,
            or has losses of its own.
    """
    output = _called(name, f"does not take images of shape {images.shape[1:]}:", lambda: foreign.network(images))
    if not isinstance(output, keras.KerasTensor):
        raise ValueError(f"backbone ({name}) gives several outputs: let it give one, logits or features")
    shape = tuple(output.shape)
    if foreign.gives_logits:
        if shape != (None, num_classes):
            raise ValueError(f"backbone ({name}) takes num_classes, and gives {shape} in place of logits (None, {num_classes})")
    elif len(shape) not in (2, 4) or shape[-1] is None:
        raise ValueError(
            f"backbone ({name}) gives {shape}: let it give features, (None, features) or (None, height, width, features)"
        )
    if foreign.in_front is None:
        _check_no_softmax(name, foreign.network, tuple(images.shape[1:]))
        if foreign.network.losses:
            raise ValueError(
                f"backbone ({name}) has losses of its own, such as regularizers, which would not be trained on: leave them "
                "out; --weight_decay is L2 on all weights"
            )
        _check_can_be_saved(name, foreign.network)
    if foreign.gives_logits:
        return output
    features = keras.layers.GlobalAveragePooling2D(name="average")(output) if len(shape) == 4 else output
    return dense(num_classes, name=HEAD)(features)


def import_module_of(name: str) -> str:
    """Imports the module of a function of the user's own, so that its layers are known; returns why that failed, if it did."""
    if ":" not in name or names.is_application(name):
        return ""
    try:
        _imported(name)
    except ValueError as error:
        return str(error)
    return ""


def _imported(name: str) -> Callable[..., object]:
    module, function = names.parted(name)
    found = _called(name, "cannot be imported:", lambda: importlib.import_module(module))
    if not callable(getattr(found, function, None)):
        raise ValueError(f"backbone ({name}): there is no function {function} in {getattr(found, '__file__', module)}")
    return getattr(found, function)


def _called(name: str, what: str, function: Callable[[], object]) -> object:
    """The result of code that is not the project's, which may raise anything: ValueError then, and where it was raised."""
    try:
        return function()
    # A script that is imported may end in sys.exit().
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(sys.exc_info()[2])
        own_frames = [frame for frame in frames if "site-packages" not in frame.filename] or frames
        where = f"{own_frames[-1].filename}, line {own_frames[-1].lineno}"
        raise mistake(f"backbone ({name}) {what} {type(error).__name__}: {error} ({where})") from error


def _check_no_softmax(name: str, network: keras.Model, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).normal(size=(_NUM_TRIED, *shape)).astype(np.float32)
    output = np.asarray(keras.ops.cast(_called(name, "fails:", lambda: network(images, training=False)), "float32"))
    sums = output.reshape(_NUM_TRIED, -1).sum(1) if output.ndim == 2 else np.zeros(1)
    if output.shape[-1] > 1 and output.min() >= 0.0 and np.allclose(sums, 1.0, atol=0.01):
        raise ValueError(f"backbone ({name}) ends in a softmax: leave it out, so that it gives logits")


def _check_can_be_saved(name: str, network: keras.Model) -> None:
    def round_trip() -> object:
        return keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(network), safe_mode=True)

    _called(
        name,
        "cannot be saved and loaded: register its layers with @keras.saving.register_keras_serializable(), and take no Lambda;",
        round_trip,
    )
