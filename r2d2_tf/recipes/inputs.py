"""What the choice of a recipe starts from: a command line that leaves it open, its data, and facts about them."""

import dataclasses
from collections.abc import Collection

from r2d2_tf.config.config import Config
from r2d2_tf.config.flag_checks import NO_WEIGHTS
from r2d2_tf.data.datasets import OWN_SETS, TFDS_PREFIX
from r2d2_tf.data.image_data import DatasetSpec, ImageData
from r2d2_tf.data.readers.file_search import find_images
from r2d2_tf.data.readers.folder import NoTestImages
from r2d2_tf.recipes.facts import Facts, facts_of, looks_of
from r2d2_tf.runs import run_directory, run_labels
from r2d2_tf.runs.dataset import spec_of

MINUTES = 20.0
"""That all of it may take, if --minutes does not say."""
TEST_FRACTIONS = (0.2, 0.5)
"""Shares of the labels that are tested on where no test images are set apart; the second where the first is none of a class."""
OF_THE_DATA = (
    *("dataset", "data_dir", "labels", "num_labels", "test_fraction", "image_view", "skip_bad_images", "soft_labels"),
    *("seed", "name", "run_dir", "new_run", "dry_run", "minutes", "checkpoint_minutes", "deterministic"),
    *("strategy", "num_logical_cpus", "eval_batch_size"),
)
"""Flags that leave open how it is trained."""


def is_open(named: Collection[str], config: Config) -> bool:
    """Whether a command line, of the flags `named`, leaves open how somebody's own images are to be trained.

    `--weights=none` leaves it open among networks at random.
    """
    own = config.dataset in OWN_SETS or config.dataset.startswith(TFDS_PREFIX)
    return own and set(named) - {"weights"} <= set(OF_THE_DATA) and config.weights == NO_WEIGHTS


def with_test_images(config: Config, *, needs_test: bool = True) -> tuple[Config, DatasetSpec]:
    """The config with a share of the labels to test on, where no test images are set apart; and the spec of its data.

    Args:
        config: of the data.
        needs_test: refuse data of which no share of TEST_FRACTIONS has a test image, rather than to do without.

    Raises:
        ValueError: if the data cannot be used.
    """
    # Once for all shares that are tried: of many files it takes a while.
    found = find_images(config.data_path) if config.dataset == "folder" and config.data_path is not None else None
    fractions = [*dict.fromkeys((config.test_fraction, *TEST_FRACTIONS))]
    for fraction in fractions:
        config = dataclasses.replace(config, test_fraction=fraction)
        try:
            return config, spec_of(config, found=found)
        except NoTestImages:
            if needs_test and fraction == fractions[-1]:
                raise
    config = dataclasses.replace(config, test_fraction=0.0)
    return config, spec_of(config, needs_test=False, found=found)


def data_of(config: Config) -> tuple[Config, DatasetSpec]:
    """What `with_test_images` gives, for a run that can be begun.

    Raises:
        ValueError: if the data cannot be used, the folder of the run is taken, or several processes are to choose.
    """
    if config.strategy == "multi_worker":
        raise ValueError(
            "strategy (multi_worker) trains what is chosen: choose in one process, and give its recipe.cfg to all as --flagfile"
        )
    run_directory.finished_summary(config)
    return with_test_images(config)


def facts_about(config: Config, spec: DatasetSpec, data: ImageData) -> Facts:
    """What recipes follow from, of the readable images `data`. Imports TensorFlow."""
    import tensorflow as tf

    shorter_side, is_grey = looks_of(data.train_images)
    return facts_of(
        data,
        run_labels.training_labels(data, config, spec.num_classes),
        shorter_side=shorter_side,
        is_grey=is_grey,
        num_test=len(data.test_labels),
        has_gpu=bool(tf.config.list_physical_devices("GPU")),
        minutes=config.minutes or MINUTES,
    )
