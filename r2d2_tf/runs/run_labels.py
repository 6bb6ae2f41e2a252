"""What of its data a run may see: the labels of its split, and the images that it did not leave out; and how much it is."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from r2d2_tf.config.config import Config
from r2d2_tf.data import splits
from r2d2_tf.data.datasets import DATASETS, OWN_SETS
from r2d2_tf.data.image_data import AUTO, UNLABELED, DatasetSpec, HeldOut, ImageData
from r2d2_tf.data.labels.label_formats import PROBABILITY_OF
from r2d2_tf.data.labels.matching import labels_in, rows_named
from r2d2_tf.data.splits import Part, parse_part, parse_split, read_split
from r2d2_tf.runs import run_directory
from r2d2_tf.system import files, spreadsheets
from r2d2_tf.system.commands import brought


def left_out_before(config: Config) -> list[str] | None:
    """The unreadable images that a run which goes on left out when it began; None: they are to be found."""
    path = config.resolved_run_dir / run_directory.LEFT_OUT_FILE
    return read_left_out(path) if run_directory.is_unfinished(config) and path.is_file() else None


def read_left_out(path: Path) -> list[str]:
    """The names in a LEFT_OUT_FILE; none if there is no such file."""
    lines = path.read_text().splitlines() if path.is_file() else []
    return [line.encode().decode("unicode_escape") for line in lines]


def left_out_text(names: Sequence[str]) -> str:
    """What `read_left_out` reads: a name a line, whatever characters it holds."""
    return "".join(f"{name.encode('unicode_escape').decode()}\n" for name in names)


def save_split(folder: Path, data: ImageData, labels: np.ndarray) -> None:
    """Writes which images are labeled into a run's folder: as --split_file reads it, or, of given labels, as --labels does.

    Those that are held out are among them: the same flags hold them out again.
    """
    if data.given_labels is None:
        ids, known = data.train_ids, data.train_labels
        if data.held_out is not None:
            ids = ids + data.held_out.data.train_ids
            labels, known = (
                np.concatenate(both) for both in ((labels, data.held_out.labels), (known, data.held_out.data.train_labels))
            )
        with files.written_whole(folder / run_directory.SPLIT_FILE) as path:
            splits.write_split(path, ids, np.flatnonzero(labels >= 0), known, data.class_names)
        return
    write_labels(folder / run_directory.LABELS_FILE, data, labels)


def write_labels(path: Path, data: ImageData, labels: np.ndarray) -> None:
    """Writes `labels` `[rows]`, -1 for none, those held out, and the test images that have ids, as --labels reads them."""
    names, is_soft = data.class_names, data.given_probabilities is not None

    def of_training(part: ImageData, given: np.ndarray) -> Iterator[Sequence[str]]:
        for row in np.flatnonzero(given >= 0).tolist():
            # Nine digits, from which float32 comes back exactly.
            soft = part.given_probabilities[row].tolist() if part.given_probabilities is not None else ()
            yield part.train_ids[row], names[given[row]], "train", *(f"{p:.9g}" for p in soft)

    def lines() -> Iterator[Sequence[str]]:
        yield "file", "label", "split", *(f"{PROBABILITY_OF}{name}" for name in (names if is_soft else ()))
        yield from of_training(data, labels)
        if data.held_out is not None:
            yield from of_training(data.held_out.data, data.held_out.labels)
        for name, label in zip(data.test_ids or (), data.test_labels if data.test_ids else (), strict=True):
            yield name, names[label], "test"

    spreadsheets.write(path, lines())


def soft_labels(data: ImageData) -> list[np.ndarray]:
    """The probabilities of labeled images, where given labels are soft; else nothing."""
    given, probabilities = data.given_labels, data.given_probabilities
    return [] if given is None or probabilities is None else [probabilities[given >= 0]]


def hidden_labels(data: ImageData) -> np.ndarray | None:
    """True classes `[rows]`, -1 where they are not known; None if no image's is but those that are given. For reports only."""
    labels, given = data.train_labels, data.given_labels
    return None if given is not None and not ((labels >= 0) & (given < 0)).any() else labels


def errors_on(config: Config) -> str:
    """What a run's title says if its errors are not those on the test images."""
    return f" (errors on {config.evaluate_on}, not on test images)" if config.evaluate_on else ""


def loaded(config: Config, spec: DatasetSpec) -> ImageData:
    """The images of a run; with `--evaluate_on` those that it names are in the place of the test images, which are gone.

    Of another data set those test images are taken that are not among the run's labeled ones.

    Raises:
        ValueError: if the file does not fit the data, or names a labeled image; or if the other set has other classes.
    """
    data = spec.load(config.data_path)
    if not config.evaluate_on:
        return data
    labeled = training_labels(data, config, spec.num_classes) != UNLABELED
    if config.evaluate_on in DATASETS:
        return _evaluated_on_set(config, data, labeled)
    path = Path(config.evaluate_on).expanduser()
    rows, classes = evaluated_rows(config, spec, data)
    if labeled[rows].any():
        raise ValueError(
            f"evaluate_on ({path}) names {labeled[rows].sum()} labeled images, on which an error says nothing: "
            "name unlabeled ones"
        )
    if (classes < 0).any():
        raise ValueError(
            f"evaluate_on ({path}) names images whose class is not known, so that no error can be measured on them"
        )
    # Their ids are those of training images: no list of test images may name them.
    return dataclasses.replace(data, test_images=data.train_images[rows], test_labels=classes, test_ids=None)


