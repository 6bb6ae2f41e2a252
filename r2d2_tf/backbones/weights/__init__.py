"""Weights to begin with: from files of Keras and PyTorch, and of ImageNet from Keras' cache and from packages."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def load_file(backbone: "keras.Model", path: Path) -> str:
    """Gives a network that `backbones.build` made the weights in a file; call it in the strategy's scope.

    All must be there; only the head may be of another size or missing, and is then left as it is. No code is read.

    Args:
        backbone: from pixels to logits.
        path: `.weights.h5` or `.keras`, see keras_files.py; of an EfficientNet-Lite also `.pth` or `.safetensors`.

    Returns:
        What was loaded and what was not, for people.

    Raises:
        ValueError: in one line, if the file cannot be read, or is of another network.
    """
    import keras

    from r2d2_tf.backbones.weights import by_name, keras_files

    if path.suffix not in by_name.READERS:
        return keras_files.load(backbone, path)
    network = next(layer for layer in backbone.layers if isinstance(layer, keras.Model))
    return f"weights of {path}: {by_name.load(network, path)}"


def load_imagenet(network: "keras.Model") -> None:
    """Gives an EfficientNet-Lite, preprocessed pixels to logits, the weights of its package, but for the head's.

    Raises:
        ValueError: in one line, if they are not installed, or damaged.
    """
    from r2d2_tf.backbones.weights import by_name, packages

    by_name.load(network, packages.file_of(network.name), with_head=False)
