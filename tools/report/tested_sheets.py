"""What a report shows of test images: how wrong each class is, what is taken for what, and the mistakes themselves."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tools.report.evidence import Judged
from tools.report.headline import interval_of, rounded
from tools.report.sheets import Choice, Sheet, figure_of, laid_out
from tools.shared import html
from tools.shared.classification_metrics import largest_confusions

MOST_IN_A_MATRIX = 20
"""Classes; of more, the largest numbers are listed alone."""
_TINT = 50
"""Percent of color behind the largest number of a matrix that is off its diagonal: the number stays readable."""
_TELEPHONE, _DIGIT, _GAP, _NAME = 360, 7.2, 5, 85
"""Widths in pixels, as report.css has them: of a telephone's page, of a digit of a matrix, between columns, of a long name."""
_LISTED, _MISTAKEN_FOR = 20, 2
_PAIRS, _OF_A_PAIR = 6, 6
"""Most frequent confusions that are shown, and images of each."""


def class_errors(tested: Judged, names: Sequence[str]) -> list[dict[str, Any]]:
    """A line a class that has test images, the worst first."""
    confusion, errors = tested.metrics.confusion, tested.metrics.class_errors
    images, largest = confusion.sum(1), float(np.nanmax(errors)) or 1.0
    lines = []
    for c in sorted(np.flatnonzero(images).tolist(), key=lambda c: -errors[c]):
        wrong = int(images[c] - confusion[c, c])
        only = np.where(np.arange(len(names))[:, None] == c, confusion, 0)
        taken = ", ".join(f"{names[other]} ({count:,})" for _, other, count in largest_confusions(only, _MISTAKEN_FOR))
        lines.append(
            {
                "name": names[c],
                "images": f"{images[c]:,}",
                "wrong": f"{wrong:,}",
                "error": rounded(errors[c])[0],
                "bar": f"{100 * errors[c] / largest:.1f}",
                "interval": interval_of(wrong, int(images[c])),
                "taken": taken or "-",
            }
        )
    return lines


def matrix_of(counts: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Counts, `[classes, classes]`, as a matrix where it can be read, and its largest numbers off the diagonal."""
    lines = []
    if len(names) <= MOST_IN_A_MATRIX:
        largest = max([number for *_, number in largest_confusions(counts, 1)], default=1)
        for c, line in enumerate(counts.tolist()):
            cells = [(n, 0 if own == c else round(_TINT * n / largest), own == c) for own, n in enumerate(line)]
            lines.append({"name": names[c], "cells": cells})
    listed = [(names[a], names[b], f"{number:,}") for a, b, number in largest_confusions(counts, _LISTED)]
    columns = [max(2, len(str(largest))) * _DIGIT + _GAP for largest in counts.max(0).tolist()]
    is_wide = bool(lines) and sum(columns) + min(_NAME, max(map(len, names)) * _DIGIT) > _TELEPHONE
    return {"names": names, "lines": lines, "largest": listed, "is_wide": is_wide}


def sheets_of(tested: Judged, names: Sequence[str], count: int) -> list[dict[str, object]]:
    """The most frequent confusions, and the other mistakes of which the network is surest, `count` images each at most."""
    frequent = _confusions(tested, names, count)
    used = {choice.row for choices in frequent.choices.values() for choice in choices}
    both = [frequent, _mistakes(tested, used, count)]
    places = [choice.row for sheet in both for choices in sheet.choices.values() for choice in choices]
    pictures = html.thumbnails(tested.images, tested.rows[places])

    def figure(choice: Choice) -> dict[str, object]:
        source, true = pictures[int(tested.rows[choice.row])], int(tested.metrics.labels[choice.row])
        return figure_of(choice, names, source, tested.ids[choice.row], names[true])

    return [laid_out(sheet, figure) for sheet in both if places]


def _confusions(tested: Judged, names: Sequence[str], count: int) -> Sheet:
    """The images of a sheet are meant by their place among those that the network was shown."""
    found = tested.metrics
    choices: dict[str, list[Choice]] = {}
    pairs = largest_confusions(found.confusion, max(1, min(_PAIRS, count)))
    for true, predicted, number in pairs:
        own = np.flatnonzero((found.labels == true) & (found.predicted == predicted))
        heading = f"{names[true]} taken for {names[predicted]}: {number:,} of {found.confusion[true].sum():,}"
        choices[heading] = _surest(tested, own, min(_OF_A_PAIR, max(1, count // len(pairs))))
    return Sheet(
        "Most frequent confusions",
        "Which test images were taken for which other class, and how often; of each those of which the network is surest, "
        "with its probability.",
        choices,
    )


def _mistakes(tested: Judged, used: set[int], count: int) -> Sheet:
    found = tested.metrics
    wrong = np.flatnonzero(found.labels != found.predicted)
    others = np.array([place for place in wrong.tolist() if place not in used], np.int64)
    more = " that are not shown above" if used else ""
    shown = f"the {count:,} of which the network is surest" if len(others) > count else f"the {len(others):,}"
    return Sheet(
        "Wrong test images",
        f"{len(wrong):,} of {len(found.labels):,} test images are wrong. Here are {shown}{more}, with its probability. A test "
        "label that is wrong itself looks like this, too. Whoever changes the run by what is seen here needs other images to "
        "judge it.",
        {"": _surest(tested, others, count)},
    )


def _surest(tested: Judged, places: np.ndarray, count: int) -> list[Choice]:
    found = tested.metrics
    order = places[np.argsort(-found.confidence[places], kind="stable")[:count]]
    return [Choice(int(place), int(found.predicted[place]), f"{found.confidence[place]:.2f}") for place in order]
