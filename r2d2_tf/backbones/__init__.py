"""Networks. BACKBONES names them without importing TensorFlow; `build` makes one, ready for raw pixels."""

import contextlib
import functools
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from r2d2_tf.messages import one_line

if TYPE_CHECKING:
    import keras

BACKBONES: dict[str, str] = {
    "lenet": "r2d2_tf.backbones.lenet:lenet",
    "lenet_2d": "r2d2_tf.backbones.lenet:lenet_2d",
    "conv_small": "r2d2_tf.backbones.conv_small:conv_small",
    "conv_medium": "r2d2_tf.backbones.conv_small:conv_medium",
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
    mixed_precision: str = "none",
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
        mixed_precision: what the network computes in: `none` (float32), `bfloat16` or `float16`.

    Returns:
        A model: pixels 0..255 (uint8 or float), `[batch, *image_shape]`, to logits, `[batch, num_classes]` float32. Its weights
        are float32.
    """
    import keras

    from r2d2_tf.backbones import layers

    module, function = BACKBONES[name].split(":")
    batch_norm = functools.partial(layers.batch_norm, synchronized=synchronized_batch_norm)
    with _dtype_policy(mixed_precision):
        network = getattr(importlib.import_module(module), function)(image_shape, num_classes, batch_norm)
    # The network within the one that is returned passes on what it is told, too.
    network._register_call_context_args(layers.NUM_IMAGES)
    pixels = keras.Input(image_shape, name="pixels")
    scale = [1.0 / (255.0 * s) for s in std]
    offset = [-m / s for m, s in zip(mean, std, strict=True)]
    normalized = layers.Normalization(scale, offset, name="normalize")(pixels)
    logits = network(normalized)
    if mixed_precision != "none":
        logits = keras.layers.Activation("linear", dtype="float32", name="to_float32")(logits)
    return keras.Model(pixels, logits, name=f"{name}_backbone")


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
