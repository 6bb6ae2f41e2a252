"""REST's listening socket, and the connections that come in by it: how many, from where, and how long they say nothing."""

import asyncio
import contextlib
import functools
import ipaddress
import logging
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from export.serving.server_settings import Settings
from r2d2_tf.system.messages import one_line

IDLE_SECONDS = 75.0
"""How long a connection is kept without a request."""
_MOST_RESERVE, _LEAST_RESERVE = 64, 8
"""Connections beside those that the settings allow, a quarter as many, for whoever asks for the server's health."""
_RESERVE_SECONDS = 2.0
"""How long a head may take in the reserve, and the body of what is refused."""
_LEAST_RESERVE_SECONDS = 0.03
"""How long each has the reserve to itself: a flood of others must not push out who is just about to ask."""
SILENT_SECONDS = 1.0
"""Who has said nothing for as long makes room for others; a request may be on its way to who has just come or been answered."""
_PAUSE_SECONDS = 1.0
"""Until connections are accepted again after the system had no more descriptors."""
_ACCEPTED_AT_ONCE = 32
"""Who is closed to make room keeps its descriptor as long as they come."""
_NETWORK_BITS = 64
"""Of an address of IPv6: whoever has one has all of its network."""
_LOG = logging.getLogger("export.serve")


def _is_own_fault(record: logging.LogRecord) -> bool:
    """Whether what aiohttp logs is none of what clients do wrong: it would write a traceback for each malformed request."""
    error: Any = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError | ConnectionError)


_HTTP_LOG = logging.getLogger("export.serve.http")
_HTTP_LOG.addFilter(_is_own_fault)


