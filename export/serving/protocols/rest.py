"""The REST side: TensorFlow Serving's URLs and JSON, health, and metrics."""

import asyncio
import functools
import re
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import unquote
from weakref import WeakKeyDictionary

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from export.serving.errors import STOPPING, Code, ServingError, invalid
from export.serving.folders import LARGEST_VERSION
from export.serving.protocols import json_messages, model_messages, tensors
from export.serving.protocols.json_process import JsonProcess
from export.serving.protocols.site import Connection
from export.serving.protocols.tensors import JsonSignature
from export.serving.service import SMALL_BYTES, Service, as_serving_error, size_of
from export.serving.versions import LoadedVersion

PROTOCOL = "rest"
METRICS_PATHS = ("/monitoring/prometheus/metrics", "/metrics")
_RETRY_SECONDS = 1
_KNOWN_PATHS = 64
"""Paths whose meaning is kept; all requests for a model have the same."""
_PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
    r"(?:(?P<metadata>/metadata)|:(?P<verb>\w+))?",
    re.ASCII | re.IGNORECASE,
)
_FORMS = "GET /v1/models/NAME[/versions/N][/metadata] or POST /v1/models/NAME[/versions/N]:predict"


class Target(NamedTuple):
    """What a URL names."""

    name: str
    version: int | None
    verb: str
    is_metadata: bool


class _NotAllowedError(ServingError):
    """A URL is asked by another method than those that it takes."""

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(Code.METHOD_NOT_ALLOWED, f"{method} is not allowed here")
        self.allowed = allowed


