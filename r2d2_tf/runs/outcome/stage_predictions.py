"""What the networks of a run predict, image by image, at the end of each stage: test_predictions.npz. Needs no TensorFlow."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from r2d2_tf.runs import run_directory
from r2d2_tf.runs.run_state import TEST
from r2d2_tf.system import files

FILES = {TEST: run_directory.TEST_PREDICTIONS_FILE}
"""Of each kind of images, the file in a run's folder: `stage_N` and `labels`, `[images]` int32, in the images' order."""


def write(folder: Path, kind: str, predictions: Mapping[str, np.ndarray], labels: np.ndarray) -> None:
    """Writes the predicted classes of a kind of images: `stage_N` -> `[images]`."""
    with files.written_whole(folder / FILES[kind]) as path:
        np.savez(path, allow_pickle=False, **predictions, labels=labels.astype(np.int32))


def read(folder: Path, kind: str, name: str, labels: np.ndarray) -> np.ndarray | None:
    """The predicted classes `name`, `[images]`, that a run left; None if it left none, or they are of other images.

    `labels` are the true classes of the images that are meant.
    """
    # Runs of before have no such file.
    with contextlib.suppress(ValueError):
        arrays = run_directory.read_arrays(folder / FILES[kind], (name, "labels"))
        if np.array_equal(arrays["labels"], labels):
            return arrays[name]
    return None
