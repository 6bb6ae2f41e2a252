"""The life of the server: it listens, answers, watches for new versions, and stops without dropping what was read."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import grpc
from aiohttp import web
from grpc_health.v1 import health, health_pb2

from export.serving.addresses import Listener, authority
from export.serving.protocols import grpc_health, grpc_service, rest
from export.serving.protocols.site import IDLE_SECONDS, Site
from export.serving.server_metrics import Metrics
from export.serving.server_settings import Settings
from export.serving.service import Service
from export.serving.versions import ModelVersions

_LOG = logging.getLogger("export.serve")
_HANDOVER_SECONDS = 0.5
"""How long kept connections may bring one more request after the stop: the answer tells them to close."""
_POLL_SECONDS = 0.01
_LEAST_SECONDS = 0.1


class Server:
    """A server of one model.

    Attributes:
        versions: of the model.
        metrics: what was counted.
        rest_port, grpc_port: where it listens, once started.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.versions = ModelVersions(settings.name, settings.folder)
        self.metrics = Metrics()
        self.rest_port = self.grpc_port = 0
        self._stop_signals = 0
        self._stop_asked = asyncio.Event()

    def ask_to_stop(self) -> None:
        """Makes `run` stop gracefully; asked twice, at once."""
        self._stop_signals += 1
        self._stop_asked.set()

    async def run(self, listener: Listener, on_start: Callable[["Server"], None]) -> int:
        """Serves the versions, of which one is loaded, until it is asked to stop; `on_start` is told when it answers.

        Returns:
            How many requests that were read could not be answered in time.

        Raises:
            ValueError: if a port is taken.
        """
        service = Service(self.settings, self.versions, self.metrics)
        rest_service = rest.RestService(service)
        http_server = web.Server(rest_service.answer, handler_cancellation=True)
        runner = web.ServerRunner(http_server, shutdown_timeout=_LEAST_SECONDS)
        await runner.setup()
        health_service = health.aio.HealthServicer()
        grpc_server = await self._start_grpc(service, health_service, listener)
        site = Site(http_server, listener.rest_socket, self.settings)
        site.open()
        self.rest_port = listener.rest_socket.getsockname()[1]
        watch = asyncio.create_task(self.versions.watch(self.settings.poll_seconds))
        try:
            on_start(self)
            await self._stop_asked.wait()
            return await self._stop(service, site, grpc_server, health_service)
        finally:
            await runner.cleanup()
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            rest_service.close()
            service.close()

    async def _start_grpc(self, service: Service, health_service: Any, listener: Listener) -> grpc.aio.Server:
        settings = self.settings
        # Without the last option a second server on the same port would silently get half of the requests.
        options = [
            ("grpc.max_receive_message_length", settings.max_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_allowed_incoming_connections", settings.max_grpc_connections),
            ("grpc.server_handshake_timeout_ms", int(1000 * settings.head_seconds)),
            ("grpc.max_connection_idle_ms", int(1000 * IDLE_SECONDS)),
            ("grpc.so_reuseport", 0),
        ]
        # Each connection may watch the health beside the requests that wait.
        most = settings.max_queued + settings.max_grpc_connections
        server = grpc.aio.server(options=options, maximum_concurrent_rpcs=most)
        handlers = [*grpc_service.GrpcService(service).handlers(), grpc_health.handler(health_service)]
        server.add_generic_rpc_handlers(tuple(handlers))
        for name in ("", grpc_service.PREDICTION_SERVICE, grpc_service.MODEL_SERVICE):
            await health_service.set(name, health_pb2.HealthCheckResponse.SERVING)
        try:
            self.grpc_port = server.add_insecure_port(authority(listener.host, listener.grpc_port))
        except RuntimeError as error:
            raise ValueError(f"port {listener.grpc_port} is taken: choose another by --grpc_port") from error
        await server.start()
        return server

    async def _stop(self, service: Service, site: Site, grpc_server: grpc.aio.Server, health_service: Any) -> int:
        """Stops listening, answers what was read, and closes the connections; see `run`.

        Both libraries have stops of their own, which drop what they are just reading: aiohttp a body of which half has come,
        gRPC a request that it has not handed over yet. So these come last, when nothing is read any more.
        """
        end = time.monotonic() + self.settings.stop_seconds
        service.stopping = True
        _LOG.info("stopping: answering what was read (%d requests), then no more", self.metrics.under_way)
        await health_service.enter_graceful_shutdown()
        await site.close_the_door()
        await self._wait(min(end, time.monotonic() + _HANDOVER_SECONDS), until_answered=False)
        service.closed = True
        await self._wait(end, until_answered=True)
        # The last to come are told that the server is closed.
        await self._wait(min(end, time.monotonic() + _LEAST_SECONDS), until_answered=False)
        dropped = self.metrics.under_way
        await grpc_server.stop(_LEAST_SECONDS)
        answered = self.metrics.answered
        _LOG.info(
            "stopped: %d REST and %d gRPC requests answered, %d dropped",
            answered[rest.PROTOCOL],
            answered[grpc_service.PROTOCOL],
            dropped,
        )
        return dropped

    async def _wait(self, end: float, *, until_answered: bool) -> None:
        """Waits until all is answered, if that is asked for, at most until `end` or the second signal."""
        while time.monotonic() < end and self._stop_signals < 2:
            if until_answered and not self.metrics.under_way:
                return
            await asyncio.sleep(_POLL_SECONDS)
