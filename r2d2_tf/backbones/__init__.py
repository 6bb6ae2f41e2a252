"""Networks. BACKBONES names the project's own without importing TensorFlow; `build` makes one, ready for raw pixels.

Others are named `keras.applications:NAME`, or `module:function` of the user's own: see foreign.py.
"""

import contextlib
import functools
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from r2d2_tf.backbones import names
from r2d2_tf.system.messages import mistake

if TYPE_CHECKING:
    import keras

    from r2d2_tf.backbones.foreign import Foreign
    from r2d2_tf.backbones.layers import LayerMaker

BACKBONES: dict[str, str] = {
    "lenet": "r2d2_tf.backbones.lenet:lenet",
    "lenet_2d": "r2d2_tf.backbones.lenet:lenet_2d",
    "conv_small": "r2d2_tf.backbones.conv_small:conv_small",
    "conv_medium": "r2d2_tf.backbones.conv_small:conv_medium",
    "cifar_fast": "r2d2_tf.backbones.cifar_fast:cifar_fast",
    "shake_shake_26_2x96d": "r2d2_tf.backbones.shake_shake:shake_shake_26_2x96d",
    "shake_shake_26_2x32d": "r2d2_tf.backbones.shake_shake:shake_shake_26_2x32d",
    "conv_large": "r2d2_tf.backbones.conv_large:conv_large",
    "conv_large_weight_norm": "r2d2_tf.backbones.conv_large:conv_large_weight_norm",
    "wrn_16_2": "r2d2_tf.backbones.resnet:wrn_16_2",
    "wrn_28_2": "r2d2_tf.backbones.resnet:wrn_28_2",
    "resnet18": "r2d2_tf.backbones.resnet:resnet18",
    "efficientnet_lite0": "r2d2_tf.backbones.efficientnet_lite:efficientnet_lite0",
    "efficientnet_lite1": "r2d2_tf.backbones.efficientnet_lite:efficientnet_lite1",
    "efficientnet_lite2": "r2d2_tf.backbones.efficientnet_lite:efficientnet_lite2",
}
"""Name -> `module:function`, a function of (image_shape, num_classes, batch_norm) that returns logits.

`batch_norm()` makes a layer of batch normalisation. A module with `preprocess_input` is one of networks that want colors, and
their pixels so, whatever the data set's mean and deviation.
"""


def check(name: str, *, synchronized_batch_norm: bool = False) -> None:
    """Finds what is wrong with a network's name, as far as files show it: TensorFlow is not imported, nor the user's module.

    Raises:
        ValueError: in one line, for a name that leads to no network.
    """
    if name not in BACKBONES:
        names.check_form(name)
        names.check(name, synchronized_batch_norm=synchronized_batch_norm)


def build(
    name: str,
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    synchronized_batch_norm: bool = False,
    mixed_precision: str = "none",
    imagenet: bool = False,
    download: bool = False,
    network_size: int = 0,
) -> "keras.Model":
    """A network from pixels to logits.

    What is done to the pixels is the network's first layer: training, evaluation, the saved file and every export share
    it, so they cannot disagree. It is (pixels / 255 - mean) / std; networks of keras.applications and EfficientNet-Lite have
    their own.

    Args:
        name: a key of BACKBONES, `keras.applications:NAME`, or `module:function` of the user's own.
        image_shape: (height, width, channels).
        num_classes: width of the logits.
        mean: mean of each channel, in 0..1.
        std: standard deviation of each channel, in 0..1.
        synchronized_batch_norm: batch normalisation over the images of all replicas.
        mixed_precision: what the network computes in: `none` (float32), `bfloat16` or `float16`.
        imagenet: it begins with the weights that Keras, for one of keras.applications, or a package has for it, the head at
            random.
        download: those of Keras, if they are not in its cache.
        network_size: the shorter side, in pixels, to which the network enlarges its images; 0 leaves them as they are.

    Returns:
        A model: pixels 0..255 (uint8 or float), `[batch, *image_shape]`, to logits, `[batch, num_classes]` float32. Its weights
        are float32.

    Raises:
        ValueError: in one line, for a name that leads to no network, or to one that does not fit the images.
    """
    import keras

    from r2d2_tf.backbones import foreign, layers

    check(name, synchronized_batch_norm=synchronized_batch_norm)
    batch_norm = functools.partial(layers.batch_norm, synchronized=synchronized_batch_norm)
    seen_shape = _enlarged(image_shape, network_size)
    with _dtype_policy(mixed_precision):
        if name in BACKBONES:
            made = _of_the_project(name, seen_shape, num_classes, batch_norm, imagenet=imagenet)
        elif names.is_application(name):
            made = foreign.application(name, seen_shape, weights="imagenet" if imagenet else None, download=download)
        else:
            made = foreign.own(name, seen_shape, num_classes, batch_norm)
    pixels = keras.Input(image_shape, name="pixels")
    images = pixels
    scale = [1.0 / (255.0 * s) for s in std]
    offset = [-m / s for m, s in zip(mean, std, strict=True)]
    in_front = [layers.Normalization(scale, offset, name="normalize")] if made.in_front is None else made.in_front
    for layer in in_front:
        images = layer(images)
    if seen_shape != image_shape:
        images = keras.layers.Resizing(*seen_shape[:2], interpolation="bilinear", name="enlarge")(images)
    if name in BACKBONES:
        logits = made.network(images)
    else:
        with _dtype_policy(mixed_precision):
            logits = foreign.with_head(name, made, images, num_classes)
    if mixed_precision != "none":
        logits = keras.layers.Activation("linear", dtype="float32", name="to_float32")(logits)
    return keras.Model(pixels, logits, name=f"{name.rpartition(':')[2]}_backbone")


