"""Which images a report shows, and what it says below each."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tools.report.evidence import Evidence
from tools.shared import html, saved_table

SHEETS = 7
"""That share the images of a page: five of training images, and two of test images."""
_CERTAIN_A_CLASS = 3
"""The most certain images look alike, and a few show what a class was taken to be."""
_LEAST_SURE = 8
"""Given labels that are shown where none is contradicted."""


@dataclass(frozen=True)
class Choice:
    """An image of a sheet: its row, what it was taken for, and what else there is to say."""

    row: int
    label: int
    detail: str


@dataclass(frozen=True)
class Sheet:
    """Images that have something in common.

    Attributes:
        title: of the sheet.
        explanation: how they were chosen, and what that means.
        choices: in order, by the heading that they stand below ("" for none).
    """

    title: str
    explanation: str
    choices: dict[str, list[Choice]]


def all_sheets(found: Evidence, count: int) -> list[Sheet]:
    """The sheets of training images, of at most `count` images each: those first by which a person can help most."""
    return [sheet(found, count) for sheet in (_doubtful, _contradicted, _strangers, _flipped, _certain)]


def _certain(found: Evidence, count: int) -> Sheet:
    said, rows, names = found.said, found.table.unlabeled_rows, found.class_names
    a_class = max(1, min(_CERTAIN_A_CLASS, count // len(names)))
    label, probability = said.label[rows], said.probability[rows]
    sums, counts = (np.bincount(label, weights=weights, minlength=len(names)) for weights in (probability, None))
    # Where not all classes can be shown, those of which the table is least certain.
    least_certain = np.argsort(np.where(counts, sums / np.maximum(counts, 1), np.inf), kind="stable")[:count]
    choices = []
    for c in np.sort(least_certain):
        own = rows[label == c]
        # Where the largest probability is 1 in float32, as it mostly is, the second tells rows apart.
        best = own[np.lexsort((said.second[own], -said.probability[own]))[:a_class]]
        choices += [Choice(int(row), int(c), f"{said.probability[row]:.4f}") for row in best]
    part = f" Of the {len(names)} classes these are the {count} of which the table is least certain." * (len(names) > count)
    without = [names[c] for c in np.sort(least_certain) if not counts[c]]
    nothing = f" It takes no image for {', '.join(without)}." if without else ""
    return Sheet(
        "Most certain, by class",
        f"Of each class the unlabeled images whose pseudo-labels are surest of it, with that probability.{part}{nothing}",
        {"": choices},
    )


def _below_no_heading(rows: np.ndarray, labels: np.ndarray, details: Iterable[str]) -> dict[str, list[Choice]]:
    return {"": [Choice(int(row), int(label), detail) for row, label, detail in zip(rows, labels, details, strict=True)]}


def _doubtful(found: Evidence, count: int) -> Sheet:
    said, rows = found.said, found.table.unlabeled_rows
    chosen = rows[np.argsort(-said.entropy[rows], kind="stable")[:count]]
    details = (f"{said.probability[row]:.2f}, entropy {said.entropy[row]:.2f}" for row in chosen)
    return Sheet(
        "Most doubtful",
        "The unlabeled images whose pseudo-labels are spread most evenly over the classes: a person's label helps most here. "
        f"Entropy says how evenly, in nats (0: sure; {np.log(len(found.class_names)):.2f}: all classes alike).",
        _below_no_heading(chosen, said.label[chosen], details),
    )


def _flipped(found: Evidence, count: int) -> Sheet:
    flips, rows, said = found.moves.flips, found.moves.rows, found.said
    chosen = [i for i in np.lexsort((-said.entropy[rows], -flips))[:count] if flips[i]]
    details = (f"{flips[i]} flips: {_opinions(found, i)}" for i in chosen)
    return Sheet(
        "Most often flipped",
        "The unlabeled images whose likeliest class changed most often (a flip), by learning or as predictions replaced the "
        f"pseudo-labels, seen at {len(found.moves.path)} moments. What is said at the end is then one opinion of several.",
        _below_no_heading(rows[chosen], said.label[rows[chosen]], details),
    )


def _opinions(found: Evidence, index: int) -> str:
    """The classes that a row went through, each once in a row."""
    classes = [int(moment[index]) for moment in found.moves.path]
    steps = [c for i, c in enumerate(classes) if not i or c != classes[i - 1]]
    return " > ".join(found.class_names[c] for c in steps)


def _contradicted(found: Evidence, count: int) -> Sheet:
    if found.config.learn_labeled_rows and found.config.parsed_rounds:
        return _learned_suspects(found, count)
    view, given = found.view, found.table.labels[found.view.rows]
    labeled = np.flatnonzero(given >= 0)
    least_first = labeled[np.argsort(view.given_probability[labeled], kind="stable")]
    against = least_first[view.label[least_first] != given[least_first]]
    names = found.class_names
    result = f"{len(against):,} of {len(labeled):,} given labels are contradicted."
    if not len(against):
        result = f"None of {len(labeled):,} given labels is contradicted: these are the ones that it is least sure of."
    order = (against if len(against) else least_first[:_LEAST_SURE])[:count]
    details = (f"{view.probability[i]:.2f}; given: {names[given[i]]}" for i in order)
    return Sheet(
        "Suspected wrong labels",
        "Labeled images of which the final network says another class than was given, although it was trained on that one: "
        f"the label is wrong, or the image is hard. {result}",
        _below_no_heading(view.rows[order], view.label[order], details),
    )


def _learned_suspects(found: Evidence, count: int) -> Sheet:
    rows, _, given, learned, left = (column[:count] for column in saved_table.ranked(found.table))
    details = (f"given: {found.class_names[g]}, left with {p:.3f}" for g, p in zip(given, left, strict=True))
    return Sheet(
        "Suspected wrong labels",
        "This run learned the rows of labeled images too. These are left with the least probability of the given class; "
        "tools.suspects ranks all of them.",
        _below_no_heading(rows, learned, details),
    )


def _strangers(found: Evidence, count: int) -> Sheet:
    view = found.view
    is_labeled = found.table.labels[view.rows] >= 0
    usual = float(np.median(view.evidence[is_labeled]))
    low = float(np.quantile(view.evidence[is_labeled], 0.01))
    rows = np.flatnonzero(~is_labeled)
    order = rows[np.argsort(view.evidence[rows], kind="stable")[:count]]
    below = int((view.evidence[rows] < low).sum())
    return Sheet(
        "Suspected strangers: no class fits",
        "Images for which all logits of the final network are small: it finds little of what it knows, whichever class comes "
        "first. The measure is the log of the sum of the exponentials of the logits (energy, Liu et al. 2020, with its sign "
        f"turned); the labeled images have {usual:.1f} in the median, and 1 % of them are below {low:.1f}. So are "
        f"{below:,} of the {len(rows):,} unlabeled images that were looked at. As the network was trained on the labeled ones, "
        "more than 1 % is usual. A person must say whether they belong to a class.",
        _below_no_heading(view.rows[order], view.label[order], (f"evidence {e:.1f}" for e in view.evidence[order])),
    )


def shown(found: Evidence, sheets: Sequence[Sheet]) -> list[dict[str, object]]:
    """The sheets with their images, as the template wants them."""
    all_rows = [choice.row for sheet in sheets for choices in sheet.choices.values() for choice in choices]
    places, names = found.images.places, found.class_names
    pictures = html.thumbnails(found.images.images, places[all_rows])

    def figure(choice: Choice) -> dict[str, object]:
        true, given = found.images.true_labels[choice.row], found.table.labels[choice.row]
        # Of a labeled image it is news where its label is wrong. In somebody's own set the label itself is all that is known.
        expected = choice.label if given < 0 else given
        really = names[true] if true not in (-1, expected) else ""
        return figure_of(choice, names, pictures[int(places[choice.row])], str(found.table.ids[choice.row]), really)

    return [laid_out(sheet, figure) for sheet in sheets]


def figure_of(choice: Choice, names: Sequence[str], source: str, identifier: str, really: str) -> dict[str, object]:
    """An image as the template wants it: `source` is its address, `really` its true class where that is news."""
    label = names[choice.label]
    alt = f"image {identifier}, taken for {label}"
    return {"source": source, "alt": alt, "id": identifier, "label": label, "detail": choice.detail, "really": really}


def laid_out(sheet: Sheet, figure: Callable[[Choice], dict[str, object]]) -> dict[str, object]:
    """A sheet as the template wants it."""
    groups = {heading: [figure(choice) for choice in choices] for heading, choices in sheet.choices.items()}
    return {"title": sheet.title, "explanation": sheet.explanation, "groups": groups}
