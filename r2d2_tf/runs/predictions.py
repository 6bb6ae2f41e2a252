"""What each prediction of the pseudo-labels found: every unlabeled row beside the network's prediction for it."""

import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from r2d2_tf.method.row_measures import RowMeasures
from r2d2_tf.system import arrays

_IN_CHECKPOINT = "history"


class PredictionHistory:
    """Collects comparisons and writes them as one .npz: 20 bytes a row and comparison.

    Args:
        rows: the unlabeled rows, `[rows]`.
    """

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows
        self._entries: list[dict[str, np.ndarray]] = []

    def add(self, measures: RowMeasures, *, stage: int, epoch: int, replaced: bool, first: bool) -> None:
        """Adds a comparison of all rows.

        Args:
            measures: of the rows.
            stage: number of the stage.
            epoch: epochs of the stage that were done.
            replaced: whether the predictions then replaced the rows.
            first: whether the rows held nothing yet; what is known of predictions alone is kept then.
        """
        place = {"stage": np.int16(stage), "epoch": np.int32(epoch), "replaced": np.bool_(replaced)}
        known = measures.of_prediction_alone() if first else measures
        self._entries.append({name: np.asarray(value) for name, value in place.items()} | known._asdict())

    def save(self, path: Path) -> None:
        """Writes `rows`, and `stage`, `epoch`, `replaced` `[comparisons]` and RowMeasures `[comparisons, rows]`."""
        names = ("stage", "epoch", "replaced", *RowMeasures._fields)
        arrays = {name: np.array([entry[name] for entry in self._entries]) for name in names}
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, rows=self.rows, **arrays)

    def write(self, archive: zipfile.ZipFile) -> None:
        """Writes all comparisons into a checkpoint."""
        for number, entry in enumerate(self._entries):
            for name, value in entry.items():
                arrays.write_array(archive, f"{_IN_CHECKPOINT}/{number:04d}/{name}", value)

    def read(self, archive: zipfile.ZipFile) -> None:
        """Takes over, in place of its own, the comparisons that `write` wrote."""
        entries: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
        for member in archive.namelist():
            if member.startswith(f"{_IN_CHECKPOINT}/"):
                _, number, name = member.removesuffix(".npy").split("/")
                entries[number][name] = arrays.read_array(archive, member.removesuffix(".npy"))
        self._entries = [entries[number] for number in sorted(entries)]
