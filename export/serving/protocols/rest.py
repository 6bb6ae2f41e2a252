"""The REST side: TensorFlow Serving's URLs and JSON, health, and metrics."""

import asyncio
import gzip
import io
import json
import re
import zlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import unquote

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from export.serving.errors import STOPPING, Code, ServingError, invalid
from export.serving.folders import DEFAULT_SIGNATURE, LARGEST_VERSION
from export.serving.protocols import model_messages, tensors
from export.serving.protocols.site import Connection
from export.serving.service import Service, as_serving_error, size_of
from export.serving.signatures import Arrays, Signature
from export.serving.versions import LoadedVersion

PROTOCOL = "rest"
METRICS_PATHS = ("/monitoring/prometheus/metrics", "/metrics")
WATCHING_PATHS = ("/healthz", "/readyz", *METRICS_PATHS)
"""Are answered by a server that is full, too."""
_RETRY_SECONDS = 1
_PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
    r"(?:(?P<metadata>/metadata)|:(?P<verb>\w+))?",
    re.ASCII | re.IGNORECASE,
)
_FORMS = "GET /v1/models/NAME[/versions/N][/metadata] or POST /v1/models/NAME[/versions/N]:predict"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Target(NamedTuple):
    """What a URL names."""

    name: str
    version: int | None
    verb: str
    is_metadata: bool


def make_app(service: Service) -> web.Application:
    """The application that answers REST requests."""
    api = _Api(service)
    app = web.Application(middlewares=[api.answer])
    app.router.add_route("*", "/v1/{rest:.*}", api.model, expect_handler=_expect)
    for path, handler in {"/healthz": api.alive, "/readyz": api.ready, **dict.fromkeys(METRICS_PATHS, api.metrics)}.items():
        app.router.add_get(path, handler, expect_handler=_expect)
    return app


async def _expect(request: web.Request) -> web.StreamResponse | None:
    """Lets the body come, where a client waits for that word."""
    if (expected := request.headers.get("Expect", "")).lower() != "100-continue":
        return _error(ServingError(Code.UNKNOWN_EXPECTATION, f"Expect: {expected} is not known: send 100-continue, or none"))
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # Of the answer nothing is written yet.
    return None


class _Api:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._timeout, self._max_body_bytes = service.settings.request_timeout, service.settings.max_body_bytes

    @web.middleware
    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turns errors into answers, writes the answer, and counts: the request is done only when that is written."""
        if self._service.closed:
            return await self._write(request, _error(ServingError(Code.UNAVAILABLE, STOPPING)))
        counted = request.path.startswith("/v1/")
        started = self._service.metrics.started(PROTOCOL) if counted else 0.0
        code = "cancelled"
        try:
            response = await self._response(request, handler)
            await self._write(request, response)
            code = str(response.status)
            return response
        finally:
            if counted:
                self._service.metrics.finished(PROTOCOL, code, started)

    async def _write(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        if self._service.stopping or _is_reserve(request):
            # A connection that is kept would have to be closed under a client that may just be sending.
            response.force_close()
        try:
            async with asyncio.timeout(self._timeout):
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the client does not read its answer") from None
        return response

    async def _response(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if _is_reserve(request) and request.path not in WATCHING_PATHS:
                raise ServingError(Code.UNAVAILABLE, "too many connections are open: try again later")
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
        return web.Response(text="alive\n")

    async def ready(self, request: web.Request) -> web.Response:
        if self._service.ready:
            return web.Response(text="ready\n")
        return web.Response(text="stopping\n" if self._service.stopping else "no version is loaded\n", status=503)

    async def metrics(self, request: web.Request) -> web.Response:
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
        return web.json_response(model_messages.to_json(model_messages.status_message(versions, target.name, target.version)))

    async def _predict(self, request: web.Request, target: Target) -> web.Response:
        version = self._service.versions.get(target.name, target.version)
        if target.verb != "predict":
            raise invalid(f":{target.verb} is not served here: use :predict")
        encoding = request.headers.get("Content-Encoding", "identity").lower()
        if encoding not in ("identity", "gzip"):
            raise ServingError(Code.UNKNOWN_ENCODING, f"Content-Encoding {encoding} is not known: send gzip, or none")
        with self._service.holding() as hold:
            body = await self._body(request, hold)
            if encoding == "gzip":
                hold(self._max_body_bytes)  # How large it becomes is known only afterward.
            async with self._service.in_time():
                return await self._answer(version, body, is_zipped=encoding == "gzip")

    async def _answer(self, version: LoadedVersion, body: bytearray, *, is_zipped: bool) -> web.Response:
        def read() -> tuple[Signature, Arrays, bool]:
            content = tensors.parse_body(self._unzipped(body) if is_zipped else body)
            signature = version.signature(tensors.signature_name(content, DEFAULT_SIGNATURE))
            return signature, *tensors.request_arrays(content, signature)

        def write() -> str:
            return json.dumps(tensors.response_content(outputs, in_rows=in_rows))

        # A short body may be zipped and long.
        size = self._max_body_bytes if is_zipped else len(body)
        signature, inputs, in_rows = await self._service.convert(size, read)
        outputs = await self._service.predict(version, signature, inputs)
        text = await self._service.convert(size_of(outputs.values()), write)
        return web.Response(text=text, content_type="application/json")

    def _unzipped(self, body: bytearray) -> bytes:
        try:
            content = gzip.GzipFile(fileobj=io.BytesIO(body)).read(self._max_body_bytes + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise invalid(f"the body is not gzip: {error}") from None
        if len(content) > self._max_body_bytes:
            raise self._too_large()
        return content

    def _too_large(self) -> ServingError:
        return ServingError(Code.TOO_LARGE, f"the body is larger than {self._max_body_bytes:,} bytes: send fewer at a time")

    async def _body(self, request: web.Request, hold: Callable[[int], None]) -> bytearray:
        if (request.content_length or 0) > self._max_body_bytes:
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self._timeout):
                async for chunk in request.content.iter_any():
                    hold(len(chunk))
                    body += chunk
                    if len(body) > self._max_body_bytes:
                        raise self._too_large()
                return body
        except TimeoutError:
            raise ServingError(Code.BODY_TOO_LATE, f"the body did not come within {self._timeout:g} seconds") from None
        except web.RequestPayloadError as error:
            raise invalid(f"the body cannot be read: {error}") from None


def _is_reserve(request: web.Request) -> bool:
    return isinstance(request.protocol, Connection) and request.protocol.is_reserve


def _target(path: str) -> Target:
    match = _PATH.fullmatch(path)
    if match is None:
        raise ServingError(Code.NOT_FOUND, f"there is nothing at {unquote(path)}: ask {_FORMS}")
    if match["label"]:
        raise ServingError(Code.NOT_FOUND, f"there are no version labels here ({unquote(match['label'])}): use /versions/N")
    version = int(match["version"][:20]) if match["version"] else None
    if version is not None and version > LARGEST_VERSION:
        raise ServingError(Code.NOT_FOUND, f"there is no version {match['version']}")
    return Target(unquote(match["name"]), version, (match["verb"] or "").lower(), bool(match["metadata"]))


def _error(error: ServingError, allowed: str | None = None) -> web.Response:
    headers = {"Allow": allowed} if allowed else {}
    if error.code is Code.UNAVAILABLE:
        headers["Retry-After"] = str(_RETRY_SECONDS)
    return web.json_response({"error": str(error)}, status=error.code.http_status, headers=headers)
