"""What the networks of a run predict, image by image, at the end of each stage: two .npz files. Needs no TensorFlow."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from r2d2_tf.runs import run_directory
from r2d2_tf.runs.run_state import HELD_OUT, TEST
from r2d2_tf.system import arrays, files

FILES = {TEST: run_directory.TEST_PREDICTIONS_FILE, HELD_OUT: run_directory.HELD_OUT_FILE}
"""Of each kind of images, the file in a run's folder: `stage_N` and `labels`, `[images]` int32, in the images' order; of those
held out also `ids`."""
_OF_IMAGES = "i images"


def write(
    folder: Path, kind: str, predictions: Mapping[str, np.ndarray], labels: np.ndarray, ids: Sequence[str] | None = None
) -> None:
    """Writes the predicted classes of a kind of images: `stage_N` -> `[images]`."""
    more = {} if ids is None else {"ids": np.array(ids, str)}
    with files.written_whole(folder / FILES[kind]) as path:
        np.savez(path, allow_pickle=False, **predictions, **more, labels=labels.astype(np.int32))


def read(folder: Path, kind: str, name: str, labels: np.ndarray) -> np.ndarray | None:
    """The predicted classes `name`, `[images]`, that a run left; None if it left none, or they are of other images.

    `labels` are the classes of the images that are meant.
    """
    # Runs of before have no such file.
    with contextlib.suppress(ValueError):
        found = arrays.read(folder / FILES[kind], {name: _OF_IMAGES, "labels": _OF_IMAGES})
        if np.array_equal(found["labels"], labels):
            return found[name]
    return None


def by_stage(
    folder: Path, kind: str, stages: Iterable[int], *, num_classes: int | None = None
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """The predicted classes that a finished run left, stage -> `[images]`, and the labels of those images, `[images]`.

    Raises:
        ValueError: if the file is missing or damaged, or names other classes than the `num_classes` that there are.
    """
    numbers, path = list(stages), folder / FILES[kind]
    found = arrays.read(path, {name: _OF_IMAGES for name in (*(f"stage_{number}" for number in numbers), "labels")})
    if num_classes is not None:
        _check_classes(path, found.values(), num_classes)
    return {number: found[f"stage_{number}"] for number in numbers}, found["labels"]


def _check_classes(path: Path, found: Iterable[np.ndarray], num_classes: int) -> None:
    if any(((own < 0) | (own >= num_classes)).any() for own in found):
        raise ValueError(f"{path} names classes that the run has not: make the run again")


def held_out_of(folder: Path, num_classes: int) -> dict[str, int]:
    """The ids of the training images whose labels a run held out, and their classes; {} if it held none out.

    Raises:
        ValueError: if the file that names them is damaged, or names other classes than there are.
    """
    path = folder / FILES[HELD_OUT]
    if not path.is_file():
        return {}
    found = arrays.read(path, {"ids": "U images", "labels": _OF_IMAGES})
    _check_classes(path, [found["labels"]], num_classes)
    return dict(zip(found["ids"].tolist(), found["labels"].tolist(), strict=True))
