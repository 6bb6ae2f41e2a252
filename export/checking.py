"""Holds exported files against their network: differences, agreement, error and latency, as a table."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from r2d2_tf.runs.outcome import verdict
from r2d2_tf.system.messages import markdown

SECONDS_A_TURN = 0.25
"""A model is asked for so long before it is another's turn, or once if that takes longer."""
CALLS_A_TURN = 10
LARGE_BATCH = 32
Predict = Callable[[np.ndarray], np.ndarray]
"""Of the network or one of its exports: probabilities `[images, classes]` of `[images, height, width, channels]` uint8."""


class Latency(NamedTuple):
    """Milliseconds of a call: the median, and the 95th percentile."""

    median: float
    p95: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.p95:.3g})"


class Row(NamedTuple):
    """A model of the report.

    Attributes:
        name: format.
        where: file or folder, as a person would type it.
        kib: size.
        difference: largest of a probability to the network's.
        agreement: percent of images whose most probable class is the network's.
        wrong: images that the network and it get wrong.
        latency: by batch size; empty until it is measured.
    """

    name: str
    where: str
    kib: float
    difference: float
    agreement: float
    wrong: verdict.Comparison
    latency: dict[int, Latency]

    @property
    def error(self) -> float:
        """Percent of wrong images."""
        return 100 * self.wrong.second / self.wrong.of

    @property
    def worse(self) -> float:
        """Points by which the error is above the network's; 0 where that may be chance, or it is below."""
        points = 100 * (self.wrong.second - self.wrong.first) / self.wrong.of
        return max(0.0, points) if self.wrong.is_sure else 0.0

    def beside_the_network(self) -> str:
        """How near to the network it is, in a few words."""
        same = f"{self.agreement:.1f} % of images in the same class"
        return f"probabilities differ by {self.difference:.2g} at most; {same}; {self.error:.2f} % wrong"

    def __str__(self) -> str:
        """How wrong it is beside the network, in words."""
        first, second, of = self.wrong.first, self.wrong.second, self.wrong.of
        counts = f"{self.name} is wrong on {second:,} of {of:,} test images, the network on {first:,}"
        if first == second:
            return f"{counts}: on as many."
        how = ("worse" if second > first else "better") if self.wrong.is_sure else "no more than chance"
        return f"{counts}: {how} (p = {self.wrong.p_value:.2g})."


def in_batches(predict: Predict, images: np.ndarray) -> np.ndarray:
    """Probabilities of many images, LARGE_BATCH at a time.

    Not as many as in evaluation: LiteRT and ONNX Runtime keep the memory of their largest call, of 500 photographs some GiB
    a model.
    """
    return np.concatenate([predict(images[i : i + LARGE_BATCH]) for i in range(0, len(images), LARGE_BATCH)])


def latencies(models: Mapping[str, Predict], images: np.ndarray, rounds: int) -> dict[str, Latency]:
    """Times calls with `images`, all of them at once; the models take turns, so that a busy machine is busy for all.

    Returns:
        Milliseconds by model.
    """
    for predict in models.values():
        predict(images)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, predict in models.items():
            seconds[name] += _turn(predict, images)
    return {name: Latency(*(1000 * np.percentile(times, [50, 95]))) for name, times in seconds.items()}


def _turn(predict: Predict, images: np.ndarray) -> list[float]:
    seconds: list[float] = []
    while len(seconds) < CALLS_A_TURN and sum(seconds) < SECONDS_A_TURN:
        start = time.perf_counter()
        predict(images)
        seconds.append(time.perf_counter() - start)
    return seconds


def size_kib(path: Path) -> float:
    """Of a file, or of all files in a folder."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files) / 2**10


def compared(name: str, where: Path, kib: float, *, actual: np.ndarray, expected: np.ndarray, labels: np.ndarray) -> Row:
    """The row of a model whose probabilities are `actual` where the network's are `expected`, both `[images, classes]`."""
    actual_class, expected_class = actual.argmax(1), expected.argmax(1)
    return Row(
        name,
        str(where),
        kib,
        difference=float(np.abs(actual - expected).max()),
        agreement=100 * float(np.mean(actual_class == expected_class)),
        wrong=verdict.compared(expected_class, actual_class, labels),
        latency={},
    )


def table(rows: Iterable[Row], batch_sizes: Sequence[int]) -> str:
    """The rows as a Markdown table, whose columns line up in a terminal too."""
    head = ["format", "where", "KiB", "largest difference", "top-1 agreement, %", "error, %"]
    head += [f"{size} image{'s' if size > 1 else ''}, ms" for size in batch_sizes]
    cells = [head]
    for row in rows:
        cells.append([row.name, row.where, f"{row.kib:,.0f}", f"{row.difference:.1e}", f"{row.agreement:.2f}"])
        cells[-1] += [f"{row.error:.2f}", *(str(row.latency.get(size, "-")) for size in batch_sizes)]
    return "\n".join(markdown(cells))
