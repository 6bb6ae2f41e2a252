"""What trials are judged by: labeled images whose labels training does not see, or the images of another data set."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit

from r2d2_tf.config.config import Config
from r2d2_tf.data import health, splits
from r2d2_tf.data.image_data import UNLABELED, DatasetSpec, ImageData
from r2d2_tf.runs import run_labels
from r2d2_tf.system import files, provenance

ENOUGH_LABELS = 1000
"""From so many labels on, one part of them judges; of fewer, each judges once, in folds."""
_FEW_FOLDS = 2
_ALL_TRAINED_ON: dict[str, Any] = {"held_out": "none"}
"""Of a fold: other labels judge it already, and the last stage is what is tuned."""
_DATA_FILE = "data.txt"
"""Beside the folds: which data they are parts of."""


@dataclass(frozen=True)
class Fold:
    """One of the runs that make a trial, but for what the trial changes; `num_validation` images measure its error."""

    config: Config
    num_labels: int
    num_validation: int


def make_folds(
    config: Config, spec: DatasetSpec, folder: Path, *, folds: int = 0, fraction: float = 0.2, dataset: str = ""
) -> list[Fold]:
    """The folds of a search; the ids of their images are written into `folder`.

    A held-out image stays in training as an unlabeled one: its row is -1. Folds are a function of the config's seed, and of
    `folds` and `fraction` as in `hold_out`; of a `dataset` the test images judge, in the place of labeled images.

    Raises:
        ValueError: if there are too few labels, the other data set holds test images of the config's own, or images or labels
            are not those with which the search began.
    """
    data, _ = health.checked(spec.load(config.data_path), spec, skip_bad_images=config.skip_bad_images)
    given = run_labels.training_labels(data, config, spec.num_classes)
    labeled = np.flatnonzero(given != UNLABELED)
    if dataset:
        of_fold = dataclasses.replace(config, evaluate_on=dataset)
        loaded = run_labels.loaded(of_fold, spec)
        check_apart(data, loaded, config.dataset, dataset)
        return [Fold(of_fold, len(labeled), len(loaded.test_labels))]
    folder.mkdir(exist_ok=True)
    _check_same(folder, [health.fingerprint(data), provenance.digest_of([given, *run_labels.soft_labels(data)])])
    labels, make = (data.train_labels, _fold) if data.given_labels is None else (data.given_labels, _fold_of_given)
    parts = hold_out(labels[labeled], folds, fraction=fraction, seed=config.seed)
    return [make(config, data, labeled, labeled[part], folder / f"fold_{number}") for number, part in enumerate(parts)]


def _check_same(folder: Path, fingerprints: Sequence[str]) -> None:
    # Other folds would be judged by images that networks of the first ones were trained on.
    path, text = folder / _DATA_FILE, "\n".join(fingerprints)
    if path.is_file() and path.read_text() != text:
        raise ValueError(
            f"the images or the labels changed since the search in {folder.parent} began: choose another --output_dir for what "
            "is there now"
        )
    files.write_text(path, text)


def hold_out(labels: np.ndarray, folds: int, *, fraction: float = 0.2, seed: int) -> list[np.ndarray]:
    """Which of the labeled images, of classes `labels`, judge in each fold, stratified by class: a function of the seed.

    There are `folds` parts, each of which judges once; 1: one part alone, a `fraction` of them; 0: by the number of labels.

    Returns:
        Sorted positions in `labels`, one array a fold.

    Raises:
        ValueError: if a class has fewer labels than there are folds, or too few to be parted.
    """
    count = folds or (_FEW_FOLDS if len(labels) < ENOUGH_LABELS else 1)
    smallest = int(np.unique(labels, return_counts=True)[1].min())
    if smallest < max(2, count):
        raise ValueError(
            f"folds ({count}) need as many labeled images of each class, and at least 2, but one class has {smallest}: "
            "give fewer --folds, label more (--num_labels, or your --labels), or name a --validation_dataset"
        )
    if count > 1:
        parting = StratifiedKFold(count, shuffle=True, random_state=seed)
    else:
        # Of each class one at least judges and one is trained on.
        least = len(np.unique(labels))
        size = min(max(round(fraction * len(labels)), least), len(labels) - least)
        parting = StratifiedShuffleSplit(1, test_size=size, random_state=seed)
    return [np.sort(held_out) for _, held_out in parting.split(labels, labels)]


def check_apart(data: ImageData, validation: ImageData, dataset: str, validation_dataset: str) -> None:
    """Raises ValueError if an image that judges is a test image: by its pixels, as test labels are nobody's business."""
    validated_on = {image.tobytes() for image in np.asarray(validation.test_images)}
    shared = sum(image.tobytes() in validated_on for image in np.asarray(data.test_images))
    if shared:
        raise ValueError(
            f"validation_dataset ({validation_dataset}): {shared:,} of its test images are test images of {dataset} too, and "
            "nothing is chosen by those: leave it out, or name another set"
        )


def _fold(config: Config, data: ImageData, labeled: np.ndarray, held_out: np.ndarray, stem: Path) -> Fold:
    trained_on = np.setdiff1d(labeled, held_out)
    split, validation = (stem.with_name(f"{stem.name}_{name}.txt") for name in ("labeled", "held_out"))
    for path, rows in ((split, trained_on), (validation, held_out)):
        with files.written_whole(path) as partial:
            splits.write_split(partial, data.train_ids, rows, data.train_labels, data.class_names)
    fold = dataclasses.replace(
        config, num_labels=len(trained_on), split_file=str(split), evaluate_on=str(validation), **_ALL_TRAINED_ON
    )
    return Fold(fold, len(trained_on), len(held_out))


def _fold_of_given(config: Config, data: ImageData, labeled: np.ndarray, held_out: np.ndarray, stem: Path) -> Fold:
    """Of a set that brings its labels: files of labels in place of lists of ids, as their classes are known nowhere else."""
    assert data.given_labels is not None
    is_held_out = np.isin(np.arange(len(data.given_labels)), held_out)
    trained_on = np.where(is_held_out, UNLABELED, data.given_labels)
    split, validation = (stem.with_name(f"{stem.name}_{name}.csv") for name in ("labeled", "held_out"))
    run_labels.write_labels(split, data, trained_on)
    validation_labels = np.where(is_held_out, data.given_labels, UNLABELED)
    run_labels.write_labels(validation, dataclasses.replace(data, test_ids=None, given_probabilities=None), validation_labels)
    # The file names the test images of a folder, so that a fraction is not to be taken again.
    fraction = 0.0 if data.test_ids is not None else config.test_fraction
    fold = dataclasses.replace(
        config, labels=str(split), num_labels=0, test_fraction=fraction, evaluate_on=str(validation), **_ALL_TRAINED_ON
    )
    return Fold(fold, int((trained_on != UNLABELED).sum()), len(held_out))
