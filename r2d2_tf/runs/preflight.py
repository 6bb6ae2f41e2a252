"""What is wrong with a run, found before TensorFlow is imported."""

from pathlib import Path

from r2d2_tf import backbones
from r2d2_tf.config import flag_checks
from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS, TFDS_PREFIX
from r2d2_tf.data.image_data import DatasetSpec
from r2d2_tf.data.labels.matching import rows_named
from r2d2_tf.data.readers.tfds import check_tfds, download_tfds
from r2d2_tf.data.splits import check_num_labels, parse_split
from r2d2_tf.runs import other_runs, run_directory, run_labels
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.system.startup import import_tensorflow_quietly


def check_data(config: Config) -> DatasetSpec:
    """Finds what is wrong with network, data, split, `--stage_1_from` and `--warm_start` before TensorFlow is imported.

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
            parse_split(Path(config.split_file).expanduser(), ids)
        if evaluates_on_file:
            run_labels.check_evaluated_ids(config, spec, ids)
        if spec.labels is not None:
            rows_named(spec.labels.read(), ids)
    if config.stage_1_from and not run_directory.has_checkpoint(config):
        other_runs.stage_1_summary(Path(config.stage_1_from).expanduser(), config)
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
