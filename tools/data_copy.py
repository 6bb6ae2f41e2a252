"""What the copy of a data set in --data_dir holds, and whether the rows of a table can be run on it. Needs no TensorFlow."""

from collections.abc import Sequence
from pathlib import Path

from r2d2_tf.config import Config
from r2d2_tf.datasets import DATASETS
from r2d2_tf.splits import check_num_labels, parse_split
from r2d2_tf.tfds_reader import check_tfds, find_tfds, is_fake, num_examples
from tools.results import Run


def has_copy(config: Config) -> bool:
    """Whether there is a prepared copy of the config's set, of TFDS, where it would be read from."""
    name = DATASETS[config.dataset].tfds_name
    return name is not None and config.data_path is not None and find_tfds(name, config.data_path) is not None


def num_train(config: Config) -> int:
    """Training images: of the copy, which may be a part of the set, or else of the published set.

    Raises:
        ValueError: if the copy is not whole.
    """
    spec = DATASETS[config.dataset]
    if spec.tfds_name is None or not has_copy(config):
        return spec.num_train
    return min(spec.num_train, num_examples(spec.tfds_name, "train", config.data_path))


def check(runs: Sequence[Run], *, is_needed: bool) -> None:
    """Finds rows that could not be run on the copy in --data_dir, before any is.

    Args:
        runs: of the table, all on one data set.
        is_needed: whether it is a mistake that there is no copy, and none is to be downloaded.

    Raises:
        ValueError: if there is no copy, or it is fake or not whole, or too small for a row, or lacks images that a row's
            split lists.
    """
    config = runs[0].config
    spec = DATASETS[config.dataset]
    if spec.tfds_name is None:
        return
    if not has_copy(config):
        if is_needed and not config.download:
            check_tfds(spec.tfds_name, config.data_path)
        return
    if is_fake(spec.tfds_name, config.data_path):
        raise ValueError(f"data_dir ({config.data_dir}) holds fake data: use --trial, or give real data")
    ids = spec.read_ids(config.data_path) if spec.read_ids is not None else None
    count = num_train(config) if ids is None else len(ids)
    for run in runs:
        try:
            _check_run(run.config, count, ids)
        except ValueError as error:
            raise ValueError(
                f"row {run.row.label!r} cannot be run on the {count:,} training images of the copy of {spec.tfds_name} in "
                f"{config.data_dir}, so nothing was run: {error}"
            ) from error


def _check_run(config: Config, num_images: int, ids: list[str] | None) -> None:
    num_classes = DATASETS[config.dataset].num_classes
    check_num_labels(config.num_labels or num_images, num_classes, num_images)
    unlabeled = config.batch_size - config.labeled_per_batch
    if config.rounds and num_images - (config.num_labels or num_images) < unlabeled:
        raise ValueError(
            f"batch_size ({config.batch_size}) takes {unlabeled} unlabeled images a batch: lower --batch_size or --num_labels"
        )
    if config.split_file and ids is not None:
        parse_split(Path(config.split_file).expanduser(), ids)
