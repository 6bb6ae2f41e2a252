"""The door of the REST side."""

import asyncio
import contextlib
import socket

from aiohttp import web


class Site:
    """REST's listening socket and the connections that come in by it."""

    def __init__(self, runner: web.AppRunner, listening: socket.socket) -> None:
        self._runner = runner
        self._listening = listening
        self._site = web.SockSite(runner, listening)

    async def open(self) -> None:
        """Begins to answer."""
        await self._site.start()

    async def close_the_door(self) -> None:
        """Takes over the connections that the system has accepted already, and accepts no more; else they would be reset."""
        loop, server = asyncio.get_running_loop(), self._runner.server
        waiting = []
        # Nothing may be awaited before the socket is closed: more would come meanwhile.
        with contextlib.suppress(OSError):
            while True:
                waiting.append(self._listening.accept()[0])
        await self._site.stop()
        for connection in waiting:
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(server, connection)  # type: ignore[arg-type]
