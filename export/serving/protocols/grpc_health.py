"""gRPC's health service, which Kubernetes asks."""

from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2

from export.serving.errors import Code

SERVICE = "grpc.health.v1.Health"
_LONGEST = 1024
"""Bytes of a question. Whoever watches keeps it in memory."""


def handler(servicer: health.aio.HealthServicer) -> grpc.GenericRpcHandler:
    """Answers Check and Watch. The package's own handler logs a traceback for a question that is no message, and for List."""

    async def check(request: Any, context: grpc.aio.ServicerContext) -> Any:
        await _refuse_none(request, context)
        return await servicer.Check(request, context)

    async def watch(request: Any, context: grpc.aio.ServicerContext) -> None:
        await _refuse_none(request, context)
        await servicer.Watch(request, context)

    how = {"request_deserializer": _parsed, "response_serializer": health_pb2.HealthCheckResponse.SerializeToString}
    methods = {
        "Check": grpc.unary_unary_rpc_method_handler(check, **how),
        "Watch": grpc.unary_stream_rpc_method_handler(watch, **how),
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)


def _parsed(content: bytes) -> Any:
    """The question; None if it is none, which gRPC would log."""
    try:
        return health_pb2.HealthCheckRequest.FromString(content) if len(content) <= _LONGEST else None
    except DecodeError:
        return None


async def _refuse_none(request: Any, context: grpc.aio.ServicerContext) -> None:
    if request is None:
        told = f"this is no HealthCheckRequest of at most {_LONGEST:,} bytes"
        await context.abort(Code.INVALID_ARGUMENT.grpc_status, told)
