"""What each prediction of the pseudo-labels found: every unlabeled row beside the network's prediction for it."""

import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np

MEASURES = {
    "pseudo_label_class": np.int16,
    "predicted_class": np.int16,
    "pseudo_label_probability": np.float32,
    "predicted_probability": np.float32,
    "class_loss": np.float32,
    "entropy": np.float32,
}
"""What is kept of a row, in the order of `R2D2Model`'s notes: the largest class of row and prediction; both
probabilities of the *predicted* class n (the paper's p~_n and p^_n); L_c and L_e in nats."""


_IN_CHECKPOINT = "history"


class PredictionHistory:
    """Collects comparisons and writes them as one .npz: 20 bytes a row and comparison.

    Args:
        rows: the unlabeled rows, `[rows]`.
    """

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows
        self._entries: list[dict[str, np.ndarray]] = []

    def add(self, values: np.ndarray, *, stage: int, epoch: int, replaced: bool, first: bool) -> None:
        """Adds a comparison of all rows.

        Args:
            values: `[rows, measures]`.
            stage: number of the stage.
            epoch: epochs of the stage that were done.
            replaced: whether the predictions then replaced the rows.
            first: whether the rows held nothing yet; what is known of predictions alone is kept then.
        """
        entry = {name: values[:, i].astype(kind) for i, (name, kind) in enumerate(MEASURES.items())}
        if first:
            entry["pseudo_label_class"][:] = -1
            for name in ("pseudo_label_probability", "class_loss"):
                entry[name][:] = np.nan
        place = {"stage": np.int16(stage), "epoch": np.int32(epoch), "replaced": np.bool_(replaced)}
        self._entries.append({name: np.asarray(value) for name, value in place.items()} | entry)

    def save(self, path: Path) -> None:
        """Writes `rows`, and `stage`, `epoch`, `replaced` `[comparisons]` and MEASURES `[comparisons, rows]`."""
        names = ("stage", "epoch", "replaced", *MEASURES)
        arrays = {name: np.array([entry[name] for entry in self._entries]) for name in names}
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, rows=self.rows, **arrays)

    def write(self, archive: zipfile.ZipFile) -> None:
        """Writes all comparisons into a checkpoint."""
        for number, entry in enumerate(self._entries):
            for name, value in entry.items():
                with archive.open(f"{_IN_CHECKPOINT}/{number:04d}/{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, value, allow_pickle=False)

    def read(self, archive: zipfile.ZipFile) -> None:
        """Takes over, in place of its own, the comparisons that `write` wrote."""
        entries: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
        for member in archive.namelist():
            if member.startswith(f"{_IN_CHECKPOINT}/"):
                _, number, name = member.removesuffix(".npy").split("/")
                with archive.open(member) as file:
                    entries[number][name] = np.lib.format.read_array(file, allow_pickle=False)
        self._entries = [entries[number] for number in sorted(entries)]
