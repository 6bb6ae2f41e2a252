"""metrics.csv of a run, as numbers again."""

import csv
from pathlib import Path
from typing import Any

_WHOLE = ("run_epoch", "stage", "epoch", "predicted")


def read(path: Path) -> list[dict[str, Any]]:
    """A row an epoch; what was not measured in it is left out, and so are lists.

    Raises:
        ValueError: if the file is not there or is damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [
                {name: _number(name, cell) for name, cell in line.items() if _is_number(cell)} for line in csv.DictReader(file)
            ]
        if not rows or not all({"run_epoch", "stage", "test_error"} <= row.keys() for row in rows):
            raise ValueError("it has no epochs, or lacks columns")
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as what a run measured: {error}; make the run again") from error
    return rows


def _is_number(cell: str) -> bool:
    return bool(cell) and " " not in cell


def _number(name: str, cell: str) -> float | int:
    return int(cell) if name in _WHOLE else float(cell)
