"""What the networks of a run predict, image by image, at the end of each stage: two .npz files. Needs no TensorFlow."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from r2d2_tf.runs import run_directory
from r2d2_tf.runs.run_state import HELD_OUT, TEST
from r2d2_tf.system import files

FILES = {TEST: run_directory.TEST_PREDICTIONS_FILE, HELD_OUT: run_directory.HELD_OUT_FILE}
"""Of each kind of images, the file in a run's folder: `stage_N` and `labels`, `[images]` int32, in the images' order; of those
held out also `ids`."""


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
        arrays = run_directory.read_arrays(folder / FILES[kind], (name, "labels"))
        if np.array_equal(arrays["labels"], labels):
            return arrays[name]
    return None


def by_stage(folder: Path, kind: str, stages: Iterable[int]) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """The predicted classes that a finished run left, stage -> `[images]`, and the labels of those images, `[images]`.

    Raises:
        ValueError: if the file is missing or damaged.
    """
    numbers = list(stages)
    arrays = run_directory.read_arrays(folder / FILES[kind], (*(f"stage_{number}" for number in numbers), "labels"))
    return {number: arrays[f"stage_{number}"] for number in numbers}, arrays["labels"]


def held_out_of(folder: Path) -> dict[str, int]:
    """The ids of the training images whose labels a run held out, and their classes; {} if it held none out.

    Raises:
        ValueError: if the file that names them is damaged.
    """
    path = folder / FILES[HELD_OUT]
    if not path.is_file():
        return {}
    arrays = run_directory.read_arrays(path, ("ids", "labels"))
    return dict(zip(arrays["ids"].tolist(), arrays["labels"].tolist(), strict=True))
