"""Weights of PyTorch for networks whose layers have their names from there."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import keras
import numpy as np
from keras import layers

from r2d2_tf.backbones.efficientnet_lite import torch_name
from r2d2_tf.backbones.layers import head_of
from r2d2_tf.backbones.weights import safetensors_files, torch_files
from r2d2_tf.system.messages import one_line

READERS: dict[str, Callable[[bytes], Mapping[str, np.ndarray]]] = {
    ".pth": torch_files.read,
    ".safetensors": safetensors_files.read,
}
LARGEST = 1 << 28
"""Bytes that such a file may have: ten times what the largest network's weights take."""
_NOT_NEEDED = "num_batches_tracked"
"""What PyTorch's batch normalisation counts, and Keras' does not have."""
Order = tuple[int, ...]


def load(network: keras.Model, path: Path, *, with_head: bool = True) -> str:
    """Gives an EfficientNet-Lite the weights in a file; its head's, too, if they are there and of its size.

    Args:
        network: preprocessed pixels to logits.
        path: its ending is one of READERS.
        with_head: false leaves the head as it is.

    Returns:
        What was loaded and what was not, for people.

    Raises:
        ValueError: in one line, if the file cannot be read, or is of another network.
    """
    size = path.stat().st_size
    if size > LARGEST:
        raise ValueError(f"weights ({path}) have {size:,} bytes, more than any network here: give another file")
    try:
        tensors = READERS[path.suffix](path.read_bytes())
    except ValueError as error:
        raise ValueError(one_line(f"weights ({path}) cannot be read: {error}")) from error
    try:
        return _assign(network, tensors, with_head=with_head)
    except ValueError as error:
        raise ValueError(one_line(f"weights ({path}) are not of this --backbone: {error}")) from error


def _assign(network: keras.Model, tensors: Mapping[str, np.ndarray], *, with_head: bool) -> str:
    head = head_of(network)
    rest = {name: None for name in tensors if not name.endswith(_NOT_NEEDED)}
    pairs, left = [], []
    for layer in network.layers:
        for name, variable, order in _variables(layer):
            rest.pop(name, None)
            # The shape in the file that would fit.
            shape = tuple(variable.shape[order.index(axis)] for axis in range(len(order)))
            found = tensors.get(name)
            if found is not None and found.shape == shape and (with_head or layer is not head):
                pairs.append((variable, found.transpose(order)))
            elif layer is head:
                left.append(name)
            else:
                there = "is not there" if found is None else f"has shape {found.shape} there, {shape} here"
                raise ValueError(f"its {name} {there}; only the head may differ")
    for name in rest:
        raise ValueError(f"it has {name[:100]!r}, which is not here")
    # A head of which only a part fits stays at random whole.
    pairs = [(variable, value) for variable, value in pairs if not left or all(variable is not w for w in head.weights)]
    for variable, value in pairs:
        variable.assign(value)
    count = sum(value.size for _, value in pairs)
    return f"{count:,} numbers in {len(pairs)} tensors; {'at random: the head' if left else 'the head among them'}"


def _variables(layer: layers.Layer) -> Iterator[tuple[str, keras.Variable, Order]]:
    """A layer's variables: PyTorch's name, and where each axis here is among its axes there."""
    name = torch_name(layer.name)
    if isinstance(layer, layers.BatchNormalization):
        yield f"{name}.weight", layer.gamma, (0,)
        yield f"{name}.bias", layer.beta, (0,)
        yield f"{name}.running_mean", layer.moving_mean, (0,)
        yield f"{name}.running_var", layer.moving_variance, (0,)
    elif isinstance(layer, layers.DepthwiseConv2D):
        yield f"{name}.weight", layer.kernel, (2, 3, 0, 1)
    elif isinstance(layer, layers.Conv2D):
        yield f"{name}.weight", layer.kernel, (2, 3, 1, 0)
    elif isinstance(layer, layers.Dense):
        yield f"{name}.weight", layer.kernel, (1, 0)
        yield f"{name}.bias", layer.bias, (0,)
