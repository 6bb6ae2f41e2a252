"""What the load test found, as Markdown, and the promises that are broken."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from r2d2_tf.system.messages import markdown
from tools.load_test.attacks import Attacked
from tools.load_test.load import Tally
from tools.load_test.reference import BATCH_SIZE

MOST_GROWTH = 0.05
"""Part by which the server's memory may grow after the first requests."""
_SHOWN = 5


class Memory(NamedTuple):
    """Bytes that the server held after the first requests, and at the end."""

    first: int
    last: int

    @property
    def growth(self) -> float:
        """As a part of the first."""
        return self.last / self.first - 1


class Stop(NamedTuple):
    """What SIGTERM in the middle of load led to.

    Attributes:
        read: requests that the server says it read and answered meanwhile.
        answered: answers that came.
        exit_code: None if the server had to be killed.
        cut: reasons of requests that were sent and got no answer, but were not refused, or a wrong one.
    """

    exit_code: int | None
    seconds: float
    read: int
    answered: int
    cut: Counter[str]
    last_line: str


class Disturbed(NamedTuple):
    """How often a version took over and the server was killed, and what of that did not come true."""

    swaps: int
    kills: int
    failed: list[str]


class LoadTestResult(NamedTuple):
    """All that was found: the `first` requests, the stages of the table, and what was tested of our own server.

    Attributes:
        requests: how many were to be sent before the stop.
    """

    first: list[Tally]
    stages: list[Tally]
    memory: Memory | None
    stop: Stop | None
    requests: int
    disturbed: Disturbed | None = None
    attacks: Sequence[Attacked] = ()

    @property
    def sent(self) -> int:
        """How many were sent before the stop."""
        return sum(tally.sent for tally in (*self.first, *self.stages))


def table(tallies: Sequence[Tally], loops: Mapping[int, float]) -> str:
    """A row a stage."""
    heads = ["protocol", "at a time", "requests", "of them wrong on purpose", "images/s", "of a loop, 1 a call"]
    heads += [f"of a loop, {BATCH_SIZE} a call", "p50 ms", "p95 ms", "p99 ms"]
    rows: list[list[object]] = [[*heads]]
    for tally in tallies:
        speed = len(tally.latencies) / tally.seconds if tally.seconds else 0.0
        points = np.percentile(tally.latencies, (50, 95, 99)) * 1000 if tally.latencies else [float("nan")] * 3
        cells = [tally.protocol, tally.concurrency, f"{tally.answered:,}", f"{tally.bad.total():,}", f"{speed:,.0f}"]
        cells += [f"{speed / loops[count]:.2f}" for count in (1, BATCH_SIZE)] + [f"{point:.1f}" for point in points]
        rows.append(cells)
    speeds = " and ".join(f"{speed:,.0f} images/s at {count} a call" for count, speed in loops.items())
    return "\n".join([*markdown(rows), "", f"A loop around the SavedModel, in this process: {speeds}."])


def attack_table(attacks: Sequence[Attacked]) -> str:
    """A row an attack."""
    heads = ["beside", "requests", "sent again", "p50 ms", "p99 ms", "longest wait of /healthz, ms", "of the first request, ms"]
    rows: list[list[object]] = [[*heads]]
    for attack in attacks:
        cells = [f"{1000 * seconds:.1f}" for seconds in (attack.p50, attack.p99, attack.health, attack.first)]
        rows.append([attack.what, f"{attack.requests:,}", attack.retried, *cells])
    return "\n".join(markdown(rows))


def broken_promises(found: LoadTestResult, *, tolerance: float) -> list[str]:
    """A line each; none if all is well."""
    broken, tallies = [], [*found.first, *found.stages]
    for what, counts in (
        ("got no answer", _sum([t.lost for t in tallies])),
        (f"were answered otherwise than by the model (more than {tolerance:.0e})", _sum([t.wrong for t in tallies])),
        ("got an unexpected code", _sum([t.unexpected for t in tallies])),
    ):
        if counts:
            broken.append(f"{counts.total():,} requests {what}: {_most_common(counts)}")
    if found.sent < found.requests:
        broken.append(
            f"{found.sent:,} of {found.requests:,} requests were sent: the time was over, or the server refused; "
            "give more --seconds or fewer --requests"
        )
    broken += found.disturbed.failed if found.disturbed else []
    broken += [line for attack in found.attacks for line in attack.broken()]
    memory, stop = found.memory, found.stop
    if memory and memory.growth > MOST_GROWTH:
        broken.append(f"the server's memory grew by {100 * memory.growth:.1f} %, more than {100 * MOST_GROWTH:.0f} %")
    if stop and stop.exit_code is None:
        broken.append(f"SIGTERM: the server still ran after {stop.seconds:.0f} s, and was killed")
    elif stop and (stop.exit_code or stop.read != stop.answered or stop.cut):
        broken.append(
            f"SIGTERM: exit code {stop.exit_code}, {stop.read} requests read, {stop.answered} answers came, "
            f"{stop.cut.total()} cut off {_most_common(stop.cut)}: {stop.last_line}"
        )
    return broken


def _sum(counters: Sequence[Counter[Any]]) -> Counter[Any]:
    return sum(counters, Counter())


def _most_common(counts: Counter[Any]) -> str:
    return ", ".join(f"{' -> '.join(key) if isinstance(key, tuple) else key} ({n})" for key, n in counts.most_common(_SHOWN))


def summary(found: LoadTestResult) -> str:
    """What was counted besides the table."""
    tallies, memory, stop = [*found.first, *found.stages], found.memory, found.stop
    counts = {name: sum(getattr(tally, name).total() for tally in tallies) for name in ("lost", "wrong", "unexpected")}
    kinds = Counter((tally.protocol, kind) for tally in tallies for kind in tally.bad.elements())
    worst = max((tally.largest_difference for tally in tallies), default=0.0)
    lines = [
        f"{found.sent:,} requests: {counts['lost']} lost, {counts['wrong']} with a wrong answer, {counts['unexpected']} with "
        f"an unexpected code. Largest difference to the model: {worst:.1e}.",
        f"{kinds.total():,} of them were wrong on purpose, of {len(kinds)} kinds, and refused as they must be.",
    ]
    if disturbed := found.disturbed:
        retried = _sum([tally.retried for tally in tallies])
        lines.append(
            f"Meanwhile another version took over {disturbed.swaps} times, and the server was killed {disturbed.kills} times; "
            f"requests were sent again {retried.total():,} times."
        )
    if memory:
        lines.append(
            f"Memory of the server: {memory.first / 2**20:,.0f} MiB after the first requests, {memory.last / 2**20:,.0f} MiB "
            f"at the end ({100 * memory.growth:+.1f} %)."
        )
    if stop:
        lines.append(
            f"SIGTERM in the middle of load: {stop.read:,} requests read, {stop.answered:,} answers came, exit code "
            f"{'none' if stop.exit_code is None else stop.exit_code} after {stop.seconds:.1f} s."
        )
    return "\n".join(lines)
