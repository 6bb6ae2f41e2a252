"""A Keras model of the user's as a backbone: saved beside the run, with a module that commands find it by."""

import contextlib
import hashlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from r2d2_tf.system import files

if TYPE_CHECKING:
    import keras

_PREFIX = "r2d2_network_"
_SOURCE = '''"""The network that a classifier was given, as it was before training."""

from pathlib import Path

import keras


def network({arguments}):
    return keras.saving.load_model(Path(__file__).with_suffix(".keras"), compile=False, safe_mode=True)
'''


def save(model: "keras.Model", num_classes: int, folder: Path) -> str:
    """Writes a model, whose weights it keeps, into a folder, and returns its name for `--backbone`.

    A model of as many numbers as there are classes gives logits, any other one features. It is named by its contents.

    Raises:
        ValueError: if it is not built, or cannot be saved.
    """
    from r2d2_tf.system.provenance import digest_of

    if not model.built:
        raise ValueError("backbone is a Keras model whose shapes are not known: give it a keras.Input, or call it once")
    about = model.to_json().encode()
    digest = hashlib.sha256(about + digest_of(model.get_weights()).encode()).hexdigest()[:12]
    name = f"{_PREFIX}{digest}"
    gives_logits = tuple(model.output_shape[1:]) == (num_classes,)
    if not (folder / f"{name}.py").is_file():
        with files.written_whole(folder / f"{name}.keras") as path:
            model.save(path)
        arguments = "image_shape, num_classes" if gives_logits else "image_shape"
        files.write_text(folder / f"{name}.py", _SOURCE.format(arguments=arguments))
    return f"{name}:network"


def load(folder: Path, name: str) -> "keras.Model | None":
    """The model that `save` wrote there and named so; None if it is gone."""
    path = folder / f"{name.partition(':')[0]}.keras"
    if not path.is_file():
        return None
    import keras

    return keras.saving.load_model(path, compile=False, safe_mode=True)


@contextlib.contextmanager
def findable(folder: Path) -> Iterator[None]:
    """Within it modules of `folder` can be imported; what it imported is forgotten, as another folder may hold its equal."""
    sys.path.append(os.fspath(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(os.fspath(folder))
        for module in [module for module in sys.modules if module.startswith(_PREFIX)]:
            del sys.modules[module]
