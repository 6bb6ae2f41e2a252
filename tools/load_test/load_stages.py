"""The stages of the load test: the first requests, more and more at a time, and the stop."""

import asyncio
import itertools
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from tools.load_test.cases import GRPC, REST, Case, bad_cases, good_cases
from tools.load_test.disturbances import Disturber
from tools.load_test.load import Connections, Tally, run_stage
from tools.load_test.load_report import Disturbed, LoadTestResult, Memory, Stop
from tools.load_test.load_settings import Settings
from tools.load_test.reference import Reference
from tools.shared.server_process import ServerProcess

PROTOCOLS = (REST, GRPC)
FIRST_REQUESTS = 2000
"""After as many the server's memory is measured for the first time; they are sent at the highest concurrency."""
PATIENCE = 60.0
"""Seconds for which a client tries again where servers are killed."""
_LEAST_BODY_BYTES = 2**18
_IMAGES_A_BODY = 8
_DIGITS = 8
"""Characters of a number in JSON, at most."""
_SECONDS_BEFORE_STOP = 1.0


def largest_body(reference: Reference) -> int:
    """Bytes that the server is told to take at most: enough for every right request, and so few that more are soon sent."""
    bodies = [_IMAGES_A_BODY * _DIGITS * reference.images[0].size, *(2 * len(content) for content in reference.encoded)]
    return max(_LEAST_BODY_BYTES, *bodies)


class LoadTest:
    """Sends everything, to `process`, which serves the folder `model`, or to the server that the settings name."""

    def __init__(
        self, settings: Settings, reference: Reference, process: ServerProcess | None, model: Path, *, oversized_bytes: int
    ) -> None:
        self._settings, self._process, self._model = settings, process, model
        self._random = random.Random(settings.seed)
        self._good = good_cases(reference, settings.name)
        self._bad = bad_cases(reference, settings.name, oversized_bytes)
        self._until = time.monotonic() + settings.seconds
        self._disturber: Disturber | None = None

    async def run(self) -> LoadTestResult:
        settings, most = self._settings, max(self._settings.concurrency)
        address = (self._process.rest, self._process.grpc) if self._process else (settings.rest, settings.grpc)
        first_count = min(FIRST_REQUESTS, settings.requests // 2)
        kinds = [(concurrency, protocol) for concurrency in settings.concurrency for protocol in PROTOCOLS]
        first, stages, memory, stop = [], [], None, None
        async with Connections(*address) as connections:
            if self._process and settings.swaps + settings.kills:
                self._disturber = Disturber(self._process, self._model, connections, settings.name)
                self._disturber.plan(settings.requests, swaps=settings.swaps, kills=settings.kills)
            with tqdm(total=settings.requests, unit=" requests", leave=False) as bar:
                for protocol, count in zip(PROTOCOLS, _shares(first_count, len(PROTOCOLS)), strict=True):
                    first.append(await self._stage(connections, protocol, most, count, bar))
                held = self._process.memory() if self._process else 0
                counts = _shares(settings.requests - first_count, len(kinds))
                for (concurrency, protocol), count in zip(kinds, counts, strict=True):
                    stages.append(await self._stage(connections, protocol, concurrency, count, bar))
            if self._disturber:
                await self._disturber.wait()
            # Of a server that is gone the requests tell, which got no answer.
            if self._process and self._process.runs:
                # Another version, or another process, holds another amount.
                if settings.requests >= 2 * FIRST_REQUESTS and held and not settings.swaps + settings.kills:
                    memory = Memory(held, self._process.memory())
                stop = await self._stop(connections, self._process, most)
        disturber = self._disturber
        disturbed = Disturbed(disturber.swaps - len(disturber.failed), disturber.kills, disturber.failed) if disturber else None
        return LoadTestResult(first, stages, memory, stop, settings.requests, disturbed)

    async def _stage(self, connections: Connections, protocol: str, concurrency: int, count: int, bar: tqdm) -> Tally:
        bar.set_description(f"{protocol}, {concurrency} at a time")
        tally = Tally(protocol, concurrency)
        cases = itertools.islice(self._mixed(protocol), count)
        send, tolerance = connections.sender(protocol), self._settings.tolerance

        def progress() -> None:
            bar.update()
            if self._disturber:
                self._disturber.answered()

        patience = PATIENCE if self._settings.kills else 0.0
        await run_stage(send, cases, tally, tolerance=tolerance, until=self._until, progress=progress, patience=patience)
        return tally

    def _mixed(self, protocol: str) -> Iterator[Case]:
        good = itertools.cycle(self._random.sample(self._good[protocol], len(self._good[protocol])))
        while True:
            is_bad = self._random.random() < self._settings.malformed
            yield self._random.choice(self._bad[protocol]) if is_bad else next(good)

    async def _stop(self, connections: Connections, process: ServerProcess, concurrency: int) -> Stop:
        """SIGTERM while right requests come by both protocols, as fast as they can."""
        before = _answered(await connections.text("/metrics"))
        tallies = [Tally(protocol, concurrency) for protocol in PROTOCOLS]
        until, progress = time.monotonic() + self._settings.seconds, lambda: None
        loads = []
        for tally in tallies:
            send, cases = connections.sender(tally.protocol), itertools.cycle(self._good[tally.protocol])
            stage = run_stage(send, cases, tally, tolerance=self._settings.tolerance, until=until, progress=progress)
            loads.append(asyncio.create_task(stage))
        await asyncio.sleep(_SECONDS_BEFORE_STOP)
        started = time.monotonic()
        exit_code = await asyncio.to_thread(process.stop)
        seconds = time.monotonic() - started
        await asyncio.gather(*loads)
        last_line = process.log().strip().rpartition("\n")[2]
        numbers = re.search(r"stopped: (\d+) REST and (\d+) gRPC requests answered", last_line)
        after = sum(map(int, numbers.groups())) if numbers else 0
        cut = tallies[0].lost - tallies[0].refused + (tallies[1].lost - tallies[1].refused)
        for tally in tallies:
            cut += tally.wrong + Counter({f"{kind} -> {code}": number for (kind, code), number in tally.unexpected.items()})
        return Stop(exit_code, seconds, after - before, sum(tally.answered for tally in tallies), cut, last_line)


def _shares(total: int, parts: int) -> list[int]:
    """`total` in `parts` that differ by one at most."""
    return [total // parts + (place < total % parts) for place in range(parts)]


def _answered(metrics: str) -> int:
    """All requests that the server has counted."""
    return sum(int(float(value)) for value in re.findall(r"^serving_requests_total\{.*\} (\S+)$", metrics, re.MULTILINE))
