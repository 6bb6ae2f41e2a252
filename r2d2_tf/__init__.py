"""R2-D2: repetitive reprediction deep decipher for semi-supervised learning.

The method of Wang and Wu (AAAI 2020) on Keras 3 and TensorFlow, as commands (`python -m r2d2_tf.train
--flagfile=configs/mnist5k.cfg`) and in Python:

    import r2d2_tf

    summary = r2d2_tf.run(r2d2_tf.Config(dataset="mnist5k"), run_dir="runs/digits")
    network = r2d2_tf.load("runs/digits")

Each public name is imported when it is first asked for: TensorFlow takes seconds.
"""

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from r2d2_tf.classifier import R2D2Classifier as R2D2Classifier
    from r2d2_tf.config.config import Config as Config
    from r2d2_tf.method.losses import forward_kl as forward_kl
    from r2d2_tf.method.losses import reverse_kl as reverse_kl
    from r2d2_tf.method.losses import squared_l2 as squared_l2
    from r2d2_tf.method.model import R2D2Model as R2D2Model
    from r2d2_tf.method.pseudo_labels import PseudoLabelTable as PseudoLabelTable
    from r2d2_tf.method.reprediction import Reprediction as Reprediction
    from r2d2_tf.method.reprediction import when_settled as when_settled
    from r2d2_tf.runs.finished import load as load
    from r2d2_tf.training.callbacks.collapse import RunStopped as RunStopped
    from r2d2_tf.training.run import run as run

__version__ = "0.2.0.dev0"

_HOMES = {
    "Config": "config.config",
    "PseudoLabelTable": "method.pseudo_labels",
    "R2D2Classifier": "classifier",
    "R2D2Model": "method.model",
    "Reprediction": "method.reprediction",
    "RunStopped": "training.callbacks.collapse",
    "forward_kl": "method.losses",
    "load": "runs.finished",
    "reverse_kl": "method.losses",
    "run": "training.run",
    "squared_l2": "method.losses",
    "when_settled": "method.reprediction",
}
"""Public name -> the module that it is of."""

__all__ = [*_HOMES]

if {"keras", "tensorflow"} <= sys.modules.keys():
    # Then keras.models.load_model knows the layers in what runs have saved, and nothing has to be waited for.
    from r2d2_tf import backbones

    backbones.register_layers()


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}: its public names are {', '.join(_HOMES)}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
