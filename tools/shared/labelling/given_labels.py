"""The labels that a finished run had, as lines of a file that is given to `--labels`."""

import csv
from collections.abc import Sequence
from pathlib import Path

from r2d2_tf.runs import run_directory
from r2d2_tf.runs.outcome import stage_predictions
from tools.shared import saved_table


def given_lines(run_dir: Path, table: saved_table.SavedTable, class_names: Sequence[str]) -> list[dict[str, str]]:
    """A line for each label of a run, and for each of its test images where these were given too.

    Each has `file`, `label`, `split` and `why`.
    """
    path = run_dir / run_directory.LABELS_FILE
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        return [{name: line[name] for name in ("file", "label", "split")} | {"why": "given already"} for line in lines]
    return [
        {"file": str(table.ids[row]), "label": class_names[table.labels[row]], "split": "train", "why": "given already"}
        for row in table.labeled_rows.tolist()
    ] + [
        {"file": identifier, "label": class_names[label], "split": "train", "why": "given already, held out"}
        for identifier, label in stage_predictions.held_out_of(run_dir).items()
    ]
