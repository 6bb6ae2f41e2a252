"""Weights to begin with, from a file that Keras saved."""

import contextlib
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import keras
import numpy as np

from r2d2_tf.backbones.layers import head_of
from r2d2_tf.system.messages import one_line

_IN_KERAS_FILE = "model.weights.h5"
_VARIABLES = "vars"
_PREPROCESSING = ("rescaling", "normalization")
"""How the names of classes begin whose layers change what a network sees."""


class Saved(NamedTuple):
    """A layer in a file: its name, and its variables in order, but for the state of random numbers."""

    name: str
    values: list[Any]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of the variables."""
        return [tuple(value.shape) for value in self.values]

    @property
    def size(self) -> int:
        """How many numbers its variables have."""
        return sum(int(np.prod(shape)) for shape in self.shapes)


Layers = Mapping[str, Saved]
"""Path within a file -> layer."""


def load(backbone: keras.Model, path: Path) -> str:
    """Gives a network that `backbones.build` made the weights in a file; call it in the strategy's scope.

    The file is of the same network: of what the user's function returns, of an application with or without its own top, or of
    another run. Its layers are found by their place in the network, whatever the network is part of. All must be there; only
    the head may be of another size or missing, and is then left as it is. No code is read.

    Args:
        backbone: from pixels to logits.
        path: `.weights.h5` or `.keras`.

    Returns:
        What was loaded and what was not, for people.

    Raises:
        ValueError: in one line, if the file cannot be read, or is of another network.
    """
    with tempfile.TemporaryDirectory() as folder:
        merged = Path(folder) / "merged.weights.h5"
        backbone.save_weights(merged)
        try:
            with contextlib.closing(_opened(path, Path(folder))) as theirs, h5py.File(merged, "r+") as ours:
                told = _merge(backbone, _layers_in(ours), _layers_in(theirs))
        except (OSError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
            why = f"cannot be read: is it a .weights.h5 or .keras file? ({error})"
            raise ValueError(one_line(f"weights ({path}) {why}")) from error
        except ValueError as error:
            raise ValueError(one_line(f"weights ({path}) are not of this --backbone: {error}")) from error
        backbone.load_weights(merged)
    return f"weights of {path}: {told}"


def _opened(path: Path, folder: Path) -> h5py.File:
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            path = Path(archive.extract(_IN_KERAS_FILE, folder))
    return h5py.File(path, "r")


def _layers_in(file: h5py.File) -> Layers:
    """All layers in a file, those without variables, too."""
    layers = {}

    def add(path: str, item: Any) -> None:
        layer, _, last = path.rpartition("/")
        if isinstance(item, h5py.Group) and last == _VARIABLES:
            values = [item[key] for key in sorted(item, key=int)]
            layers[layer] = Saved(str(item.attrs.get("name", "")), [value for value in values if value.dtype.kind != "u"])

    file.visititems(add)
    return layers


def _merge(backbone: keras.Model, ours: Layers, theirs: Layers) -> str:
    """Writes their values over ours, and returns what was done."""
    network = next(layer for layer in backbone.layers if isinstance(layer, keras.Model))
    inner = next(path for path, saved in ours.items() if saved.name == network.name and path.count("/") == 1)
    head, place = _path_of_head(backbone, ours, inner), _place_of(inner, ours, theirs)
    loaded, left = [], []
    for path, saved in ours.items():
        other = theirs.get(_moved(path, inner, place) or "") or Saved("", [])
        if not saved.values:
            continue
        if other.shapes == saved.shapes:
            for value, new in zip(saved.values, other.values, strict=True):
                value[...] = new[()]
            loaded.append(saved)
        elif path == head or path.startswith(f"{head}/"):
            left.append(f"{saved.name}, {f'{other.shapes[0]} there, {saved.shapes[0]} here' if other.values else 'not there'}")
        else:
            there = f"has shapes {other.shapes} there, {saved.shapes} here" if other.values else "is not there"
            raise ValueError(f"its layer {saved.name} {there}; only the head may differ")
    _check_same_preprocessing(_within(ours, inner), _within(theirs, place))
    rest = f"at random: the head ({'; '.join(left)})" if left else "the head among them"
    return f"{sum(saved.size for saved in loaded):,} numbers in {len(loaded)} layers; {rest}"


def _path_of_head(backbone: keras.Model, ours: Layers, inner: str) -> str:
    head = head_of(backbone)
    is_inner = all(layer is not head for layer in backbone.layers)
    return next(path for path, saved in ours.items() if saved.name == head.name and path.startswith(f"{inner}/") == is_inner)


def _place_of(inner: str, ours: Layers, theirs: Layers) -> str:
    """Where in their file the network is that in ours is at `inner`: where the most numbers have a counterpart."""

    def matched(place: str) -> int:
        pairs = ((saved, theirs.get(f"{place}{path}".lstrip("/"))) for path, saved in _within(ours, inner).items())
        return sum(saved.size for saved, other in pairs if other is not None and other.shapes == saved.shapes)

    places = {"", *theirs, *(path.rpartition("/layers/")[0] for path in theirs)}
    return max(sorted(places), key=matched)


def _within(layers: Layers, place: str) -> Layers:
    """The layers of a network that is at `place`, by what follows that in their paths: nothing, or / and more."""
    inside = {path: saved for path, saved in layers.items() if _is_in(path, place)}
    return {path.removeprefix(place) if place else f"/{path}".rstrip("/"): saved for path, saved in inside.items()}


def _is_in(path: str, place: str) -> bool:
    return not place or path == place or path.startswith(f"{place}/")


def _moved(path: str, inner: str, place: str) -> str | None:
    """The path in their file of what in ours is at `path`; None where there can be none."""
    if _is_in(path, inner):
        return f"{place}{path.removeprefix(inner)}".lstrip("/")
    # Beside the network: the head of another run.
    return path if place == inner else None


def _check_same_preprocessing(ours: Layers, theirs: Layers) -> None:
    def preprocessing(layers: Layers) -> Iterator[str]:
        return (path for path in layers if path.rpartition("/")[2].startswith(_PREPROCESSING))

    for path in {*preprocessing(ours)} ^ {*preprocessing(theirs)}:
        raise ValueError(f"one of the two preprocesses pixels by {path.rpartition('/')[2]}, the other does not")
