"""Which of somebody's folders are parts (train, test, unlabeled), and which are classes. Looks at names alone."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2d2_tf.data.labels.cells import composed
from r2d2_tf.system.messages import mistake, one_line

TRAIN, TEST, UNLABELED = "train", "test", "unlabeled"
_OTHER = "another part"
_WORDS = {
    TRAIN: {"train", "training"},
    TEST: {"test", "testing"},
    _OTHER: {"val", "valid", "validation", "dev", "eval", "evaluation", "labeled", "labelled", "holdout"},
    UNLABELED: {"unlabeled", "unlabelled", "unsup", "unsupervised", "unannotated", "nolabel", "nolabels"},
}
"""What folders of images are often parted into, and what no class is likely to be named."""
_KNOWN = frozenset().union(*_WORDS.values())
_FILLING = {"", "set", "sets", "image", "images", "img", "imgs", "data", "folder", "split", "photos", "pictures", "seg"}
_APART = re.compile(r"(?<![a-z])(un|no|non|not|without)[ _-]?(label(?:l?ed|s)?|sup(?:ervised)?)(?![a-z])", re.IGNORECASE)
"""No_label, un-labelled and such."""
_INNER = ("images", "image", "imgs", "img", "data")
"""Folders between a part and its classes."""
_DOUBTFUL = {
    "unknown",
    "unsorted",
    "unclassified",
    "unassigned",
    "uncategorized",
    "none",
    "na",
    "nil",
    "todo",
    "pending",
    "rest",
    "remaining",
    "?",
    "-",
}


def _role(name: str, *, loosely: bool = False) -> str:
    """TRAIN, TEST, UNLABELED, another part's, or "": what a folder is by its name, which may hold words such as images or set.

    Args:
        name: of the folder.
        loosely: any other words may stand before or behind train and test.
    """
    found = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", _APART.sub("unlabeled", name))
    words = [word for word in (re.sub(r"(set|images?|data)$", "", word.lower()) for word in found) if word not in _FILLING]
    roles = {part for part, own in _WORDS.items() if own.intersection(words)}
    if UNLABELED in roles and roles <= {UNLABELED, TRAIN} and _KNOWN.issuperset(words):
        return UNLABELED
    if len(roles) == 1 and (_KNOWN.issuperset(words) or (loosely and _KNOWN.intersection((words[0], words[-1])))):
        return roles.pop()
    return ""


def is_part(name: str) -> bool:
    """Whether a folder's name is that of a part."""
    return _role(name) != ""


def is_unlabeled(name: str) -> bool:
    """Whether a folder's name says that its images have no label."""
    return _role(name) == UNLABELED


def may_be_no_label(names: Iterable[str]) -> list[str]:
    """Remarks on classes that sound as if they were none."""
    return [
        f"is {one_line(name)!r} a class? Images without a label go into unlabeled/, their cells in a file of labels stay empty"
        for name in names
        if name.lower() in _DOUBTFUL or is_unlabeled(name)
    ]


@dataclass(frozen=True)
class Layout:
    """Where the images of a folder lie.

    Attributes:
        parts: role of each top folder, where these are parts; empty: they are classes.
        inside: of each part the folders between it and its classes, as `seg_train/seg_train/`.
    """

    parts: dict[str, str]
    inside: dict[str, tuple[str, ...]]

    def part(self, folder: Sequence[str]) -> str:
        """The role of the part in which an image lies, by its path; "" if in none."""
        return self.parts.get(folder[0], "") if len(folder) > 1 else ""

    def in_classes(self, folder: Sequence[str]) -> Sequence[str]:
        """A path below the folder of the classes."""
        return folder[1 + len(self.inside[folder[0]]) :] if self.part(folder) in (TRAIN, TEST) else folder

    @property
    def remarks(self) -> list[str]:
        """Which folders were taken for parts, where their names do not say it in full."""
        taken = [f"{top} for {part}" for top, part in self.parts.items() if top.lower() != part]
        return [one_line(f"folders are taken by their names: {', '.join(taken)}")] * bool(taken)

    @property
    def class_roots(self) -> list[str]:
        """The folders in which classes stand; "" is the root."""
        roots = ["/".join((top, *self.inside[top])) for top, part in self.parts.items() if part in (TRAIN, TEST)]
        return roots or [""]


