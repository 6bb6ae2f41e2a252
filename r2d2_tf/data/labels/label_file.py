"""The rows of a file of labels, whatever its format. Needs no TensorFlow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class LabelFile:
    """The rows of a file of labels.

    Attributes:
        path: of the file.
        files: names of images, one a row.
        labels: names of classes, "" where there is none.
        splits: what the file says of each row, "" where it says nothing.
        lines: where each row stands, from 1.
        class_names: whose `probabilities` the file holds, if they were asked for.
        probabilities: `[rows, class_names]` float32, NaN where nothing stands; only those of labeled rows that are not test
            images are meant. None if they were not asked for.
        remarks: what of the file was not taken as it stands, a line each.
    """

    path: Path
    files: list[str]
    labels: list[str]
    splits: list[str]
    lines: Sequence[int]
    class_names: tuple[str, ...] = ()
    probabilities: np.ndarray | None = None
    remarks: tuple[str, ...] = ()

    def where(self, row: int) -> str:
        """A row for people."""
        return f"labels ({self.path}), line {self.lines[row]}: {self.files[row]!r}"


class LabelsFile:
    """A file that `read`, as matching.read_labels, reads when it is first needed: once for all, until its labels are taken."""

    def __init__(self, path: Path, read: Callable[[Path], LabelFile]) -> None:
        self.path, self._read = path, read
        self._table: LabelFile | None = None
        self.remarks: tuple[str, ...] = ()

    def read(self) -> LabelFile:
        """What the file holds; raises ValueError as read_labels does."""
        if self._table is None:
            self._table = self._read(self.path)
            self.remarks = self._table.remarks
        return self._table

    def take(self) -> LabelFile:
        """As `read`, but for the last who needs it: kept, probabilities could take as much memory as the table."""
        table, self._table = self.read(), None
        return table