def _enlarged(image_shape: tuple[int, int, int], size: int) -> tuple[int, int, int]:
    height, width, channels = image_shape
    shorter = min(height, width)
    if not size:
        return image_shape
    if size < shorter:
        raise ValueError(
            f"network_size ({size}) is smaller than the images, {width}x{height} pixels: raise it, or leave it out"
        )
    return round(height * size / shorter), round(width * size / shorter), channels


def _of_the_project(
    name: str, image_shape: tuple[int, int, int], num_classes: int, batch_norm: "LayerMaker", *, imagenet: bool
) -> "Foreign":
    from r2d2_tf.backbones import foreign, layers, preprocessing, weights

    place, function = names.parted(BACKBONES[name])
    module = importlib.import_module(place)
    in_front = None
    if hasattr(module, "preprocess_input"):
        in_front = preprocessing.layers_for(module.preprocess_input, image_shape[-1])
        image_shape = (*image_shape[:2], preprocessing.COLORS)
    try:
        network = getattr(module, function)(image_shape, num_classes, batch_norm)
    except ValueError as error:
        # Keras' own, where a convolution is left without pixels.
        height, width, _ = image_shape
        raise mistake(
            f"backbone ({name}) does not fit images of {width}x{height} pixels: choose another, or larger images ({error})"
        ) from error
    # The network within the one that `build` returns passes on what it is told, too.
    network._register_call_context_args(layers.NUM_IMAGES)
    if imagenet:
        weights.load_imagenet(network)
    return foreign.Foreign(network, in_front, gives_logits=True)


@contextlib.contextmanager
def _dtype_policy(mixed_precision: str) -> Iterator[None]:
    """Has the layers that are made in the block compute in mixed precision. Keras has no other way than its global setting."""
    import keras

    before = keras.config.dtype_policy()
    if mixed_precision != "none":
        keras.config.set_dtype_policy(f"mixed_{mixed_precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def register_layers() -> None:
    """Makes the project's own layers known to Keras, which reads networks that hold some only then. Imports TensorFlow."""
    for module in ("layers", "preprocessing"):
        importlib.import_module(f"r2d2_tf.backbones.{module}")


def load(path: Path, backbone: str = "") -> "keras.Model":
    """Reads a network that a run saved, executing no code from the file.

    Args:
        path: of the file.
        backbone: of the run. Where it is `module:function` of the user's own, that module is imported, so that layers which it
            registers are known. It may be missing if the network holds none.

    Raises:
        ValueError: if the file is not there, is damaged, or holds code.
    """
    import keras

    from r2d2_tf.backbones import foreign

    if not path.is_file():
        raise ValueError(f"there is no network {path}: give the folder of a run that trained it")
    register_layers()
    failure = foreign.import_module_of(backbone)
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    # Whatever a zip archive, JSON, HDF5 and Keras make of bytes that are not theirs.
    except Exception as error:
        why = "it is damaged, or holds code, which is never run; make it again"
        if failure:
            why = f"perhaps for want of the module that its layers are of ({failure})"
        raise mistake(f"the network {path} cannot be read: {why} ({error})") from error
