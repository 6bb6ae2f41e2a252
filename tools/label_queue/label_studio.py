"""A queue as files that Label Studio reads: tasks with predictions, and how to label them."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

MOST_BYTES_EACH = 100_000
"""Of a picture: a cell of a CSV file that Python reads may have 131,072, and an export as CSV repeats them."""
_CHOICE, _IMAGE = "label", "image"
_MOST_WITHOUT_FILTER = 20
_GIVEN_SVG = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 200 40'><rect width='200' height='40' fill='#eee'/>"
    "<text x='100' y='25' text-anchor='middle' font-family='sans-serif' font-size='14'>given already</text></svg>"
)
_GIVEN = f"data:image/svg+xml;base64,{base64.b64encode(_GIVEN_SVG.encode()).decode()}"
"""The picture of an image that is not asked for."""


def tasks_text(
    lines: Sequence[Mapping[str, str]], pictures: Sequence[str], given: Sequence[Mapping[str, str]], run: str
) -> str:
    """The tasks, in the JSON of https://labelstud.io/guide/predictions (basic Label Studio JSON format).

    Pictures travel in them, so that no storage is to be set up. Labels that were given already are tasks that are done: then an
    export of the project has all labels.

    Args:
        lines: of the queue.
        pictures: data URIs, one a line.
        given: lines of labels that were given already.
        run: what Label Studio shows as the version of the model.
    """
    tasks = [
        {
            "data": {_IMAGE: picture, **{name: line[name] for name in ("file", "split", "why")}},
            "predictions": [
                {"model_version": run, "score": float(line["probability"]), "result": [_chosen(line["suggestion"])]}
            ],
        }
        for line, picture in zip(lines, pictures, strict=True)
    ] + [
        {
            "data": {_IMAGE: _GIVEN, **{name: line[name] for name in ("file", "split", "why")}},
            "annotations": [{"result": [_chosen(line["label"])]}],
        }
        for line in given
    ]
    return json.dumps(tasks, indent=1)


def _chosen(name: str) -> dict[str, Any]:
    return {"from_name": _CHOICE, "to_name": _IMAGE, "type": "choices", "value": {"choices": [name]}}


def setup_text(class_names: Sequence[str]) -> str:
    """The labelling interface of such a project, as XML."""
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in class_names)
    search = f'\n  <Filter name="filter" toName="{_CHOICE}" placeholder="find a class"/>'
    return (
        f'<View>\n  <Image name="{_IMAGE}" value="${_IMAGE}"/>\n  <Text name="why" value="$why"/>'
        f"{search if len(class_names) > _MOST_WITHOUT_FILTER else ''}\n"
        f'  <Choices name="{_CHOICE}" toName="{_IMAGE}" choice="single" showInline="true">\n{choices}\n  </Choices>\n</View>\n'
    )
