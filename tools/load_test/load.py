"""Sends requests, a number of them at a time, and checks the answers."""

import asyncio
import dataclasses
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import grpc

from export.serving.errors import STOPPING, Code
from tools.load_test.cases import GRPC, REST, Case, outputs_of_grpc, outputs_of_rest
from tools.load_test.reference import largest_difference

PREDICT = "/tensorflow.serving.PredictionService/Predict"
_TIMEOUT_SECONDS = 60.0
_CHANNELS = 4
_RETRY_SECONDS = 0.1
_STOPPING_STATUS = Code.UNAVAILABLE.http_status
_NOT_CONNECTED = "failed to connect"
"""gRPC says so of a request that was never sent; any other UNAVAILABLE may be of one that the server had read."""

Send = Callable[[Case], Awaitable[tuple[str, bytes]]]
"""Sends a request; the code and the content of the answer."""


class NoAnswerError(Exception):
    """A request got no answer. `refused`: the server took no connection, or said that it stops."""

    def __init__(self, reason: str, *, refused: bool) -> None:
        super().__init__(reason)
        self.refused = refused


@dataclasses.dataclass
class Tally:
    """What became of the requests of one stage.

    Attributes:
        latencies: seconds of each right request.
        lost: reasons of requests without an answer.
        refused: of these, those that the server did not take.
        retried: reasons for which requests were sent again; what became of them is counted once, by their last answer.
        wrong: kinds of requests whose answer was not the model's.
        unexpected: requests that got another code than they may, as (kind, code).
        bad: wrong requests that were refused as they must be, by kind.
    """

    protocol: str
    concurrency: int
    latencies: list[float] = dataclasses.field(default_factory=list)
    lost: Counter[str] = dataclasses.field(default_factory=Counter)
    refused: Counter[str] = dataclasses.field(default_factory=Counter)
    retried: Counter[str] = dataclasses.field(default_factory=Counter)
    wrong: Counter[str] = dataclasses.field(default_factory=Counter)
    unexpected: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    bad: Counter[str] = dataclasses.field(default_factory=Counter)
    largest_difference: float = 0.0
    seconds: float = 0.0
    answered: int = 0

    @property
    def sent(self) -> int:
        """All requests, answered or not."""
        return self.answered + self.lost.total()

    def check(self, case: Case, code: str, content: bytes, *, seconds: float, tolerance: float) -> None:
        self.answered += 1
        if code not in case.codes:
            self.unexpected[case.kind, code] += 1
        elif case.answer is None:
            self.bad[case.kind] += 1
        else:
            self.latencies.append(seconds)
            outputs = outputs_of_rest(content, case.answer) if self.protocol == REST else outputs_of_grpc(content)
            difference = largest_difference(outputs, case.answer)
            self.largest_difference = max(self.largest_difference, difference)
            if difference > tolerance:
                self.wrong[case.kind] += 1


class Connections:
    """Connections to a server by both protocols, while it is entered."""

    def __init__(self, rest: str, grpc_address: str) -> None:
        self._rest, self._grpc = rest, grpc_address

    async def __aenter__(self) -> "Connections":
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        self._session = aiohttp.ClientSession(f"http://{self._rest}", connector=connector, timeout=timeout)
        # Otherwise all channels to one address would share a connection.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
        # A server that is started again must be found soon.
        options += [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]
        self._channels = [grpc.aio.insecure_channel(self._grpc, options=options) for _ in range(_CHANNELS)]
        self._methods = [channel.unary_unary(PREDICT) for channel in self._channels]
        self._next = 0
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        for channel in self._channels:
            await channel.close()

    def sender(self, protocol: str) -> Send:
        return {REST: self._send_rest, GRPC: self._send_grpc}[protocol]

    async def text(self, path: str) -> str:
        async with self._session.get(path) as response:
            return await response.text()

    async def _send_rest(self, case: Case) -> tuple[str, bytes]:
        try:
            async with self._session.request(case.method, case.path, data=case.body) as response:
                content = await response.read()
                if response.status == _STOPPING_STATUS and STOPPING.encode() in content:
                    raise NoAnswerError(STOPPING, refused=True)
                return str(response.status), content
        except aiohttp.ClientConnectorError as error:
            raise NoAnswerError("connection refused", refused=True) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NoAnswerError(f"{type(error).__name__}: {error}", refused=False) from error

    async def _send_grpc(self, case: Case) -> tuple[str, bytes]:
        self._next = (self._next + 1) % _CHANNELS
        try:
            return "OK", await self._methods[self._next](case.body, timeout=_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            if code in ("UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED", "UNKNOWN"):
                details = error.details() or ""
                refused = code == "UNAVAILABLE" and (details.startswith(_NOT_CONNECTED) or details == STOPPING)
                raise NoAnswerError(f"{code}: {details}", refused=refused) from error
            return code, b""


async def run_stage(
    send: Send,
    cases: Iterator[Case],
    tally: Tally,
    *,
    tolerance: float,
    until: float,
    progress: Callable[[], Any],
    patience: float = 0.0,
) -> None:
    """Sends `cases` until they or the time (`time.monotonic`) are over, or the server refuses; `tally` counts the answers.

    For `patience` seconds a request that gets no answer is sent again and again.
    """

    async def work() -> None:
        for case in cases:
            if time.monotonic() > until:
                return
            try:
                code, content, seconds = await _with_patience(send, case, tally, patience)
            except NoAnswerError as error:
                tally.lost[str(error)] += 1
                if error.refused:
                    tally.refused[str(error)] += 1
                    return
                continue
            tally.check(case, code, content, seconds=seconds, tolerance=tolerance)
            progress()

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(tally.concurrency)))
    tally.seconds = time.perf_counter() - started


async def _with_patience(send: Send, case: Case, tally: Tally, patience: float) -> tuple[str, bytes, float]:
    """Code and content of the answer to a request, and the seconds that the last try took."""
    end = time.monotonic() + patience
    while True:
        started = time.perf_counter()
        try:
            code, content = await send(case)
            return code, content, time.perf_counter() - started
        except NoAnswerError as error:
            if time.monotonic() > end:
                raise
            tally.retried[str(error)] += 1
        await asyncio.sleep(_RETRY_SECONDS)
