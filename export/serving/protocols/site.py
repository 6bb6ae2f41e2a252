"""REST's listening socket, and the connections that come in by it: how many, and how long they may say nothing."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from export.serving.server_settings import Settings
from r2d2_tf.system.messages import one_line

IDLE_SECONDS = 75.0
"""How long a connection is kept without a request."""
_PAUSE_SECONDS = 1.0
"""Until connections are accepted again after the system had no more descriptors."""
_ACCEPTED_AT_ONCE = 100
_LOG = logging.getLogger("export.serve")


def _is_own_fault(record: logging.LogRecord) -> bool:
    """Whether what aiohttp logs is none of what clients do wrong: it would write a traceback for each malformed request."""
    error: Any = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError | ConnectionError)


_HTTP_LOG = logging.getLogger("export.serve.http")
_HTTP_LOG.addFilter(_is_own_fault)


class Connection(web.RequestHandler):
    """One connection. aiohttp bounds neither the time of a head nor the number of connections, and writes errors as text."""

    __slots__ = ("_head_seconds", "_head_timer", "_on_end")

    def __init__(self, server: web.Server, on_end: Callable[[], None], head_seconds: float) -> None:
        # Bodies are unzipped in a thread, within bounds.
        options = {"access_log": None, "logger": _HTTP_LOG, "keepalive_timeout": IDLE_SECONDS, "auto_decompress": False}
        super().__init__(server, loop=asyncio.get_running_loop(), **options)  # type: ignore[arg-type]
        self._on_end = on_end
        self._head_seconds = head_seconds
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Waits for the first head."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Stops waiting once a head is whole, and begins when one has begun."""
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._stop_waiting()
        elif self._head_timer is None and self._current_request is None:
            self._wait_for_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Makes room for another one."""
        self._stop_waiting()
        super().connection_lost(exc)
        self._on_end()

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
    """REST's door, with at most `settings.max_connections` inside: others wait before it."""

    def __init__(self, server: web.Server, listening: socket.socket, settings: Settings) -> None:
        self._server, self._listening, self._settings = server, listening, settings
        self._loop = asyncio.get_running_loop()
        self._connections = 0
        self._is_open = self._out_of_descriptors = False
        self._entering: set[asyncio.Task[Any]] = set()

    def open(self) -> None:
        self._listening.setblocking(False)
        self._is_open = True
        self._loop.add_reader(self._listening, self._accept)

    async def close_the_door(self) -> None:
        """Takes over the connections that the system has accepted already, and accepts no more; else they would be reset."""
        self._is_open = False
        self._loop.remove_reader(self._listening)
        # Nothing may be awaited before the socket is closed: more would come meanwhile.
        with contextlib.suppress(OSError):
            while True:
                self._enter(self._listening.accept()[0])
        self._listening.close()
        await asyncio.gather(*self._entering, return_exceptions=True)

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            if self._connections >= self._settings.max_connections:
                self._loop.remove_reader(self._listening)
                return
            try:
                connection = self._listening.accept()[0]
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            self._out_of_descriptors = False
            self._enter(connection)

    def _pause(self, error: OSError) -> None:
        """The event loop's own way is a traceback for each connection that waits, each second."""
        if not self._out_of_descriptors:
            _LOG.warning("cannot accept connections: %s; trying again each second (ulimit -n)", error.strerror)
        self._out_of_descriptors = True
        self._loop.remove_reader(self._listening)
        self._loop.call_later(_PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        if self._is_open:
            self._loop.add_reader(self._listening, self._accept)

    def _enter(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connections += 1
        protocol = Connection(self._server, self._left, self._settings.head_seconds)
        task = self._loop.create_task(self._loop.connect_accepted_socket(lambda: protocol, connection))
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)

    def _left(self) -> None:
        self._connections -= 1
        if self._connections < self._settings.max_connections and not self._out_of_descriptors:
            self._resume()
