"""How the rows of a run moved: their largest class at each prediction of the pseudo-labels, from predictions.npz."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from r2d2_tf.runs import run_directory
from r2d2_tf.system import arrays

UNKNOWN = -1
"""Flips of a row that was never compared with a prediction: one with a given label."""


@dataclass(frozen=True)
class RowHistory:
    """The unlabeled rows from moment to moment.

    Attributes:
        rows: of the table, `[rows]`.
        path: the rows' largest classes in order of time, `[rows]` each: after the first prediction; then, for each later one,
            before and after it; and at the end of stage 2.
        titles: when each of them was.
        predicted: the network's class at the last comparison, `[rows]`.
        predicted_probability: of it, `[rows]`.
        predicted_entropy: of that prediction, in nats, `[rows]`.
    """

    rows: np.ndarray
    path: Sequence[np.ndarray]
    titles: Sequence[str]
    predicted: np.ndarray
    predicted_probability: np.ndarray
    predicted_entropy: np.ndarray

    @property
    def flips(self) -> np.ndarray:
        """How many times each row's largest class changed, by learning or by a prediction, `[rows]`."""
        return np.count_nonzero(np.diff(self.path, axis=0), axis=0).astype(np.int32)

    def flips_of_all(self, num_rows: int) -> np.ndarray:
        """`flips` of a whole table, `[num_rows]`; UNKNOWN where a label was given."""
        flips = np.full(num_rows, UNKNOWN, np.int32)
        flips[self.rows] = self.flips
        return flips


def read(path: Path, *, num_rows: int, num_classes: int) -> RowHistory:
    """Reads the predictions that a run left, whose table has so many rows and classes.

    Raises:
        ValueError: if the file is not there, is damaged, is of another table, or holds no comparison.
    """
    # The others are not needed, and each takes as much memory as all of these classes.
    names = ("rows", "stage", "epoch", "replaced", "pseudo_label_class", "predicted_class")
    found = arrays.read(path, run_directory.HISTORY_LAYOUT, names)
    if not len(found["stage"]):
        raise ValueError(f"{path} holds no prediction: give a run that trained stage 2 or 3")
    limits = {"rows": (0, num_rows), "predicted_class": (0, num_classes), "pseudo_label_class": (UNKNOWN, num_classes)}
    if any(found[name].size and (found[name].min() < low or found[name].max() >= high) for name, (low, high) in limits.items()):
        raise ValueError(f"{path} and {run_directory.TABLE_FILE} are of different runs: make the run again")
    layout = run_directory.HISTORY_LAYOUT
    last = {name: arrays.read(path, layout, [name])[name][-1] for name in ("predicted_probability", "entropy")}
    classes, titles = [], []
    for i, (stage, epoch, replaced) in enumerate(zip(*(found[name].tolist() for name in names[1:4]), strict=True)):
        when = f"stage {stage}, epoch {epoch}"
        if (found["pseudo_label_class"][i] >= 0).any():
            classes.append(found["pseudo_label_class"][i])
            titles.append(f"{when}: learned")
        if replaced:
            classes.append(found["predicted_class"][i])
            titles.append(f"{when}: predicted")
    return RowHistory(found["rows"], classes, titles, found["predicted_class"][-1], *last.values())
