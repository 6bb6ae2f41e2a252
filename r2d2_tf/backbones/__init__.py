"""Networks. BACKBONES names them without importing TensorFlow; `build` makes one, ready for raw pixels."""

import functools
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from r2d2_tf.messages import one_line

if TYPE_CHECKING:
    import keras

BACKBONES: dict[str, str] = {
    "lenet": "r2d2_tf.backbones.lenet:lenet",
    "lenet_2d": "r2d2_tf.backbones.lenet:lenet_2d",
    "conv_small": "r2d2_tf.backbones.conv_small:conv_small",
    "shake_shake_26_2x96d": "r2d2_tf.backbones.shake_shake:shake_shake_26_2x96d",
    "shake_shake_26_2x32d": "r2d2_tf.backbones.shake_shake:shake_shake_26_2x32d",
    "conv_large": "r2d2_tf.backbones.conv_large:conv_large",
    "conv_large_weight_norm": "r2d2_tf.backbones.conv_large:conv_large_weight_norm",
    "wrn_28_2": "r2d2_tf.backbones.resnet:wrn_28_2",
    "resnet18": "r2d2_tf.backbones.resnet:resnet18",
}
"""Name -> `module:function`, a function of (image_shape, num_classes, batch_norm) that returns logits.

`batch_norm()` makes a layer of batch normalisation.
"""


def build(
    name: str,
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    synchronized_batch_norm: bool = False,
) -> "keras.Model":
    """A network from pixels to logits.

    Normalising, (pixels / 255 - mean) / std, is the network's first layer: training, evaluation, the
    saved file and every export share it, so they cannot disagree.

    Args:
        name: a key of BACKBONES.
        image_shape: (height, width, channels).
        num_classes: width of the logits.
        mean: mean of each channel, in 0..1.
        std: standard deviation of each channel, in 0..1.
        synchronized_batch_norm: batch normalisation over the images of all replicas.

    Returns:
        A model: pixels 0..255 (uint8 or float), `[batch, *image_shape]`, to logits, `[batch, num_classes]`.
    """
    import keras

    from r2d2_tf.backbones import layers

    module, function = BACKBONES[name].split(":")
    batch_norm = functools.partial(layers.batch_norm, synchronized=synchronized_batch_norm)
    network = getattr(importlib.import_module(module), function)(image_shape, num_classes, batch_norm)
    # The network within the one that is returned passes on what it is told, too.
    network._register_call_context_args(layers.NUM_IMAGES)
    pixels = keras.Input(image_shape, name="pixels")
    scale = [1.0 / (255.0 * s) for s in std]
    offset = [-m / s for m, s in zip(mean, std, strict=True)]
    normalized = keras.layers.Rescaling(scale, offset, name="normalize")(pixels)
    return keras.Model(pixels, network(normalized), name=f"{name}_backbone")


def load(path: Path) -> "keras.Model":
    """Reads a network that a run saved, executing no code from the file.

    Raises:
        ValueError: if the file is not there, is damaged, or holds code.
    """
    import keras

    if not path.is_file():
        raise ValueError(f"there is no network {path}: give the folder of a run that trained it")
    # Registers the project's own layers.
    importlib.import_module("r2d2_tf.backbones.layers")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    # Whatever a zip archive, JSON, HDF5 and Keras make of bytes that are not theirs.
    except Exception as error:
        raise ValueError(
            one_line(
                f"the network {path} cannot be read: it is damaged, or holds code, which is never run; make it again ({error})"
            )
        ) from error
