"""What a benchmark is asked for: flags to Settings. Needs no TensorFlow."""

import math
import os
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from absl import flags

from r2d2_tf.config import command_line
from r2d2_tf.config.command_line import described
from r2d2_tf.config.config import Config
from r2d2_tf.config.path_flags import define_path
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.data.readers.tfds import check_tfds
from r2d2_tf.runs import run_directory
from r2d2_tf.system.messages import one_line

CASES = {
    "lenet": Config(dataset="mnist", backbone="lenet", num_labels=1000, batch_size=64, translate=2),
    "conv_small": Config(dataset="cifar10", backbone="conv_small", num_labels=1000, batch_size=128, translate=4, flip=True),
    "conv_medium": Config(dataset="cifar10", backbone="conv_medium", num_labels=1000, batch_size=128, translate=4, flip=True),
    "cifar_fast": Config(dataset="cifar10", backbone="cifar_fast", num_labels=1000, batch_size=128, translate=4, flip=True),
    "conv_large": Config(dataset="cifar10", backbone="conv_large", num_labels=1000, batch_size=32, translate=4, flip=True),
}
"""Network -> shapes, batch and augmentation that it is measured with."""
PARTS = {
    "steps": "the D2 step, the same network's supervised Keras step, and its D2 step in PyTorch where that is installed",
    "prediction": "reprediction, and a bare forward loop over the same batches",
    "input": "the input alone, and training on a ready batch",
    "tables": "step time and peak memory at 1,000, 100,000 and --rows rows of --classes pseudo-logits",
    "replicas": "1 and 2 replicas on the same global batch (two logical CPUs)",
    "startup": "importing, and the time to the first step's end",
    "export": "latency of the exported models, one image at a time",
    "serving": "requests a second of export.serve, beside a plain aiohttp handler around the same SavedModel",
    "checkpoints": "what checkpoints cost, as shares of a run's time",
    "photographs": "reading, decoding and cropping the photographs of Imagenette, beside the least that could be done",
    "features": "computing and keeping features of --images photographs of Imagenette, beside the forward passes alone",
    "estimates": "how long five kinds of short runs take, beside what was said of that before; takes minutes",
}
"""Part, which is the name of its module -> what it measures."""
PHOTOGRAPHS = "imagenette"
"""The data set of the parts _OF_PHOTOGRAPHS, a key of DATASETS."""
_OF_PHOTOGRAPHS = ("photographs", "features", "estimates")
_DEFAULT_PARTS = tuple(name for name in PARTS if name not in _OF_PHOTOGRAPHS)
_QUICK = {"backbones": ["lenet", "conv_small"], "rounds": 2, "seconds": 0.2, "rows": 20_000, "images": 256}
_QUICK_FLAGS = " ".join(f"--{name}={','.join(v) if isinstance(v, list) else v}" for name, v in _QUICK.items())
_PLAIN = ("rounds", "seconds", "rows", "classes", "images", "folder", "quick", "torch_compile")
"""Settings that are as their flags."""
_MOST_ROWS, _MOST_BATCH = 100_000_000, 1_000_000


@dataclass(frozen=True)
class Settings:
    """What is measured, and for how long.

    Attributes:
        batch_sizes: images a training batch, one a backbone.
        threads: of TensorFlow and of PyTorch.
        quick: shorten also what neither rounds nor seconds shorten.
    """

    parts: tuple[str, ...] = described(
        _DEFAULT_PARTS, f"what to measure, among {', '.join(PARTS)}; with --data_dir all, unless given"
    )
    backbones: tuple[str, ...] = described(tuple(CASES), f"networks, among {', '.join(CASES)}")
    batch_sizes: tuple[int, ...] = tuple(config.batch_size for config in CASES.values())
    rounds: int = described(7, "alternating rounds", lower_bound=1)
    seconds: float = described(4.0, "of a round, for each arm", lower_bound=0.0, upper_bound=3600.0)
    rows: int = described(1_281_167, "rows of the largest table", lower_bound=2000, upper_bound=_MOST_ROWS)
    classes: int = described(1000, "its classes", lower_bound=2, upper_bound=100_000)
    images: int = described(5000, "photographs, for features", lower_bound=1, upper_bound=1_000_000)
    folder: str = described(tempfile.gettempdir(), "for files; must have room for three checkpoints", is_path=True)
    threads: int = 1
    data_dir: str = described(
        "", f"folder of prepared TFDS sets, one of them {PHOTOGRAPHS}, for the last three parts", is_path=True
    )
    quick: bool = described(False, f"a first look: {_QUICK_FLAGS}, unless given, and shorter runs")
    torch_compile: bool = described(False, "torch.compile for PyTorch, which needs a C++ compiler")

    @property
    def cases(self) -> list[Config]:
        """One config a backbone, with its batch size."""
        sizes = zip(self.backbones, self.batch_sizes, strict=True)
        return [replace(CASES[name], batch_size=size) for name, size in sizes]


