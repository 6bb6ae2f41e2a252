"""A queue as files: a page and a CSV file, or what Label Studio reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from r2d2_tf.system import files, spreadsheets
from tools.label_queue import label_studio
from tools.shared.labelling import file_pictures, labelling_page

if TYPE_CHECKING:
    from r2d2_tf.training.pipeline import Images

COLUMNS = ("file", "label", "split", "suggestion", "probability", "why")
_INTRODUCTION = (
    "Which class is this? The images are those whose labels the run would learn most from, the most useful first. Beside each "
    "stands what the run takes it for, and it may be wrong. Unsure and None of these leave an image without a label."
)


@dataclass(frozen=True)
class Queue:
    """What a person is asked.

    Attributes:
        title: of the run.
        class_names: in the order of their numbers.
        lines: of the file that is to be filled in, by column.
        given: lines of the labels that were given already, which have no suggestion and no probability.
        likely: the likeliest classes of each line, `[lines, classes]`.
        images: of the data set.
        places: of each line in `images`, `[lines]`.
    """

    title: str
    class_names: Sequence[str]
    lines: Sequence[Mapping[str, str]]
    given: Sequence[Mapping[str, str]]
    likely: np.ndarray
    images: "Images"
    places: np.ndarray


def write_page(queue: Queue, out: Path, command: str) -> None:
    """Writes the CSV file, empty, and beside it the page that fills it in, which names the `command` that reads it."""
    pictures = file_pictures.data_uris(queue.images, queue.places, labelling_page.MOST_BYTES)
    asked = [
        labelling_page.Asked(picture, likely, line["why"], _cells(line))
        for picture, likely, line in zip(pictures, queue.likely.tolist(), queue.lines, strict=True)
    ]
    rest = [_cells(line) for line in queue.given]
    words = labelling_page.Words(f"To be labeled: {queue.title}", _INTRODUCTION, out.name, command)
    extras = (labelling_page.UNSURE, labelling_page.NONE_OF_THESE)
    page = labelling_page.labelling_page(words, queue.class_names, COLUMNS, asked, rest, extras)
    spreadsheets.write(out, [COLUMNS, *(one.cells for one in asked), *rest])
    files.write_text(out.with_suffix(".html"), page)


def _cells(line: Mapping[str, str]) -> list[str]:
    return [line.get(name, "") for name in COLUMNS]


def write_label_studio(queue: Queue, out: Path) -> None:
    """Writes the tasks, and beside them the interface in which they are labeled."""
    pictures = file_pictures.data_uris(queue.images, queue.places, label_studio.MOST_BYTES_EACH * len(queue.lines))
    files.write_text(out, label_studio.tasks_text(queue.lines, pictures, queue.given, queue.title))
    files.write_text(out.with_suffix(".xml"), label_studio.setup_text(queue.class_names))