class RestService:
    """Answers REST requests. It is called without aiohttp's routes and middlewares, which cost more than all that is here."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._timeout = service.settings.request_timeout
        self._bounds = json_messages.Bounds(service.settings.max_rows, service.settings.max_body_bytes)
        self._process = JsonProcess()
        self._signatures: WeakKeyDictionary[LoadedVersion, dict[str, JsonSignature]] = WeakKeyDictionary()
        watching = {"/healthz": self._alive, "/readyz": self._ready, **dict.fromkeys(METRICS_PATHS, self._metrics)}
        self._watching: dict[str, Callable[[], web.Response]] = watching

    def close(self) -> None:
        """Ends the process that reads large bodies."""
        self._process.close()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Turns errors into answers, writes the answer, and counts: the request is done only when that is written."""
        if self._service.closed:
            return await self._write(request, _error(ServingError(Code.UNAVAILABLE, STOPPING)))
        counted = request.path.startswith("/v1/")
        started = self._service.metrics.started(PROTOCOL) if counted else 0.0
        code = "cancelled"
        try:
            response = await self._response(request)
            await self._write(request, response)
            code = str(response.status)
            return response
        finally:
            if counted:
                self._service.metrics.finished(PROTOCOL, code, started)

    async def _write(self, request: web.BaseRequest, response: web.StreamResponse) -> web.StreamResponse:
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

    async def _response(self, request: web.BaseRequest) -> web.Response:
        try:
            return await self._dispatched(request)
        except _NotAllowedError as error:
            return _error(error, error.allowed)
        except ConnectionError:
            raise  # The client has left; nobody is there to be told.
        except Exception as error:
            return _error(as_serving_error(error))

    async def _dispatched(self, request: web.BaseRequest) -> web.Response:
        watching = self._watching.get(request.path)
        if watching is None and _is_reserve(request):
            raise ServingError(Code.UNAVAILABLE, "too many connections are open: try again later")
        if expected := request.headers.get("Expect"):
            await _let_body_come(request, expected)
        if watching is not None:
            if request.method not in ("GET", "HEAD"):
                raise _NotAllowedError(request.method, "GET,HEAD")
            return watching()
        if not request.path.startswith("/v1/"):
            raise ServingError(Code.NOT_FOUND, f"there is nothing at {request.path}: ask {_FORMS}")
        return await self._model(request)

    def _alive(self) -> web.Response:
        return web.Response(text="alive\n")

    def _ready(self) -> web.Response:
        if self._service.ready:
            return web.Response(text="ready\n")
        return web.Response(text="stopping\n" if self._service.stopping else "no version is loaded\n", status=503)

    def _metrics(self) -> web.Response:
        return web.Response(body=self._service.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _model(self, request: web.BaseRequest) -> web.Response:
        """Whatever stands under /v1/."""
        target = _target(request.rel_url.raw_path)
        versions = self._service.versions
        allowed = "POST" if target.verb else "GET"
        if request.method != allowed:
            raise _NotAllowedError(request.method, allowed)
        if target.verb:
            return await self._predict(request, target)
        if target.is_metadata:
            fields = [model_messages.SIGNATURE_FIELD]
            message = model_messages.metadata_message(versions, target.name, target.version, fields)
            return web.json_response(model_messages.metadata_json(message))
        return web.json_response(model_messages.to_json(model_messages.status_message(versions, target.name, target.version)))

    async def _predict(self, request: web.BaseRequest, target: Target) -> web.Response:
        version = self._service.versions.get(target.name, target.version)
        if target.verb != "predict":
            raise invalid(f":{target.verb} is not served here: use :predict")
        encoding = request.headers.get("Content-Encoding", "identity").lower()
        if encoding not in ("identity", "gzip"):
            raise ServingError(Code.UNKNOWN_ENCODING, f"Content-Encoding {encoding} is not known: send gzip, or none")
        is_zipped = encoding == "gzip"
        with self._service.holding() as hold:
            body = await self._body(request, hold)
            if is_zipped:
                hold(self._bounds.bytes)  # How large it becomes is known only afterward.
            async with self._service.in_time():
                content = await self._answer(version, body, is_zipped=is_zipped)
        return web.Response(body=content, headers={"Content-Type": "application/json; charset=utf-8"})

    async def _answer(self, version: LoadedVersion, body: bytearray, *, is_zipped: bool) -> bytes:
        signatures = self._signatures.get(version)
        if signatures is None:
            signatures = {name: tensors.json_signature(signature) for name, signature in version.signatures.items()}
            self._signatures[version] = signatures
        # A short body may be zipped and long.
        run = self._runner(self._bounds.bytes if is_zipped else len(body))
        inputs = await run(json_messages.read, body, signatures, self._bounds, is_zipped=is_zipped)
        signature = version.signature(inputs.signature)
        signature.check(inputs.arrays)
        outputs = await self._service.predict(version, signature, inputs.arrays)
        return await self._runner(size_of(outputs.values()))(json_messages.write, outputs, in_rows=inputs.in_rows)

    def _runner(self, size: int) -> Callable[..., Awaitable[Any]]:
        """What calls a function on a message of about `size` bytes so that it holds up others as little as can be."""
        return _call if size <= SMALL_BYTES else self._process.call

    async def _body(self, request: web.BaseRequest, hold: Callable[[int], None]) -> bytearray:
        if (request.content_length or 0) > self._bounds.bytes:
            raise json_messages.too_large(self._bounds.bytes)
        body = bytearray()

        def add(chunk: bytes) -> None:
            hold(len(chunk))
            body.extend(chunk)
            if len(body) > self._bounds.bytes:
                raise json_messages.too_large(self._bounds.bytes)

        try:
            if request.content.is_eof():  # All of it has come with the head.
                add(request.content.read_nowait())
                return body
            async with asyncio.timeout(self._timeout):
                async for chunk in request.content.iter_any():
                    add(chunk)
            return body
        except TimeoutError:
            raise ServingError(Code.BODY_TOO_LATE, f"the body did not come within {self._timeout:g} seconds") from None
        except web.RequestPayloadError as error:
            raise invalid(f"the body cannot be read: {error}") from None


async def _call(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    return function(*arguments, **named)


async def _let_body_come(request: web.BaseRequest, expected: str) -> None:
    """Answers 100 Continue to a client that waits for it; raises ServingError if it expects anything else."""
    if expected.lower() != "100-continue":
        raise ServingError(Code.UNKNOWN_EXPECTATION, f"Expect: {expected} is not known: send 100-continue, or none")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # Of the answer nothing is written yet.


def _is_reserve(request: web.BaseRequest) -> bool:
    return isinstance(request.protocol, Connection) and request.protocol.is_reserve


@functools.lru_cache(maxsize=_KNOWN_PATHS)
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
