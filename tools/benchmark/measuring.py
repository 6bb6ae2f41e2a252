"""Arms that take turns, what is read off them, and how it is written down."""

import functools
import gc
import importlib
import itertools
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from r2d2_tf.system.messages import markdown
from tools.benchmark.settings import Settings

Work = Callable[[int], object]
"""Does so many steps."""
_WARM_UP = 10
"""Steps before the first round: fewer would be mostly what beginning to train costs."""
_MOST_SAID = 10_000
"""Characters of what a process that failed had said."""


class PartFailed(RuntimeError):
    """A part could not be measured; what went wrong is on the terminal."""


@dataclass
class Row:
    """A line of a table.

    Attributes:
        what: was measured.
        numbers: name, with its unit -> one number a round.
        ratio_of: the name of a ratio -> the two numbers whose medians it divides.
        note: whatever else must be known.
        steps: of an arm in a round.
    """

    what: str
    numbers: dict[str, list[float]]
    ratio_of: dict[str, tuple[str, str]] = field(default_factory=dict)
    note: str = ""
    steps: int = 0

    def ratio(self, name: str) -> float:
        above, below = (statistics.median(self.numbers[key]) for key in self.ratio_of[name])
        return above / below

    def to_json(self) -> dict[str, Any]:
        """All of the row, with its ratios."""
        return asdict(self) | {"ratios": {name: self.ratio(name) for name in self.ratio_of}}


def alternate(arms: Mapping[str, Work], settings: Settings, *, steps: int = 0) -> tuple[dict[str, list[float]], int]:
    """Seconds of a step of each arm in each round, and how many steps an arm did in a round.

    All do the same number of steps: as many as take the slowest `settings.seconds`, if `steps` does not say.
    """
    for work in arms.values():
        work(_WARM_UP)
    if not steps:
        slowest = max(seconds_of(functools.partial(work, _WARM_UP)) for work in arms.values()) / _WARM_UP
        steps = max(1, math.ceil(settings.seconds / slowest))
    measured: dict[str, list[float]] = {name: [] for name in arms}
    for name in in_turns(arms, settings.rounds):
        gc.collect()
        measured[name].append(seconds_of(functools.partial(arms[name], steps)) / steps)
    return measured, steps


def in_turns(names: Iterable[str], rounds: int) -> Iterator[str]:
    """All names in each round, in every other one backwards, so that what else the machine does meets them alike."""
    names = list(names)
    for number in range(rounds):
        yield from names[:: 1 if number % 2 == 0 else -1]


def seconds_of(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def per_second(count: int, seconds: Sequence[float]) -> list[float]:
    """How many of `count` things, each round's seconds being those of all."""
    return [count / value for value in seconds]


def table(rows: Sequence[Row]) -> list[str]:
    """Lines of Markdown tables, ratios first; of numbers the median and the range. Rows of other columns have their own."""
    lines: list[str] = []
    for columns, of_these in itertools.groupby(rows, lambda row: [*row.ratio_of, *row.numbers]):
        cells = ([r.what, *(_ratio_cell(r, name) for name in r.ratio_of), *map(spread, r.numbers.values())] for r in of_these)
        lines += ["", *markdown([["", *columns], *cells])]
    notes = dict.fromkeys(row.note for row in rows if row.note)
    return lines + [line for note in notes for line in ("", note)]


def _ratio_cell(row: Row, name: str) -> str:
    above, below = (row.numbers[key] for key in row.ratio_of[name])
    if len(above) != len(below) or len(above) == 1:
        return f"**{row.ratio(name):.3f}**"
    rounds = [a / b for a, b in zip(above, below, strict=True)]
    return f"**{row.ratio(name):.3f}** ({min(rounds):.3f} to {max(rounds):.3f})"


def spread(values: Sequence[float]) -> str:
    """Median and range."""
    median = statistics.median(values)
    digits = 0 if median >= 100 else 1 if median >= 10 else 2 if median >= 1 else 4
    if len(values) == 1:
        return f"{median:,.{digits}f}"
    return f"{median:,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def in_fresh_process(function: str, settings: Settings, *arguments: Any) -> Any:
    """Calls `module:function` of this package in a new process: `function(settings, *arguments)`.

    A new process has a peak of memory and devices of its own.

    Raises:
        PartFailed: if it fails, or is killed for want of memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said"
        # What TensorFlow says of itself would stand between the tables.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_say_into, initargs=(str(said),)) as pool:
            try:
                return pool.submit(_call, function, settings, arguments).result()
            except Exception as error:
                sys.stderr.write(said.read_text(errors="replace")[-_MOST_SAID:] if said.is_file() else "")
                raise PartFailed(f"{function}: {error}") from error


def _say_into(path: str) -> None:
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), sys.stderr.fileno())


def _call(function: str, settings: Settings, arguments: Sequence[Any]) -> Any:
    module, name = function.split(":")
    return getattr(importlib.import_module(f"tools.benchmark.arms.{module}"), name)(settings, *arguments)
