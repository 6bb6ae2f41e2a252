"""The page on which a person labels: one file, without a server or a network."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from r2d2_tf.system import spreadsheets
from tools.shared import html

MOST_BYTES = 16 * 2**20
"""Of the pictures on a page, in all: mail carries it, and so does a telephone."""
MOST_LIKELY = 10
"""Likeliest classes of an image that have a key, where there are more classes than keys."""
_MOST_KEYS = 36
"""Classes that have a key each: digits and letters. labelling.js knows it, too."""


@dataclass(frozen=True)
class Extra:
    """An answer that is no class.

    Attributes:
        text: on its button.
        why: what the file says then in the column `why`.
        keeps: whether the label stays as it was; else the image has none.
    """

    text: str
    why: str
    keeps: bool = False


UNSURE = Extra("Unsure", "unsure")
NONE_OF_THESE = Extra("None of these", "none of these")
KEEP = Extra("Keep", "kept", keeps=True)
DROP = Extra("Drop the label", "dropped")


@dataclass(frozen=True)
class Asked:
    """An image that a person is asked about.

    Attributes:
        picture: a data URI.
        likely: its likeliest classes, those first that are likelier.
        why: it is asked for, in words.
        cells: its line of the file, while it has no answer.
    """

    picture: str
    likely: Sequence[int]
    why: str
    cells: Sequence[str]


@dataclass(frozen=True)
class Words:
    """What a page says: its title, what it is for, the name of the file that it saves, and the command that reads that."""

    title: str
    introduction: str
    file: str
    command: str


def labelling_page(
    words: Words,
    class_names: Sequence[str],
    columns: Sequence[str],
    asked: Sequence[Asked],
    rest: Sequence[Sequence[str]],
    extras: Sequence[Extra],
) -> str:
    """The page as text.

    Args:
        words: what it says.
        class_names: in the order of their numbers.
        columns: of the file that it saves, with `file`, `label` and `why` among them.
        asked: the images.
        rest: further lines of the file.
        extras: two answers beside the classes.
    """
    held = {
        "key": f"r2d2_tf labelling {_identity(class_names, columns, asked, rest)}",
        "file": words.file,
        "classes": list(class_names),
        # What the page saves, a spreadsheet opens.
        "labels": _cells(class_names),
        "columns": list(columns),
        "extras": [asdict(extra) for extra in extras],
        "items": [asdict(one) | {"cells": _cells(one.cells)} for one in asked],
        "rest": [_cells(line) for line in rest],
    }
    script = (Path(html.__file__).parent / "labelling.js").read_text(encoding="utf-8")
    content = asdict(words) | {
        "many": len(class_names) > _MOST_KEYS,
        # In an element of a script, text ends at the first "</script", whatever quotes are around it.
        "data": json.dumps(held).replace("<", "\\u003c"),
        "script": script,
        "script_hash": f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
    }
    return html.render("labelling.html", content)


def _cells(values: Sequence[str]) -> list[object]:
    return [spreadsheets.cell(value) for value in values]


def _identity(class_names: Sequence[str], columns: Sequence[str], asked: Sequence[Asked], rest: Sequence[Sequence[str]]) -> str:
    """What the same questions share, and others do not: a browser keeps the answers of all pages in one place."""
    lines = [list(class_names), list(columns), [list(one.cells) for one in asked], [list(line) for line in rest]]
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()[:16]
