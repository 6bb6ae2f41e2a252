"""What of its data a run may see: the labels of its split, and the images that it did not leave out; and how much it is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from r2d2_tf import resources, run_directory, splits
from r2d2_tf.config import Config
from r2d2_tf.datasets import DatasetSpec, ImageData
from r2d2_tf.pseudo_labels import UNLABELED
from r2d2_tf.stages import Stage


def sizes_of(config: Config, spec: DatasetSpec, stages: Sequence[Stage], num_rows: int) -> resources.Sizes:
    """What memory and disk are asked for."""
    return resources.Sizes(
        num_rows,
        spec.num_classes,
        num_unlabeled=max(0, num_rows - (config.num_labels or num_rows)),
        num_comparisons=sum(len(stage.prediction_epochs) + stage.learn_pseudo_labels for stage in stages),
    )


def left_out_before(config: Config) -> list[str] | None:
    """The unreadable images that a run which goes on left out when it began; None: they are to be found."""
    path = config.resolved_run_dir / run_directory.LEFT_OUT_FILE
    return path.read_text().splitlines() if run_directory.is_unfinished(config) and path.is_file() else None


def given_labels(data: ImageData, config: Config, num_classes: int) -> np.ndarray:
    """The labels that training may see, `[rows]`, -1 outside the split.

    Raises:
        ValueError: if the split does not fit the data.
    """
    if config.split_file:
        path = Path(config.split_file).expanduser()
        labeled = splits.read_split(path, data.train_ids, data.train_labels, data.class_names)
        if len(labeled) != config.num_labels:
            raise ValueError(
                f"split_file ({path}) lists {len(labeled)} images, but num_labels is {config.num_labels}: "
                f"set --num_labels={len(labeled)}"
            )
    else:
        num_labels = config.num_labels or len(data.train_labels)
        labeled = splits.labeled_split(data.train_labels, num_labels, num_classes, seed=config.seed)
    given = np.full(len(data.train_labels), UNLABELED, np.int64)
    given[labeled] = splits.with_wrong_labels(data.train_labels[labeled], config.label_noise, num_classes, seed=config.seed)
    return given