class Connection(web.RequestHandler):
    """One connection. aiohttp bounds neither the time of a head nor the number of connections, and writes errors as text.

    Attributes:
        origin: the address that it comes from.
        came: when, in the loop's time.
        is_reserve: whether it may ask for the server's health alone.
    """

    __slots__ = ("_head_seconds", "_head_timer", "_on_change", "came", "is_reserve", "origin")

    def __init__(
        self,
        server: web.Server,
        on_change: Callable[["Connection"], None],
        *,
        head_seconds: float,
        origin: str,
        is_reserve: bool = False,
    ) -> None:
        # Bodies are unzipped by json_messages, within bounds.
        options = {"access_log": None, "logger": _HTTP_LOG, "keepalive_timeout": IDLE_SECONDS, "auto_decompress": False}
        options |= {"lingering_time": _RESERVE_SECONDS} if is_reserve else {}
        super().__init__(server, loop=asyncio.get_running_loop(), **options)  # type: ignore[arg-type]
        self._on_change = on_change
        self._head_seconds = head_seconds
        self._head_timer: asyncio.TimerHandle | None = None
        self.origin, self.came, self.is_reserve = origin, self._loop.time(), is_reserve

    @property
    def is_over(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._force_close or self._manager is None

    @property
    def is_silent(self) -> bool:
        """Whether no request is there, nor likely to be on its way: nothing is lost but time if it is closed."""
        is_waiting = self._waiter is not None and not self._waiter.done()
        since = self._next_keepalive_close_time - self._keepalive_timeout
        return is_waiting and self._loop.time() - since > SILENT_SECONDS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Waits for the first head."""
        super().connection_made(transport)
        if self._force_close:  # Its place was taken before it was there.
            self.force_close()
        else:
            self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Stops waiting once a head is whole, and begins when one has begun."""
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._stop_waiting()
            self._on_change(self)
        elif self._head_timer is None and self._current_request is None:
            self._wait_for_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Makes room for another one."""
        self._stop_waiting()
        super().connection_lost(exc)
        self._on_change(self)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to what is no HTTP, as JSON."""
        response = super().handle_error(request, status, exc, message)
        told = f"this is no HTTP request: {one_line(message)}" if status < 500 else "internal error"
        answer = web.json_response({"error": told}, status=response.status)
        answer.force_close()
        return answer

    def _wait_for_head(self) -> None:
        self._head_timer = self._loop.call_later(self._head_seconds, self.force_close)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class Site:
    """REST's door, with at most `settings.max_connections` inside, of which one address has a part.

    Who comes when it is full takes the place of the connection that has said nothing for longest. If all others have
    requests, there is the reserve, in which only the server's health is told: else whoever watches the server would have to
    wait for whoever fills it.
    """

    def __init__(self, server: web.Server, listening: socket.socket, settings: Settings) -> None:
        self._server, self._listening, self._settings = server, listening, settings
        self._loop = asyncio.get_running_loop()
        # In the order of their last request, so that the one that is silent for longest comes first.
        self._inside: dict[Connection, None] = {}
        self._reserve: dict[Connection, None] = {}
        self._most_reserve = min(_MOST_RESERVE, max(_LEAST_RESERVE, settings.max_connections // 4))
        self._origins: Counter[str] = Counter()
        self._out_of_descriptors = False
        self._entering: set[asyncio.Task[Any]] = set()

    def open(self) -> None:
        self._listening.setblocking(False)
        self._resume()

    async def close_the_door(self) -> None:
        """Takes over the connections that the system has accepted already, and accepts no more; else they would be reset."""
        self._loop.remove_reader(self._listening)
        # Nothing may be awaited before the socket is closed: more would come meanwhile.
        with contextlib.suppress(OSError):
            while True:
                self._enter(*self._listening.accept())
        self._listening.close()
        await asyncio.gather(*self._entering, return_exceptions=True)

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            if self._is_crowded():
                self._stop_for(_LEAST_RESERVE_SECONDS)
                return
            try:
                connection, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            self._out_of_descriptors = False
            self._enter(connection, address)

    def _pause(self, error: OSError) -> None:
        """The event loop's own way is a traceback for each connection that waits, each second."""
        if not self._out_of_descriptors:
            _LOG.warning("cannot accept connections: %s; trying again each second (ulimit -n)", error.strerror)
        self._out_of_descriptors = True
        self._stop_for(_PAUSE_SECONDS)

    def _stop_for(self, seconds: float) -> None:
        """Lets whoever comes wait before the door."""
        self._loop.remove_reader(self._listening)
        self._loop.call_later(seconds, self._resume)

    def _is_crowded(self) -> bool:
        """Whether the reserve is full, and those in it have only just come."""
        if len(self._reserve) < self._most_reserve:
            return False
        return self._loop.time() - next(iter(self._reserve)).came < _LEAST_RESERVE_SECONDS

    def _resume(self) -> None:
        if self._listening.fileno() >= 0:
            self._loop.add_reader(self._listening, self._accept)

    def _enter(self, connection: socket.socket, address: Any) -> None:
        connection.setblocking(False)
        origin = origin_of(address)
        is_reserve = not self._make_room(origin)
        head_seconds = min(self._settings.head_seconds, _RESERVE_SECONDS) if is_reserve else self._settings.head_seconds
        protocol = Connection(self._server, self._changed, head_seconds=head_seconds, origin=origin, is_reserve=is_reserve)
        if is_reserve:
            if len(self._reserve) >= self._most_reserve:
                self._close(next(iter(self._reserve)))
            self._reserve[protocol] = None
        else:
            self._inside[protocol] = None
            self._origins[origin] += 1
        task = self._loop.create_task(self._loop.connect_accepted_socket(lambda: protocol, connection))
        self._entering.add(task)
        task.add_done_callback(functools.partial(self._entered, protocol))

    def _entered(self, connection: Connection, task: asyncio.Task[Any]) -> None:
        self._entering.discard(task)
        if task.cancelled() or task.exception() is not None:
            self._forget(connection)

    def _make_room(self, origin: str) -> bool:
        """Makes room for a connection from `origin` if there is none; returns whether there is now."""
        if self._origins[origin] >= self._settings.most_from_one_address:
            return self._close_silent(origin)
        return len(self._inside) < self._settings.max_connections or self._close_silent()

    def _close_silent(self, origin: str | None = None) -> bool:
        """Closes the connection (of `origin`, if that is given) that is silent for longest; whether there was one."""
        silent = (connection for connection in self._inside if origin in (None, connection.origin) and connection.is_silent)
        if (longest := next(silent, None)) is None:
            return False
        self._close(longest)
        return True

    def _close(self, connection: Connection) -> None:
        self._forget(connection)
        connection.force_close()

    def _changed(self, connection: Connection) -> None:
        """A head has come, or the connection is over."""
        if connection.is_over:
            self._forget(connection)
        elif connection in self._inside:
            del self._inside[connection]
            self._inside[connection] = None

    def _forget(self, connection: Connection) -> None:
        self._reserve.pop(connection, None)
        if connection in self._inside:
            del self._inside[connection]
            self._origins[connection.origin] -= 1
            if not self._origins[connection.origin]:
                del self._origins[connection.origin]


def origin_of(address: Any) -> str:
    """Of a socket's address the part that stands for one client: the network of an address of IPv6."""
    try:
        ip = ipaddress.ip_address(str(address[0]).partition("%")[0])
    except (ValueError, IndexError):
        return ""
    if ip.version == 4:
        return str(ip)
    if ip.ipv4_mapped:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, _NETWORK_BITS), strict=False))