def _evaluated_on_set(config: Config, data: ImageData, labeled: np.ndarray) -> ImageData:
    """`data` with the test images of another set, but for those that are among its own `labeled` rows."""
    other = DATASETS[config.evaluate_on].load(config.data_path)
    images, candidates = data.train_images, other.test_images
    if other.class_names != data.class_names or not (isinstance(images, np.ndarray) and isinstance(candidates, np.ndarray)):
        raise ValueError(
            f"evaluate_on ({config.evaluate_on}) must have the classes of {config.dataset}, and both no photographs"
        )
    trained_on = {image.tobytes() for image in images[labeled]}
    unseen = np.array([image.tobytes() not in trained_on for image in candidates], bool)
    return dataclasses.replace(data, test_images=candidates[unseen], test_labels=other.test_labels[unseen])


def training_labels(data: ImageData, config: Config, num_classes: int) -> np.ndarray:
    """The labels that training may see, `[rows]`, -1 outside the split.

    Raises:
        ValueError: if the split does not fit the data.
    """
    known = data.train_labels if data.given_labels is None else data.given_labels
    if data.given_labels is not None:
        labeled = np.flatnonzero(data.given_labels >= 0)
    elif config.split_file:
        path = brought(Path(config.split_file).expanduser())
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
    given[labeled] = splits.with_wrong_labels(known[labeled], config.label_noise, num_classes, seed=config.seed)
    return given


FIFTH = Part(Fraction(1, 5))
ENOUGH_HELD_OUT, LEAST_KEPT = 60, 4
"""With --held_out=auto a FIFTH is held out if it makes so many labels, and so many of each class stay."""


def with_held_out(data: ImageData, labels: np.ndarray, config: Config) -> tuple[ImageData, np.ndarray]:
    """Parts the images that `--held_out` asks for from the others.

    Args:
        data: all of it.
        labels: that training may see of it, `[rows]`, -1 for none.
        config: of the run.

    Returns:
        The data without their rows, with them as `held_out`, and the labels of what is left; or both as they were.

    Raises:
        ValueError: if the part holds no label.
    """
    part, is_auto = parse_part(config.held_out), config.held_out == AUTO
    if is_auto and data.given_labels is not None:
        part = FIFTH
    if part is None:
        return data, labels
    rows = splits.held_out_rows(labels, part, seed=config.seed)
    kept = np.setdiff1d(np.arange(len(labels)), rows)
    fewest = np.bincount(labels[kept][labels[kept] >= 0], minlength=len(data.class_names)).min()
    if is_auto and (len(rows) < ENOUGH_HELD_OUT or fewest < LEAST_KEPT):
        return data, labels
    if not len(rows):
        raise ValueError(
            f"held_out ({config.held_out}) takes none of {(labels >= 0).sum()} labels, of which each class keeps one at least: "
            "have more labels, or leave --held_out out"
        )
    return dataclasses.replace(data.of_rows(kept), held_out=HeldOut(data.of_rows(rows), labels[rows])), labels[kept]


def why_none_held_out(config: Config) -> str:
    """In words, of a run that holds no labels out."""
    if config.held_out == AUTO and (config.dataset in OWN_SETS or config.labels):
        return f"a fifth of the labels is too few to choose by (below {ENOUGH_HELD_OUT}, or below {LEAST_KEPT} of a class left)"
    return "no labels are held out to choose by"


_FLAG = "evaluate_on"


def check_evaluated_ids(config: Config, spec: DatasetSpec, ids: Sequence[str]) -> None:
    """Raises ValueError if the file that `--evaluate_on` names cannot be read, or names what is no image."""
    if spec.evaluated is None:
        parse_split(Path(config.evaluate_on).expanduser(), ids, flag=_FLAG)
        return
    with _naming_the_flag():
        rows_named(spec.evaluated.read(), ids)


def evaluated_rows(config: Config, spec: DatasetSpec, data: ImageData) -> tuple[np.ndarray, np.ndarray]:
    """The rows that the file of `--evaluate_on` names, and their classes: those that it gives, or, as a list of ids, the known.

    Returns:
        Row numbers and classes, int64; a class is -1 where it is not known.

    Raises:
        ValueError: if the file cannot be read, or names what is no image or no class.
    """
    if spec.evaluated is None:
        path = Path(config.evaluate_on).expanduser()
        rows = read_split(path, data.train_ids, data.train_labels, data.class_names, flag=_FLAG)
        return rows, data.train_labels[rows]
    with _naming_the_flag():
        table = spec.evaluated.take()
        rows = np.unique(rows_named(table, data.train_ids))
        return rows, labels_in(table, data.train_ids, data.class_names)[rows]


@contextlib.contextmanager
def _naming_the_flag() -> Iterator[None]:
    """Says in errors which flag names the file of labels."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{_FLAG}: {error}") from error
