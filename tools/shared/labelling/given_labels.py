"""The labels that a finished run had, as lines of a file that is given to `--labels`."""

from collections.abc import Sequence
from pathlib import Path

from r2d2_tf.runs import run_directory
from r2d2_tf.runs.outcome import stage_predictions
from r2d2_tf.system import spreadsheets
from tools.shared import saved_table
from tools.shared.labelling.labelling_page import NONE_OF_THESE, UNSURE


def given_lines(run_dir: Path, table: saved_table.SavedTable, class_names: Sequence[str]) -> list[dict[str, str]]:
    """A line for each label of a run, and for each of its test images where these were given too.

    Each has `file`, `label`, `split` and `why`.
    """
    path = run_dir / run_directory.LABELS_FILE
    if path.is_file():
        lines = spreadsheets.read_columns(path, "file", "label", "split")
        return [{name: line[name] for name in ("file", "label", "split")} | {"why": "given already"} for line in lines]
    return [
        {"file": str(table.ids[row]), "label": class_names[table.labels[row]], "split": "train", "why": "given already"}
        for row in table.labeled_rows.tolist()
    ] + [
        {"file": identifier, "label": class_names[label], "split": "train", "why": "given already, held out"}
        for identifier, label in stage_predictions.held_out_of(run_dir, len(class_names)).items()
    ]


def undecided_lines(labels: str) -> list[dict[str, str]]:
    """The images that a person looked at and gave no class, of the CSV file that a run's `--labels` names, if it is there.

    Each has `file`, `label`, `split` and `why`.
    """
    path = Path(labels).expanduser()
    if path.suffix.lower() != ".csv" or not path.is_file():
        return []
    try:
        lines = spreadsheets.read_columns(path)
    # It is somebody's own, not one that the page saved.
    except ValueError:
        return []
    whys = (UNSURE.why, NONE_OF_THESE.why)
    return [
        {"file": line["file"], "label": "", "split": "train", "why": line["why"]}
        for line in lines
        if line.get("why") in whys and line.get("file") and not line.get("label")
    ]
