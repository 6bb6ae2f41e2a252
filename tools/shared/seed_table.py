"""Runs that differ in their seed alone, as a table."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from r2d2_tf.system.messages import markdown


class Column(NamedTuple):
    """What was measured of the run of each seed, None where it has none, and whether a mean of that means anything."""

    title: str
    values: Sequence[float | None]
    decimals: int = 2
    summarized: bool = True

    def cell(self, value: float | None) -> str:
        return "" if value is None else f"{value:.{self.decimals}f}"

    def measured(self) -> list[float]:
        """The values that a mean is taken of: all, or none, as those of some seeds alone would tell of these only."""
        found = [value for value in self.values if value is not None]
        return found if self.summarized and len(found) == len(self.values) else []


def seed_table(seeds: Sequence[int], columns: Sequence[Column]) -> str:
    """A line a seed, then the mean and, of several seeds, the standard deviation, as Markdown."""
    rows = [["seed", *(column.title for column in columns)]]
    rows += [[str(seed), *(column.cell(column.values[i]) for column in columns)] for i, seed in enumerate(seeds)]
    rows.append(["mean", *(column.cell(statistics.mean(own)) if (own := column.measured()) else "" for column in columns)])
    if len(seeds) > 1:
        deviations = (column.cell(statistics.stdev(own)) if (own := column.measured()) else "" for column in columns)
        rows.append(["standard deviation", *deviations])
    return "\n".join(markdown(rows))
