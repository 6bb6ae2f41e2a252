"""Which unlabeled images a label is most useful of, by what a run knows of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from r2d2_tf.runs import run_directory
from tools.shared import row_history, saved_table

STRATEGIES = ("mixed", "entropy", "margin", "flips", "random")
"""See the text of tools.label_queue."""
_SURE = 0.9
"""Probability of a class from which on the table is not called unsure."""


@dataclass(frozen=True)
class Candidates:
    """The unlabeled `rows` of a run's table, what each row of the table says, and how these moved."""

    rows: np.ndarray
    said: saved_table.RowSummary
    moves: row_history.RowHistory
    class_names: Sequence[str]

    @property
    def label(self) -> np.ndarray:
        """Largest class of each, `[rows]`."""
        return self.said.label[self.rows]

    @property
    def contradicted(self) -> np.ndarray:
        """Whether the network's last prediction before fine-tuning says another class, `[rows]` bool."""
        return self.moves.predicted != self.label


def candidates(run_dir: Path, table: saved_table.SavedTable, class_names: Sequence[str]) -> Candidates:
    """Reads what a run knows of its unlabeled rows.

    Raises:
        ValueError: if files are missing, damaged, or of different runs.
    """
    history = run_dir / run_directory.HISTORY_FILE
    moves = row_history.read(history, num_rows=len(table.labels), num_classes=table.num_classes)
    if not np.array_equal(moves.rows, table.unlabeled_rows):
        raise ValueError(f"{history} and {run_directory.TABLE_FILE} are of different runs: make the run again")
    return Candidates(moves.rows, saved_table.summarized(table), moves, class_names)


def usefulness(found: Candidates, strategy: str, seed: int) -> np.ndarray:
    """How useful a label of each row would be, `[rows]`, by a key of STRATEGIES; only the order counts."""
    entropy = found.said.entropy[found.rows]
    if strategy == "entropy":
        return entropy
    if strategy == "margin":
        # Not the difference, which is 1 in float32 for most rows.
        return found.said.second[found.rows] / found.said.probability[found.rows]
    if strategy == "flips":
        return _rank(found.moves.flips) + _rank(entropy) / (len(entropy) + 1)
    if strategy == "random":
        return np.random.default_rng([seed, 6]).permutation(len(found.rows)).astype(np.float64)
    signs = (entropy, found.moves.predicted_entropy, found.moves.flips, found.contradicted)
    return np.sum([_rank(sign) for sign in signs], axis=0)


def _rank(values: np.ndarray) -> np.ndarray:
    """The mean rank of those that are alike, so that a sign that says nothing of them adds nothing to their order."""
    from scipy.stats import rankdata

    return rankdata(values)


def chosen(found: Candidates, useful: np.ndarray, count: int, quota: int) -> np.ndarray:
    """Indices into `found.rows` of the `count` most useful, at most `quota` of each class (0: any number), the best first.

    Those of usefulness -inf are not among them.
    """
    order = np.argsort(-useful, kind="stable")
    order = order[useful[order] > -np.inf]
    if quota:
        label = found.label[order]
        best = [np.flatnonzero(label == c)[:quota] for c in range(len(found.class_names))]
        order = order[np.sort(np.concatenate(best))]
    return order[:count]


def doubted(found: Candidates, order: np.ndarray, likely: np.ndarray) -> np.ndarray:
    """The classes between which a choice is to be made come first: the table's, and its second one or what the network says.

    Args:
        found: of the run.
        order: as of `chosen`, `[images]`.
        likely: the table's likeliest classes of each, `[images, classes]`.

    Returns:
        The same with the network's class in the second place where it contradicts the table, `[images, classes]`.
    """
    lists = likely.tolist()
    for own, index in zip(lists, order.tolist(), strict=True):
        if found.contradicted[index]:
            other = int(found.moves.predicted[index])
            own[1:] = [other, *(label for label in own[1:] if label != other)][: len(own) - 1]
    return np.array(lists)


def why(found: Candidates, index: int, strategy: str, other: int) -> str:
    """Why a row is asked for, in words; `other` is the class that it may have instead, as of `doubted`."""
    if strategy == "random":
        return "drawn at random"
    row, names, flips = found.rows[index], found.class_names, int(found.moves.flips[index])
    own = names[found.label[index]]
    is_unsure = bool(found.contradicted[index]) or found.said.probability[row] < _SURE
    changed = f"; changed its class {'once' if flips == 1 else f'{flips} times'}" if flips else ""
    return (f"unsure: {own} or {names[other]}" if is_unsure else f"perhaps {own}") + changed
