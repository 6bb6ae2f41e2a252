"""What is known of the trials: one file each, which appears whole. Needs no TensorFlow."""

import dataclasses
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r2d2_tf.system import files
from tools.tune.space import Setting


@dataclass(frozen=True)
class Record:
    """A finished trial.

    Attributes:
        number: of the trial, from 0.
        epochs: of stage 2, as hyperband shortens it.
        errors: in percent, one a fold; empty if the trial failed.
        sizes: images that each was measured on.
        failed: why the trial failed; "": it did not.
    """

    number: int
    setting: Setting
    epochs: int
    errors: tuple[float, ...]
    sizes: tuple[int, ...]
    failed: str
    seconds: float
    worker: str

    @property
    def error(self) -> float | None:
        """Percent of all images that judge, each once; None if the trial failed."""
        if self.failed:
            return None
        return sum(error * size for error, size in zip(self.errors, self.sizes, strict=True)) / sum(self.sizes)

    @property
    def spread(self) -> float | None:
        """Standard deviation of the error over folds; None where there are no two."""
        return statistics.stdev(self.errors) if len(self.errors) > 1 else None


@dataclass(frozen=True)
class Records:
    """The trials of a search, as they are on disk now; several processes may add some."""

    folder: Path

    def add(self, record: Record) -> None:
        files.write_text(self._path(record.number), json.dumps(dataclasses.asdict(record)) + "\n")

    def of(self, number: int) -> Record | None:
        """A trial, if it is finished."""
        path = self._path(number)
        return _read(path) if path.is_file() else None

    def all(self) -> list[Record]:
        """All finished trials, in the order of their numbers."""
        return sorted((_read(path) for path in self.folder.glob("*.json")), key=lambda record: record.number)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:04d}.json"


def best_of(records: Sequence[Record]) -> Record | None:
    """The best trial among those that were trained longest, the earliest of equals; None: all failed."""
    done = [record for record in records if not record.failed]
    longest = max((record.epochs for record in done), default=0)
    return min((record for record in done if record.epochs == longest), key=lambda record: record.error or 0.0, default=None)


def _read(path: Path) -> Record:
    try:
        content = json.loads(path.read_text())
        return Record(**content | {"errors": tuple(content["errors"]), "sizes": tuple(content["sizes"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): remove it, and its trial is made again") from error
