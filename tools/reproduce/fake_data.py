"""Fake TFDS sets, to try configs out where the real set is not at hand: noise in true shapes, with true classes and ids.

A copy calls itself fake in its dataset_info.json, and everything that a run on it prints or writes does, too.
"""

import contextlib
import functools
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.data.image_data import DatasetSpec
from r2d2_tf.data.readers.tfds import FAKE, check_tfds
from r2d2_tf.system.startup import import_tensorflow_quietly

NUM_UNLABELED = 40
NUM_TEST = 40


def make(dataset: str, data_dir: Path) -> None:
    """Writes a fake copy of a set of DATASETS into `data_dir`, if none is there.

    It has one training image a class and NUM_UNLABELED more, and NUM_TEST test images.
    """
    spec = DATASETS[dataset]
    if spec.tfds_name is None:
        return
    with contextlib.suppress(ValueError):
        check_tfds(spec.tfds_name, data_dir)
        return
    import_tensorflow_quietly()
    import tensorflow as tf
    import tensorflow_datasets as tfds

    info = tfds.builder(spec.tfds_name, data_dir=data_dir).info
    test = "validation" if spec.photographs else "test"
    counts = {"train": spec.num_classes + NUM_UNLABELED, test: NUM_TEST}
    # An image may have any size: generated ones are encoded here, and their size is not part of the signature.
    signature = {name: tf.TensorSpec(feature.shape, feature.dtype) for name, feature in info.features.items()}
    splits = {}
    for split, count in counts.items():
        examples = functools.partial(_examples, spec, split, count, list(signature))
        splits[split] = tf.data.Dataset.from_generator(examples, output_signature=signature)
    name, _, variant = spec.tfds_name.partition("/")
    with contextlib.redirect_stderr(io.StringIO()):
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            config=variant or None,
            version=str(info.version),
            features=info.features,
            split_datasets=splits,
            data_dir=data_dir,
            description=f"{FAKE}: noise in the shapes of {name}",
        )


def _examples(spec: DatasetSpec, split: str, count: int, names: list[str]) -> Iterator[dict[str, Any]]:
    generator = np.random.default_rng(0)
    for number in range(count):
        shape = (*generator.integers(300, 500, 2), 3) if spec.photographs else spec.image_shape
        example = {
            "image": generator.integers(0, 256, shape).astype(np.uint8),
            "label": number % spec.num_classes,
            "coarse_label": number % 20,
            "id": f"{split}_{number:05d}",
            "file_name": f"n{number % spec.num_classes:08d}_{number}.JPEG",
        }
        yield {name: example[name] for name in names}


def trial_flags(config: Config, data_dir: Path) -> list[str]:
    """Flags that cut a config down to one step of each stage, at its real shapes, on a fake copy in `data_dir`."""
    spec = DATASETS[config.dataset]
    rounds = ",".join(f"1:{r.learning_rate}" for r in config.parsed_rounds[:2])
    return [
        f"--data_dir={data_dir}",
        f"--num_labels={spec.num_classes if config.num_labels else 0}",
        "--split_file=",
        "--supervised_epochs=1",
        f"--rounds={rounds}",
        f"--finetune_epochs={min(1, config.finetune_epochs)}",
        *(f"--{name}batch_size=8" for name in ("", "supervised_", "finetune_", "eval_")),
        "--max_steps=1",
        "--nostop_on_collapse",
    ]