def define_flags(flag_values: flags.FlagValues) -> None:
    command_line.define_flags(flag_values, Settings)
    define = {"flag_values": flag_values}
    flags.DEFINE_list("batch_sizes", [], "images a training batch, one for each of --backbones", **define)
    flags.DEFINE_integer("threads", 0, "of TensorFlow and PyTorch; 0 = one a CPU", lower_bound=0, upper_bound=4096, **define)
    define_path("json", "", "file for the numbers", **define)


def parse(flag_values: flags.FlagValues, arguments: Sequence[str]) -> Settings:
    """The Settings of a command line.

    Raises:
        ValueError: in one line, for a flag that is wrong or a place that cannot be written.
    """
    command_line.parse_flags(flag_values, arguments)
    given = {name: flag_values[name].value for name in flag_values if flag_values[name].present}
    asked = {name: flag_values[name].value for name in flag_values}
    asked |= (_QUICK if asked["quick"] else {}) | given
    data_dir, backbones = asked["data_dir"], asked["backbones"]
    parts = list(PARTS) if data_dir and "parts" not in given else asked["parts"]
    if not math.isfinite(asked["seconds"]):
        raise ValueError("seconds (nan) must be a number: change --seconds")
    _check_among("parts", parts, PARTS)
    _check_among("backbones", backbones, CASES)
    settings = Settings(
        parts=tuple(parts),
        backbones=tuple(backbones),
        batch_sizes=_batch_sizes(asked["batch_sizes"], backbones),
        threads=asked["threads"] or num_cpus(),
        data_dir=data_dir,
        **{
            name: asked[name] for name in ("rounds", "seconds", "rows", "classes", "images", "folder", "quick", "torch_compile")
        },
    )
    # Configs check batch sizes.
    _ = settings.cases
    if not set(parts).isdisjoint(_OF_PHOTOGRAPHS):
        check_tfds(str(DATASETS[PHOTOGRAPHS].tfds_name), Path(settings.data_dir) if data_dir else None)
    run_directory.check_writable(Path(settings.folder))
    if asked["json"]:
        run_directory.check_writable(Path(asked["json"]).absolute().parent)
    return settings


def num_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_among(flag: str, names: Sequence[str], allowed: Collection[str]) -> None:
    wrong = [name for name in names if name not in allowed]
    if wrong or not names:
        raise ValueError(one_line(f"{flag} ({', '.join(wrong)}) must be among {', '.join(allowed)}: change --{flag}"))
    if len(set(names)) < len(names):
        raise ValueError(f"{flag} ({', '.join(names)}) names one twice: change --{flag}")


def _batch_sizes(texts: Sequence[str], backbones: Sequence[str]) -> tuple[int, ...]:
    if not texts:
        return tuple(CASES[name].batch_size for name in backbones)
    if len(texts) != len(backbones):
        raise ValueError(
            f"batch_sizes has {len(texts)} numbers for {len(backbones)} backbones ({', '.join(backbones)}): give one for each"
        )
    wrong = [text for text in texts if not (text.isascii() and text.isdigit() and 4 <= int(text[:9]) <= _MOST_BATCH)]
    if wrong:
        raise ValueError(one_line(f"batch_sizes ({wrong[0]!r}) must be whole numbers from 4 to {_MOST_BATCH:,}"))
    return tuple(int(text) for text in texts)
