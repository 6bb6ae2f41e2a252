"""How a run stands, and what is wrong with it, found before TensorFlow is imported."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from r2d2_tf import backbones
from r2d2_tf.config import flag_checks
from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS, TFDS_PREFIX
from r2d2_tf.data.image_data import DatasetSpec
from r2d2_tf.data.labels.matching import rows_named
from r2d2_tf.data.readers.tfds import check_tfds, download_tfds
from r2d2_tf.data.splits import check_num_labels, parse_split
from r2d2_tf.distributed.cluster import ALONE, Cluster, cluster_from_environment
from r2d2_tf.runs import kept_rounds, other_runs, run_directory, run_labels
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.system.commands import brought
from r2d2_tf.system.messages import warn
from r2d2_tf.system.startup import import_tensorflow_quietly


class Begun(NamedTuple):
    """A run that is finished, or that is to be trained.

    Attributes:
        config: as a run that is in the folder already was begun.
        cluster: the processes that train it.
        finished: its summary; None if there is something to train.
        spec: of its data; None if it is finished.
    """

    config: Config
    cluster: Cluster
    finished: dict[str, Any] | None
    spec: DatasetSpec | None


def begin(config: Config) -> Begun:
    """How the run of a config stands; prints the config's warnings, and removes what a finished run no longer needs.

    Raises:
        ValueError: in one line, if the config does not fit the data, or its folder is taken; nothing is written.
    """
    config = run_directory.as_begun(config)
    cluster = cluster_from_environment(os.environ) if config.strategy == "multi_worker" else ALONE
    finished = run_directory.finished_summary(config, claims=cluster.is_chief)
    spec = check_data(config) if finished is None else None
    for line in config.warnings():
        warn(line)
    if finished is not None and cluster.is_chief:
        # A process that was killed as it finished may have left them.
        run_directory.remove_checkpoints(config.resolved_run_dir)
    return Begun(config, cluster, finished, spec)


def check_data(config: Config) -> DatasetSpec:
    """Finds what is wrong with network, data, split and the runs to start from before TensorFlow is imported.

    Returns:
        What is known of the data set, found once for the whole run.

    Raises:
        ValueError: if there is no such network or file of weights, the data set is missing or damaged, the split or
            `--evaluate_on` names images that it does not hold, or the other run has no network to take over.
    """
    backbones.check(config.backbone, synchronized_batch_norm=config.synchronized_batch_norm)
    if not config.warm_start:
        flag_checks.check_weights_file(config.weights, config.backbone)
    evaluates_on_set = config.evaluate_on in DATASETS
    evaluates_on_file = bool(config.evaluate_on) and not evaluates_on_set
    if config.dataset in DATASETS:
        _prepare(DATASETS[config.dataset].tfds_name, config)
    elif config.dataset.startswith(TFDS_PREFIX):
        _prepare(config.dataset.removeprefix(TFDS_PREFIX), config)
    spec = spec_of(config)
    if evaluates_on_set:
        other = DATASETS[config.evaluate_on]
        if (other.image_shape, other.num_classes) != (spec.image_shape, spec.num_classes) or spec.photographs:
            raise ValueError(
                f"evaluate_on ({config.evaluate_on}) must be a data set of the same image size and number of classes as "
                f"{config.dataset}, in memory: change --evaluate_on, or name a file of training images"
            )
        _prepare(other.tfds_name, config)
    is_named = config.split_file or config.labels or evaluates_on_file
    if spec.read_ids is not None and (spec.tfds_name is not None or is_named):
        ids = spec.read_ids(config.data_path)
        if spec.tfds_name is not None and not config.labels:
            # A copy may be a part of the set.
            check_num_labels(config.num_labels or spec.num_classes, spec.num_classes, len(ids))
        if config.split_file:
            parse_split(brought(Path(config.split_file).expanduser()), ids)
        if evaluates_on_file:
            run_labels.check_evaluated_ids(config, spec, ids)
        if spec.labels is not None:
            rows_named(spec.labels.read(), ids)
    if config.stage_1_from and not run_directory.has_checkpoint(config):
        other_runs.stage_1_summary(Path(config.stage_1_from).expanduser(), config)
    if config.stage_2_from and not run_directory.has_checkpoint(config):
        kept_rounds.round_to_start_from(Path(config.stage_2_from).expanduser(), config)
    if config.warm_start and not run_directory.has_checkpoint(config):
        other_runs.warm_start_summary(Path(config.warm_start).expanduser(), config)
    return spec


def _prepare(tfds_name: str | None, config: Config) -> None:
    """Sees to it that a data set is there, downloaded if that is asked for."""
    if tfds_name is None:
        return
    try:
        check_tfds(tfds_name, config.data_path)
    except ValueError:
        if not config.download or config.data_path is None:
            raise
        import_tensorflow_quietly()
        download_tfds(tfds_name, config.data_path)
