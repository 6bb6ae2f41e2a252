"""Files of labels as other programs export them: Hugging Face, Roboflow, CVAT and Label Studio. Needs no TensorFlow.

Each reader gives the names of the columns and the numbered lines below them, as a CSV file has.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from r2d2_tf.system.messages import mistake

Lines = Iterator[tuple[int, list[str]]]
_ALIASES = {
    "file": ("file_name", "filename", "image", "img", "image_path", "file_path", "filepath"),
    "label": ("choice", "class", "class_name", "category", "labels"),
}
"""Other names of the columns, those that are likelier first."""
_OF_LABEL_STUDIO = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"}
_PARTS = {"train": "train", "test": "test", "valid": "", "val": "", "validation": ""}
"""Folders beside each other, each with a file of the same name, and the split of each; "": test where there is no other."""


def columns_in(header: Sequence[str]) -> dict[str, int]:
    """Place of the columns file, label and split, by these names or, where one is missing, by those of other programs."""
    names = [name.strip().lower() for name in header]
    place: dict[str, int] = {name: names.index(name) for name in ("file", "label", "split") if name in names}
    for name, others in _ALIASES.items():
        found = [other for other in others if other in names]
        if name not in place and found:
            place[name] = names.index(found[0])
    rest = [name for name in names if name not in _OF_LABEL_STUDIO and names.index(name) not in place.values()]
    # There the column of labels has the name that somebody gave it.
    if "file" in place and "label" not in place and {"annotation_id", "lead_time"} & set(names) and len(rest) == 1:
        place["label"] = names.index(rest[0])
    return place


def siblings(path: Path) -> list[tuple[Path, str, str]]:
    """A file of labels, and those of its name in the folders of other parts.

    Returns:
        Of each its path, what its names of images begin with, and its split. A file that stands alone: itself, "" and "".
    """
    others = {part: path.parent.parent / part / path.name for part in _PARTS}
    if path.parent.name not in _PARTS or path.name.lower() not in ("metadata.csv", "metadata.jsonl", "_classes.csv"):
        return [(path, "", "")]
    there = [part for part in _PARTS if others[part].is_file()]
    spare = "train" if "test" in there else "test"
    return [(others[part], f"{part}/", (_PARTS[part] or spare) if len(there) > 1 else "") for part in there]


def reader_of(path: Path) -> Callable[[Path], tuple[list[str], Lines]] | None:
    """The reader of a form that is no CSV, Parquet or .npz file with the columns file and label."""
    if path.name.lower() == "_classes.csv":
        return _roboflow
    return {".jsonl": _json_lines, ".json": _label_studio, ".txt": _imagenet}.get(path.suffix.lower())


def _roboflow(path: Path) -> tuple[list[str], Lines]:
    """A column a class, in which 1 stands."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file)]
    if not rows or rows[0][:1] != ["filename"]:
        raise mistake(f"labels ({path}) must begin with filename and a column a class, as Roboflow writes it")
    names = rows[0][1:]

    def lines() -> Lines:
        for number, row in enumerate(rows[1:], 2):
            own = [name for name, cell in zip(names, row[1:], strict=False) if cell in ("1", "1.0", "True", "true")]
            if row:
                yield number, [row[0], _cell(own)]

    return ["file", "label"], lines()


def _json_lines(path: Path) -> tuple[list[str], Lines]:
    with path.open(encoding="utf-8-sig") as file:
        held = [(number, _parsed(path, line, number)) for number, line in enumerate(file, 1) if line.strip()]
    return _of_objects(path, held)


def _label_studio(path: Path) -> tuple[list[str], Lines]:
    """JSON-MIN, an object an image, or JSON, where its labels lie in annotations."""
    held = _parsed(path, path.read_text(encoding="utf-8-sig"), 1)
    if not isinstance(held, list):
        raise mistake(f"labels ({path}) must be a list of objects, one an image, as Label Studio's JSON-MIN is")
    return _of_objects(path, [(number, _flat(one)) for number, one in enumerate(held, 1)])


def _flat(task: Any) -> Any:
    if not isinstance(task, dict) or "annotations" not in task:
        return task
    results = [result for one in task["annotations"] if not one.get("was_cancelled") for result in one.get("result", [])]
    chosen = {choice: None for result in results for choice in result.get("value", {}).get("choices", [])}
    return {**task.get("data", {}), "label": list(chosen)}


def _parsed(path: Path, text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise mistake(f"labels ({path}), line {line} is no JSON ({error}): export it again") from error


def _of_objects(path: Path, held: Sequence[tuple[int, Any]]) -> tuple[list[str], Lines]:
    for number, one in held:
        if not isinstance(one, dict):
            raise mistake(f"labels ({path}), line {number} must be an object, and is {one!r}: export it again")
    header = list(dict.fromkeys(name for _, one in held for name in one))
    return header, ((number, [_cell(one.get(name)) for name in header]) for number, one in held)


def _imagenet(path: Path) -> tuple[list[str], Lines]:
    """CVAT's ImageNet 1.0: a file and the numbers of its classes, which are the lines of synsets.txt."""
    places = [folder / "synsets.txt" for folder in (path.parent, path.parent.parent)]
    synsets = next((place for place in places if place.is_file()), None)
    if synsets is None:
        raise mistake(f"labels ({path}) needs synsets.txt beside it, a class a line, as CVAT exports it")
    names = [line.strip() for line in synsets.read_text(encoding="utf-8-sig").splitlines() if line.strip()]

    def lines() -> Lines:
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
            file = re.sub(r"(\s+[0-9]+)*\s*$", "", line)
            wanted = [int(text) for text in line[len(file) :].split()]
            if any(one >= len(names) for one in wanted):
                raise mistake(f"labels ({path}), line {number} is {line!r}, and {synsets} has {len(names)} classes")
            if file:
                yield number, [file.strip('"'), _cell([names[one] for one in wanted])]

    return ["file", "label"], lines()


def _cell(value: Any) -> str:
    """A value as the text of a cell; a list of one as that one."""
    if isinstance(value, dict):
        value = value.get("choices", value)
    if isinstance(value, list):
        return str(value) if len(value) > 1 else _cell(value[0]) if value else ""
    return "" if value is None else str(value)
