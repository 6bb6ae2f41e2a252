"""The images of a data set that models are evaluated on, with their true classes."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from r2d2_tf.config.config import Config
from r2d2_tf.data import splits
from r2d2_tf.data.image_data import UNLABELED, DatasetSpec, ImageData
from r2d2_tf.data.readers.tfds import is_fake
from r2d2_tf.runs import finished, run_directory
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.runs.outcome import stage_predictions
from r2d2_tf.system.messages import mistake, one_line
from r2d2_tf.system.startup import import_tensorflow_quietly

if TYPE_CHECKING:
    from r2d2_tf.training.pipeline import Images

SPLITS = {
    "test": "test images",
    "labeled": "labeled training images",
    "unlabeled": "unlabeled training images, by their hidden labels",
    "held_out": "labeled images held out of training, by their labels as given",
}
"""What models can be evaluated on, for people."""


@dataclass(frozen=True)
class EvaluationImages:
    """Images of a data set.

    Attributes:
        images: those of its training or test part, all of them.
        rows: of those that count, `[rows]`.
        labels: true class of each row, `[rows]`.
        class_names: in the order of the labels.
        image_shape: (height, width, channels).
        is_fake: whether they are generated.
    """

    images: "Images"
    rows: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    is_fake: bool

    def batches(self, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches (images uint8, true classes), one after another.

        Raises:
            ValueError: if an image cannot be decoded.
        """
        import tensorflow as tf

        from r2d2_tf.training.pipeline import prediction_batches

        done = 0
        try:
            for pixels, rows in prediction_batches(self.images, self.rows, batch_size):
                yield np.asarray(pixels), self.labels[done : done + len(rows)]
                done += len(rows)
        except tf.errors.OpError as error:
            raise ValueError(one_line(f"an image after the first {done:,} cannot be read: {error}")) from error


def load(config: Config, split: str, run_dir: Path | None) -> EvaluationImages:
    """Loads what a config names.

    Args:
        config: its data set, and the split of its labels where no run is given.
        split: a key of SPLITS.
        run_dir: folder of the run whose labeled images and left-out images these are.

    Raises:
        ValueError: if the data set is not at hand, or is not that of the run.
    """
    if run_dir is None:
        spec, data = _of_no_run(config)
    else:
        spec, data = finished.images_of(run_dir, config, run_directory.read_summary(run_dir))
    if split == "test":
        images, all_labels, rows = data.test_images, data.test_labels, np.arange(len(data.test_labels))
    else:
        held_out = stage_predictions.held_out_of(run_dir, len(data.class_names)) if run_dir is not None else {}
        given = np.array([held_out.get(identifier, UNLABELED) for identifier in data.train_ids], np.int64)
        apart = np.flatnonzero(given != UNLABELED)
        images, all_labels = data.train_images, given if split == "held_out" else data.train_labels
        rows = apart if split == "held_out" else np.setdiff1d(_training_rows(data, config, run_dir, split), apart)
    if not len(rows):
        raise ValueError(f"data set {config.dataset} has no {SPLITS[split]} here: choose another --split")
    fake = is_fake(spec.tfds_name, config.data_path)
    return EvaluationImages(images, rows, all_labels[rows], data.class_names, spec.image_shape, fake)


def of_folder(config: Config, folder: Path, class_names: Sequence[str]) -> EvaluationImages:
    """Images that somebody has sorted since a run, a folder a class, seen as the run of `config` saw its own.

    Args:
        config: of the run.
        folder: with images in folders of their classes; if it has a part for tests, that part.
        class_names: of the run.

    Raises:
        ValueError: if there is no such image, or a folder is of no class of the run.
    """
    nothing: dict[str, Any] = {
        "labels": "",
        "split_file": "",
        "num_labels": 0,
        "test_fraction": 0.0,
        "evaluate_on": "",
        "label_noise": 0.0,
    }
    spec, data = _of_no_run(dataclasses.replace(config, dataset="folder", data_dir=str(folder), **nothing), needs_test=False)
    if others := sorted(set(data.class_names) - set(class_names)):
        raise mistake(f"{folder} has the class {others[0]!r}, and the run has {', '.join(class_names)}: rename the folder")
    has_test = len(data.test_labels) > 0
    images, labels = (data.test_images, data.test_labels) if has_test else (data.train_images, data.train_labels)
    rows = np.flatnonzero(labels >= 0)
    number_of = np.array([class_names.index(name) for name in data.class_names], np.int64)
    return EvaluationImages(images, rows, number_of[labels[rows]], tuple(class_names), spec.image_shape, is_fake=False)


def _of_no_run(config: Config, *, needs_test: bool = True) -> tuple[DatasetSpec, ImageData]:
    # Before the data: what reads TFDS sets imports TensorFlow.
    import_tensorflow_quietly()
    from r2d2_tf.data import health

    spec = spec_of(config, needs_test=needs_test)
    # All photographs are looked at, which may take long, only if it is asked for.
    skipped = None if config.skip_bad_images else ()
    data = spec.load(config.data_path)
    return spec, health.checked(data, spec, skip_bad_images=config.skip_bad_images, skipped=skipped)[0]


def _training_rows(data: ImageData, config: Config, run_dir: Path | None, split: str) -> np.ndarray:
    """Those that are asked for and whose class is known; what a set of one's own leaves unlabeled nobody can evaluate by."""
    if run_dir is None or data.given_labels is not None:
        from r2d2_tf.runs import run_labels

        given = run_labels.training_labels(data, config, len(data.class_names))
        labeled = np.flatnonzero(given >= 0)
    else:
        path = run_dir / run_directory.SPLIT_FILE
        labeled = splits.read_split(path, data.train_ids, data.train_labels, data.class_names)
    return labeled if split == "labeled" else np.setdiff1d(np.flatnonzero(data.train_labels >= 0), labeled)
