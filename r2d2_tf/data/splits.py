"""Which training images are labeled: drawn by a seed, or listed in a file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from r2d2_tf.data.image_data import AUTO
from r2d2_tf.system.messages import mistake


def check_num_labels(num_labels: int, num_classes: int, num_images: int) -> None:
    """Raises ValueError if there are more labels than images, or fewer than classes."""
    if not num_classes <= num_labels <= num_images:
        raise ValueError(
            f"num_labels ({num_labels}) must be at least one a class ({num_classes}) and at most the number of "
            f"training images ({num_images}): change --num_labels"
        )


def labeled_split(labels: np.ndarray, num_labels: int, num_classes: int, *, seed: int) -> np.ndarray:
    """Draws the rows whose labels training may see, class-balanced.

    Every class gets the same number; a remainder goes, one each, to classes drawn at random, and what a
    small class cannot give is taken from the others. `labels` are the true class of each row, `[rows]`; the draw is a
    function of the seed. The row numbers come sorted, `[num_labels]` int64.

    Raises:
        ValueError: if there are more labels than rows, or fewer than classes.

    >>> labels = np.repeat([0, 1, 2], 100)
    >>> np.bincount(labels[labeled_split(labels, 30, 3, seed=0)])
    array([10, 10, 10])
    """
    check_num_labels(num_labels, num_classes, len(labels))
    generator = np.random.default_rng([seed, 0])
    shuffled = [generator.permutation(np.flatnonzero(labels == c)) for c in range(num_classes)]
    class_order = generator.permutation(num_classes)
    # Rank r of each class comes before rank r + 1 of any: taking the first num_labels balances the classes.
    in_order = [shuffled[c] for c in class_order]
    ranks = np.concatenate([np.arange(len(rows)) for rows in in_order])
    # A stable sort keeps the classes of one rank in their order.
    return np.sort(np.concatenate(in_order)[np.argsort(ranks, kind="stable")[:num_labels]]).astype(np.int64)


def with_wrong_labels(labels: np.ndarray, share: float, num_classes: int, *, seed: int) -> np.ndarray:
    """Replaces a share (0..1) of labels, `[labels]` int64, each by one of the other classes, all equally likely.

    The number of wrong ones is rounded; which ones, and by what, is a function of the seed.
    """
    generator = np.random.default_rng([seed, 5])
    chosen = generator.permutation(len(labels))[: round(share * len(labels))]
    wrong = labels.copy()
    wrong[chosen] = (labels[chosen] + generator.integers(1, num_classes, len(chosen))) % num_classes
    return wrong


@dataclass(frozen=True)
class Part:
    """A part of the labels: a share of them above 0 and below 1, begun so many labels earlier than at the first."""

    share: Fraction
    offset: int = 0


def parse_part(text: str) -> Part | None:
    """A share as 0.2, or 2/5, the second of five equal parts; None for none, and for AUTO.

    Raises:
        ValueError: if it is neither.
    """
    if text in (AUTO, "none"):
        return None
    if found := re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text):
        number, parts = map(int, found.groups())
        if 1 <= number <= parts and parts > 1:
            return Part(Fraction(1, parts), parts - number)
    elif re.fullmatch(r"0?\.[0-9]{1,9}", text) and (share := Fraction(text)):
        return Part(share)
    raise ValueError(
        f"held_out ({text!r}) must be auto, none, a share above 0 and below 1 as 0.2, or a part K/N as 2/5: change --held_out"
    )


def held_out_rows(labels: np.ndarray, part: Part, *, seed: int) -> np.ndarray:
    """Draws the rows of a part of the labels, stratified: of each class its share, rounded up or down, and so of them all.

    Of a class with one label none is taken, and of no class all. The parts 1/N to N/N share no row, and together have all
    rows of the classes with two labels or more. `labels` are the given classes, `[rows]`, -1 for none. The rows come sorted.
    """
    generator = np.random.default_rng([seed, 8])
    classes = generator.permutation(np.unique(labels[labels >= 0]))
    rows = [generator.permutation(np.flatnonzero(labels == c)) for c in classes]
    rows = [own for own in rows if len(own) > 1]
    if not rows:
        return np.zeros(0, np.int64)
    # Counted through over all classes, every fifth label, say, is taken: what a class has too few of, the next has more.
    places = np.split(np.arange(sum(map(len, rows))) + part.offset, np.cumsum([len(own) for own in rows])[:-1])
    up, down = part.share.numerator, part.share.denominator
    taken = [own[(own_places + 1) * up // down > own_places * up // down] for own, own_places in zip(rows, places, strict=True)]
    kept_one = [chosen[: len(own) - 1] for chosen, own in zip(taken, rows, strict=True)]
    return np.sort(np.concatenate(kept_one))


def read_split(
    path: Path, ids: Sequence[str], labels: np.ndarray, class_names: Sequence[str], *, flag: str = "split_file"
) -> np.ndarray:
    """Reads which rows are labeled (or, for another flag, meant) from a text file: one id a line.

    After the id, a class name may follow, which must then be the image's own. The format of R2-D2's authors is read too:
    `<original CIFAR index>_<class>.png <class or NO_LABEL>`, where a line with NO_LABEL is an unlabeled image. Empty
    lines and lines that begin with # are read over.

    `ids` and `labels`, the true classes, are of all rows. The row numbers come sorted, int64. Messages name the flag.

    Raises:
        ValueError: if the file cannot be read, or a line names no image, an image twice, or a wrong class.
    """
    lines = parse_split(path, ids, flag=flag)
    for line in lines:
        own = class_names[labels[line.row]]
        if line.class_name not in ("", own):
            raise mistake(f"{line.where} gives a wrong class: the image is a {own}")
    return np.array(sorted(line.row for line in lines), np.int64)


@dataclass(frozen=True)
class SplitLine:
    """A line that names a labeled image: its number, all of it in words, its row, and the class that it gives ("" for none)."""

    number: int
    where: str
    row: int
    class_name: str


def parse_split(path: Path, ids: Sequence[str], *, flag: str = "split_file") -> list[SplitLine]:
    """Reads a split file as far as it can be understood without the images; see `read_split`.

    Raises:
        ValueError: if the file cannot be read, or a line names no image, or an image twice.
    """
    try:
        # A pipe or a device might never end.
        if not path.is_file():
            raise OSError("it does not exist, or is no file")
        # "sig": some editors begin a text with a byte order mark.
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise mistake(f"{flag} ({path}) cannot be read: {error}; change --{flag}") from error
    row_of = {identifier: row for row, identifier in enumerate(ids)}
    found: dict[int, SplitLine] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#") or words[-1] == "NO_LABEL":
            continue
        where = f"{flag} ({path}), line {number}: {line.strip()!r}"
        authors = re.fullmatch(r"0*([0-9]+)_\w+\.png", words[0])
        identifier = f"train_{authors[1]:>05}" if authors else words[0]
        row = row_of.get(identifier)
        if row is None or len(words) > 2:
            raise mistake(f"{where} names no image of this data set: write one id a line, such as {ids[0]}")
        if row in found:
            raise mistake(f"{where} names an image that line {found[row].number} names already: remove one")
        found[row] = SplitLine(number, where, row, words[1] if len(words) == 2 else "")
    return list(found.values())


def write_split(path: Path, ids: Sequence[str], rows: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> None:
    """Writes the labeled `rows` as `read_split` reads them: id and class a line."""
    path.write_text("".join(f"{ids[row]} {class_names[labels[row]]}\n" for row in rows))