def layout_of(root: Path, folders: Sequence[Sequence[str]], *, has_table: bool = False) -> Layout:
    """Tells parts from classes.

    Parts are `train` and `test` by these names alone; by longer ones (training_set, seg_test) if folders of equal names lie in
    both. Which is which must be clear: another part beside them, as val, or folders of equal names in what has no such name is
    refused, as no part may be taken for a class.

    Args:
        root: for messages.
        folders: of each image its path in folders, with its own name.
        has_table: a file of labels says what is a class, so that nothing need be clear, and `train` and `test` alone are parts.

    Raises:
        ValueError: if there are parts, and what they are for is not clear.
    """
    below: dict[str, list[Sequence[str]]] = {}
    for top, *others in folders:
        if others:
            below.setdefault(top, []).append(others)
    tops = {top: _role(top) for top in sorted(below)}
    inside = {top: _inside(top, below[top]) for top in tops}
    classes = {top: _classes(below[top], len(inside[top])) for top in tops}
    plain = {top.lower() for top, part in tops.items() if part != UNLABELED}
    if TRAIN in plain and plain <= {TRAIN, TEST}:
        return Layout(tops, inside)
    alike = [] if has_table else _alike(tops, classes)
    if not alike:
        return Layout({top: part for top, part in tops.items() if part == UNLABELED}, {})
    tops |= {top: _role(top, loosely=True) for top in alike}
    strays = [top for top, part in tops.items() if part not in (TRAIN, TEST, UNLABELED)]
    if not strays and sorted(part for part in tops.values() if part != UNLABELED) == [TEST, TRAIN]:
        return Layout(tops, inside)
    raise _unclear(root, alike, strays, tops, classes)


def _classes(paths: Sequence[Sequence[str]], skipped: int) -> set[str]:
    """Names of the folders in a part; none if an image lies beside them."""
    if any(len(path) <= skipped + 1 for path in paths):
        return set()
    return {composed(path[skipped]) for path in paths}


def _inside(top: str, paths: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Folders that a part holds around its classes: one of its own name, or images/."""
    skipped: tuple[str, ...] = ()
    while True:
        first = {path[len(skipped)] if len(path) > len(skipped) + 1 else None for path in paths}
        name = first.pop()
        if first or name is None or name.lower() not in (top.lower(), *_INNER):
            return skipped
        skipped = (*skipped, name)


def _alike(tops: Mapping[str, str], classes: Mapping[str, set[str]]) -> list[str]:
    """The top folders that are parts and no classes, by their names and by what is in them."""
    found = set()
    for one, other in itertools.permutations([top for top, part in tops.items() if part != UNLABELED], 2):
        common = classes[one] & (classes[other] | {other})
        # A single one says little where no name is a part's: n01/images and n02/images.
        if len(common) > 1 or (common and (tops[one] or tops[other])):
            found |= {one} if common == {other} else {one, other}
        if tops[one] and (classes[other] or len(classes[one]) > 1):
            found.add(one)
    # Each name says a part, and not all the same: cats_train, dogs_train, cats_test.
    roles = {top: _role(top, loosely=True) for top, part in tops.items() if part != UNLABELED}
    return sorted(roles if all(roles.values()) and len({*roles.values()}) > 1 else found)


def _unclear(
    root: Path, parts: Sequence[str], strays: Sequence[str], tops: Mapping[str, str], classes: Mapping[str, set[str]]
) -> ValueError:
    named = [top for top in parts if tops[top]] or parts
    elsewhere = {top: set(classes).union(*(own for other, own in classes.items() if other != top)) for top in named}
    one = next((top for top in named if classes[top] & elsewhere[top]), named[0])
    common = sorted(classes[one] & elsewhere[one])
    why = f"as {common[0]!r} is in it and elsewhere" if common else "by its name and what is in the folders"
    others = [top for top in parts if top != one]
    too = f"; {', '.join(map(repr, others))} {'is one' if len(others) == 1 else 'are some'}, too" if others else ""
    mend = f"rename {strays[0]!r}, or move it" if strays else f"rename {others[-1] if others else one!r}, or move it"
    return mistake(
        f"data_dir ({root}): {one!r} is a part and no class, {why}{too}, and beside train, test and unlabeled there must "
        f"be nothing: {mend} (names that say train, test or unlabeled are taken); if all are classes, give --labels"
    )
