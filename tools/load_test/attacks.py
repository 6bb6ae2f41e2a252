"""What an attacker does to a server by REST, and how long others wait meanwhile."""

import asyncio
import contextlib
import functools
import http.client
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from export.serving import server_settings
from export.serving.errors import Code
from tools.load_test.cases import REST, Case, good_cases
from tools.load_test.load import Connections, NoAnswerError, Send, Tally, run_stage
from tools.load_test.load_settings import Settings
from tools.load_test.reference import Reference
from tools.shared.server_process import ServerProcess

MOST_ADDED_SECONDS = 0.1
"""By how much p99 of small requests may grow beside an attack."""
MOST_HEALTH_SECONDS = 1.0
"""Until /healthz must have answered beside an attack."""
_SECONDS = 8.0
_AT_A_TIME = 4
_SILENT = 500
_MAX_CONNECTIONS = 100
"""What the server is told to take."""
_BODY_BYTES = server_settings.Settings.max_body_bytes - 100
_MOST_ROWS = server_settings.Settings.max_rows
_HEALTH_PAUSE = 0.2
_PATIENCE = 30.0
"""Seconds until a client gives up."""
_FULL = str(Code.UNAVAILABLE.http_status)


class Attacked(NamedTuple):
    """What small requests met beside an attack.

    Attributes:
        requests: how many were answered.
        wrong: how many got no right answer.
        retried: how many were sent again, as the server said that it is full, or took no connection.
        p50, p99: seconds of them.
        first: most seconds of the first ones, each over a new connection.
        health: most seconds until /healthz answered, asked each time over a new connection.
        usual: p99 without an attack.
    """

    what: str
    requests: int
    wrong: int
    retried: int
    p50: float
    p99: float
    first: float
    health: float
    usual: float

    def broken(self) -> list[str]:
        """The promises that were not kept, a line each."""
        found = []
        if self.wrong or not self.requests:
            found.append(f"beside {self.what}: {self.wrong:,} small requests were not answered rightly")
        if (added := self.p99 - self.usual) > MOST_ADDED_SECONDS:
            found.append(f"beside {self.what}: p99 of small requests grew by {1000 * added:.0f} ms")
        if self.health > MOST_HEALTH_SECONDS:
            found.append(f"beside {self.what}: /healthz answered only after {self.health:.1f} s")
        return found


async def attack(settings: Settings, reference: Reference) -> list[Attacked]:
    """Starts a server, and makes each attack on it."""
    found: list[Attacked] = []
    with ServerProcess(settings.model, settings.name, f"--max_connections={_MAX_CONNECTIONS}") as process:
        repeated = functools.partial(_repeated, process.rest, settings.name)
        attacks: dict[str, contextlib.AbstractContextManager[None]] = {
            "no attack": contextlib.nullcontext(),
            f"{_SILENT} silent connections": _silent(process.rest),
            "8 MiB of []": repeated(_tiny_lists(), {400, 413}),
            f"up to {_MOST_ROWS:,} rows a request": repeated(_many_rows(reference), {200}),
        }
        for what, under_way in attacks.items():
            with under_way:
                usual = found[0].p99 if found else np.inf
                found.append(await _beside(what, process, settings, reference, usual))
            # What the attack has left in the server's queues is not the next one's.
            await asyncio.sleep(1)
    return found


async def _beside(what: str, process: ServerProcess, settings: Settings, reference: Reference, usual: float) -> Attacked:
    tally = Tally(REST, _AT_A_TIME)
    until = time.monotonic() + _SECONDS
    async with Connections(process.rest, process.grpc) as connections:
        cases: Iterator[Case] = itertools.cycle(good_cases(reference, settings.name)[REST])
        health = asyncio.create_task(asyncio.to_thread(_longest_wait, process.rest, until))
        send, progress = _patient(connections.sender(REST)), lambda: None
        await run_stage(send, cases, tally, tolerance=settings.tolerance, until=until, progress=progress, patience=_PATIENCE)
        wrong = sum(counts.total() for counts in (tally.lost, tally.wrong, tally.unexpected))
        p50, p99 = np.percentile(tally.latencies, (50, 99)) if tally.latencies else (np.inf, np.inf)
        first = max(tally.latencies[:_AT_A_TIME], default=np.inf)
        retried = tally.retried.total()
        return Attacked(what, len(tally.latencies), wrong, retried, p50, p99, first, await health, usual)


def _patient(send: Send) -> Send:
    """The same, but that 503 is a request to try again."""

    async def sent(case: Case) -> tuple[str, bytes]:
        code, content = await send(case)
        if code == _FULL:
            raise NoAnswerError(content.decode(), refused=True)
        return code, content

    return sent


def _longest_wait(address: str, until: float) -> float:
    """Seconds until /healthz answered over a new connection, at most; infinite if it did not."""
    longest = 0.0
    while time.monotonic() < until:
        started = time.monotonic()
        try:
            with contextlib.closing(http.client.HTTPConnection(address, timeout=_PATIENCE)) as connection:
                connection.request("GET", "/healthz")
                connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return np.inf
        longest = max(longest, time.monotonic() - started)
        time.sleep(_HEALTH_PAUSE)
    return longest


@contextlib.contextmanager
def _silent(address: str) -> Iterator[None]:
    """Connections that are opened, and opened again when the server closes them, and say nothing."""
    host, _, port = address.rpartition(":")

    def keep_open(ended: threading.Event) -> None:
        sockets: list[socket.socket] = []
        while not ended.is_set():
            sockets = [connection for connection in sockets if not _is_closed(connection)]
            for _ in range(_SILENT - len(sockets)):
                # Of a server that accepts no more the queue of the system may be full.
                with contextlib.suppress(OSError):
                    sockets.append(socket.create_connection((host, int(port)), timeout=0.1))
            ended.wait(0.1)
        for connection in sockets:
            connection.close()

    with _in_thread(keep_open):
        time.sleep(1)
        yield


def _is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return not connection.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _tiny_lists() -> bytes:
    """A wrong request, as large as it may be."""
    return b'{"instances": [' + b"[]," * ((_BODY_BYTES - 20) // 3) + b"[]]}"


def _many_rows(reference: Reference) -> bytes:
    """A right request, as large as it may be."""
    row = json.dumps(reference.images[0][0].tolist()).encode()
    return b'{"instances": [' + b", ".join([row] * min(_MOST_ROWS, _BODY_BYTES // (len(row) + 2))) + b"]}"


@contextlib.contextmanager
def _repeated(address: str, name: str, body: bytes, allowed: set[int]) -> Iterator[None]:
    """One client that sends a body again and again."""
    came: set[int] = set()

    def send(ended: threading.Event) -> None:
        with contextlib.closing(http.client.HTTPConnection(address, timeout=60)) as connection:
            while not ended.is_set():
                connection.request("POST", f"/v1/models/{name}:predict", body)
                response = connection.getresponse()
                response.read()
                came.add(response.status)

    with _in_thread(send):
        yield
    # Nothing came of an attack that did not take place.
    if not came or came - allowed:
        raise ValueError(f"the server answered {came or 'nothing'} to what may be answered {allowed} alone")


@contextlib.contextmanager
def _in_thread(work: Callable[[threading.Event], None]) -> Iterator[None]:
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(60)
