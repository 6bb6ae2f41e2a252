"""The learned table of a finished run, read where it lies: pseudo_labels.npz may be larger than memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from r2d2_tf.runs import run_directory
from r2d2_tf.system import arrays

_CHUNK_BYTES = 2**22
"""Of what is read at once, as float32."""


@dataclass(frozen=True)
class SavedTable:
    """Pseudo-logits, ids and given labels of a run, mapped from its file: what is not looked at is not read.

    Attributes:
        ids: of the images, `[rows]`.
        labels: given class of each row, `[rows]`; -1: none.
        pseudo_logits: `[rows, classes]` float32.
    """

    ids: np.ndarray
    labels: np.ndarray
    pseudo_logits: np.memmap

    @property
    def num_classes(self) -> int:
        return self.pseudo_logits.shape[1]

    @property
    def labeled_rows(self) -> np.ndarray:
        return np.flatnonzero(self.labels >= 0)

    @property
    def unlabeled_rows(self) -> np.ndarray:
        return np.flatnonzero(self.labels < 0)

    def walk(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yields (rows, their probabilities `[chunk, classes]` float32), from the first row to the last."""
        size = max(1, _CHUNK_BYTES // (4 * self.num_classes))
        # Not through the mapping: all that was looked at of it would count as this process's memory.
        with Path(str(self.pseudo_logits.filename)).open("rb") as file:
            file.seek(self.pseudo_logits.offset)
            for start in range(0, len(self.labels), size):
                rows = slice(start, min(start + size, len(self.labels)))
                values = np.fromfile(file, self.pseudo_logits.dtype, (rows.stop - start) * self.num_classes)
                yield rows, softmax(values.reshape(-1, self.num_classes).astype(np.float32), axis=1)


@dataclass(frozen=True)
class RowSummary:
    """What each row of a table says: 16 bytes a row, whatever the number of classes.

    Attributes:
        label: largest class, `[rows]` int32.
        probability: of it, `[rows]`.
        entropy: of the row, in nats, `[rows]`.
        second: largest probability but one, `[rows]`. It tells rows apart whose largest one is 1 in float32, as most are.
    """

    label: np.ndarray
    probability: np.ndarray
    entropy: np.ndarray
    second: np.ndarray

    @property
    def margin(self) -> np.ndarray:
        """By how much the largest probability exceeds the second, `[rows]`."""
        return self.probability - self.second


def read(path: Path) -> SavedTable:
    """Maps the table that a run left.

    Raises:
        ValueError: if the file is not there, is damaged, or holds what no run wrote.
    """
    found = arrays.mapped(path, run_directory.TABLE_LAYOUT)
    table = SavedTable(found["ids"], found["given_labels"], found["pseudo_logits"])
    if not -1 <= table.labels.min() <= table.labels.max() < table.num_classes:
        raise ValueError(f"{path} cannot be read: it gives labels that are no classes; make the run again")
    return table


def entropy_of(probabilities: np.ndarray) -> np.ndarray:
    """Of each row, in nats."""
    # What is 0 in float32 adds nothing.
    return -(probabilities * np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))).sum(1)


def summarized(table: SavedTable) -> RowSummary:
    """What each row of `table` says, in one walk."""
    count = len(table.labels)
    summary = RowSummary(np.zeros(count, np.int32), *(np.zeros(count, np.float32) for _ in range(3)))
    for rows, probabilities in table.walk():
        label = probabilities.argmax(1)
        summary.label[rows], summary.entropy[rows] = label, entropy_of(probabilities)
        largest = np.arange(len(label)), label
        summary.probability[rows] = probabilities[largest]
        # Faster than any sorting. The chunk is this function's own.
        probabilities[largest] = -1.0
        summary.second[rows] = probabilities.max(1)
    return summary


def likeliest(table: SavedTable, rows: np.ndarray, most: int) -> np.ndarray:
    """The `most` likeliest classes of a few rows, or all there are, those first that are likelier, `[rows, classes]`."""
    return np.argsort(-table.pseudo_logits[rows].astype(np.float32), axis=1, kind="stable")[:, :most]


class Suspects(NamedTuple):
    """Labeled rows, the most doubtful first.

    Attributes:
        rows: of the table.
        ids: of the images.
        given: classes.
        learned: most probable class of each learned row.
        probability: of the given class in the learned row, in 0..1.
    """

    rows: np.ndarray
    ids: np.ndarray
    given: np.ndarray
    learned: np.ndarray
    probability: np.ndarray


def ranked(table: SavedTable) -> Suspects:
    """The labeled rows of a saved table, those first to whose given class the least probability is left."""
    rows = table.labeled_rows
    given, logits, ids = table.labels[rows], table.pseudo_logits[rows].astype(np.float64), table.ids[rows]
    own = softmax(logits, axis=1)[np.arange(len(rows)), given]
    order = np.argsort(own, kind="stable")
    return Suspects(rows[order], ids[order], given[order], logits[order].argmax(1), own[order])
