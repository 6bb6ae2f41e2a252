"""The REST side: TensorFlow Serving's URLs and JSON, health, and metrics."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import unquote

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import CONTENT_TYPE_LATEST

from export.serving import model_messages, tensors
from export.serving.errors import Code, ServingError, invalid
from export.serving.service import Service, as_serving_error

PROTOCOL = "rest"
DEFAULT_SIGNATURE = "serving_default"
METRICS_PATHS = ("/monitoring/prometheus/metrics", "/metrics")
_RETRY_SECONDS = 1
_PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
    r"(?:(?P<metadata>/metadata)|:(?P<verb>\w+))?",
    re.ASCII | re.IGNORECASE,
)
_FORMS = "GET /v1/models/NAME[/versions/N][/metadata] or POST /v1/models/NAME[/versions/N]:predict"
_LARGEST_VERSION = 2**63 - 1

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Target(NamedTuple):
    """What a URL names."""

    name: str
    version: int | None
    verb: str
    is_metadata: bool


def make_app(service: Service, *, max_body_bytes: int) -> web.Application:
    """The application that answers REST requests."""
    api = _Api(service, max_body_bytes)
    app = web.Application(client_max_size=max_body_bytes, middlewares=[api.answer])
    app.router.add_route("*", "/v1/{rest:.*}", api.model)
    app.router.add_get("/healthz", api.alive)
    app.router.add_get("/readyz", api.ready)
    for path in METRICS_PATHS:
        app.router.add_get(path, api.metrics)
    return app


class _Api:
    def __init__(self, service: Service, max_body_bytes: int) -> None:
        self._service = service
        self._max_body_bytes = max_body_bytes

    @web.middleware
    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turns errors into answers, writes the answer, and counts: the request is done only when that is written."""
        counted = request.path.startswith("/v1/")
        started = self._service.metrics.started(PROTOCOL) if counted else 0.0
        code = "cancelled"
        try:
            response = await self._response(request, handler)
            code = str(response.status)
            if self._service.stopping:
                # A connection that is kept would have to be closed under a client that may just be sending.
                response.force_close()
            await response.prepare(request)
            await response.write_eof()
            return response
        finally:
            if counted:
                self._service.metrics.finished(PROTOCOL, code, started)

    async def _response(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPMethodNotAllowed as error:
            return _error(
                ServingError(Code.METHOD_NOT_ALLOWED, f"{request.method} is not allowed here"), error.headers["Allow"]
            )
        except web.HTTPNotFound:
            return _error(ServingError(Code.NOT_FOUND, f"there is nothing at {request.path}: ask {_FORMS}"))
        except web.HTTPException as error:
            return web.json_response({"error": error.reason}, status=error.status)
        except ConnectionError:
            raise  # The client has left; nobody is there to be told.
        except Exception as error:
            return _error(as_serving_error(error))

    async def alive(self, request: web.Request) -> web.Response:
        """Whether the process lives."""
        return web.Response(text="alive\n")

    async def ready(self, request: web.Request) -> web.Response:
        """Whether requests should be sent here."""
        if self._service.ready:
            return web.Response(text="ready\n")
        return web.Response(text="stopping\n" if self._service.stopping else "no version is loaded\n", status=503)

    async def metrics(self, request: web.Request) -> web.Response:
        """The metrics, for Prometheus."""
        return web.Response(body=self._service.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def model(self, request: web.Request) -> web.Response:
        """Whatever stands under /v1/."""
        target = _target(request.rel_url.raw_path)
        versions = self._service.versions
        allowed = "POST" if target.verb else "GET"
        if request.method != allowed:
            raise web.HTTPMethodNotAllowed(request.method, [allowed])
        if target.verb:
            return await self._predict(request, target)
        if target.is_metadata:
            fields = [model_messages.SIGNATURE_FIELD]
            message = model_messages.metadata_message(versions, target.name, target.version, fields)
            return web.json_response(model_messages.metadata_json(message))
        return web.json_response(
            model_messages.status_json(model_messages.status_message(versions, target.name, target.version))
        )

    async def _predict(self, request: web.Request, target: Target) -> web.Response:
        version = self._service.versions.get(target.name, target.version)
        if target.verb != "predict":
            raise invalid(f":{target.verb} is not served here: use :predict")
        content = tensors.parse_body(await self._body(request))
        signature = version.signature(tensors.signature_name(content, DEFAULT_SIGNATURE))
        inputs, in_rows = tensors.request_arrays(content, signature)
        outputs = await self._service.predict(version, signature, inputs)
        return web.json_response(tensors.response_content(outputs, in_rows=in_rows))

    async def _body(self, request: web.Request) -> bytes:
        too_large = ServingError(Code.TOO_LARGE, f"the body is larger than {self._max_body_bytes:,} bytes (--max_body_bytes)")
        if (request.content_length or 0) > self._max_body_bytes:
            raise too_large
        try:
            async with asyncio.timeout(self._service.request_timeout):
                return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise too_large from None
        except TimeoutError:
            raise ServingError(
                Code.BODY_TOO_LATE, f"the body did not come within {self._service.request_timeout:g} seconds"
            ) from None
        except web.RequestPayloadError as error:
            raise invalid(f"the body cannot be read: {error}") from None


def _target(path: str) -> Target:
    match = _PATH.fullmatch(path)
    if match is None:
        raise ServingError(Code.NOT_FOUND, f"there is nothing at {unquote(path)}: ask {_FORMS}")
    if match["label"]:
        raise ServingError(Code.NOT_FOUND, f"there are no version labels here ({unquote(match['label'])}): use /versions/N")
    version = int(match["version"][:20]) if match["version"] else None
    if version is not None and version > _LARGEST_VERSION:
        raise ServingError(Code.NOT_FOUND, f"there is no version {match['version']}")
    return Target(unquote(match["name"]), version, (match["verb"] or "").lower(), bool(match["metadata"]))


def _error(error: ServingError, allowed: str | None = None) -> web.Response:
    headers = {"Allow": allowed} if allowed else {}
    if error.code is Code.UNAVAILABLE:
        headers["Retry-After"] = str(_RETRY_SECONDS)
    return web.json_response({"error": str(error)}, status=error.code.http_status, headers=headers)


def quiet_logger() -> logging.Logger:
    """The logger of aiohttp, without what clients do wrong: it would write a traceback for each malformed request."""

    def is_own_fault(record: logging.LogRecord) -> bool:
        error: Any = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError | ConnectionError)

    logger = logging.getLogger("export.serve.http")
    if not logger.filters:
        logger.addFilter(is_own_fault)
    return logger
