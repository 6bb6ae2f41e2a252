"""The gRPC side: PredictionService and ModelService of TensorFlow Serving."""

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from export.serving.errors import STOPPING, Code, ServingError, invalid
from export.serving.folders import DEFAULT_SIGNATURE
from export.serving.protocols import model_messages, tensor_messages
from export.serving.protocols.message_counts import check_counts
from export.serving.service import Service, as_serving_error, size_of
from export.serving.signatures import Arrays, Signature
from export.serving_protocol import METHODS, MODEL_SERVICE, PREDICTION_SERVICE, PredictResponse

PROTOCOL = "grpc"
NOT_SERVED = {PREDICTION_SERVICE: ("Classify", "Regress", "MultiInference"), MODEL_SERVICE: ("HandleReloadConfigRequest",)}

Shapes = dict[str, tuple[int, ...]]
Hold = Callable[[int], None]
Method = Callable[[bytes, Hold], Awaitable[Message]]


def _is_own_fault(record: logging.LogRecord) -> bool:
    """Whether what gRPC logs is more than that a client has left: it would write a traceback for each that does not wait."""
    return not (record.exc_info and type(record.exc_info[1]).__name__ == "ExecuteBatchError")


logging.getLogger("grpc._cython.cygrpc").addFilter(_is_own_fault)


class GrpcService:
    """The methods, and how they are called."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """One handler a service, for `add_generic_rpc_handlers`."""
        answers = {"Predict": self.predict, "GetModelMetadata": self.metadata, "GetModelStatus": self.status}
        served: dict[str, dict[str, grpc.RpcMethodHandler]] = {
            service: {name: self._handler(_not_served(name)) for name in names} for service, names in NOT_SERVED.items()
        }
        for name, method in METHODS.items():
            served[method.service][name] = self._handler(answers[name])
        return [grpc.method_handlers_generic_handler(service, methods) for service, methods in served.items()]

    def _handler(self, method: Method) -> grpc.RpcMethodHandler:
        """A handler that gets bytes: gRPC would answer what is no message with an internal error, and log a traceback."""

        async def handle(content: bytes, context: grpc.aio.ServicerContext) -> bytes | None:
            if self._service.closed:
                await context.abort(Code.UNAVAILABLE.grpc_status, STOPPING)
            started = self._service.metrics.started(PROTOCOL)
            code = "CANCELLED"
            try:
                with self._service.holding() as hold:
                    hold(len(content))
                    async with self._service.in_time():
                        answer = (await method(content, hold)).SerializeToString()
                code = "OK"
                return answer
            except Exception as error:
                refusal = as_serving_error(error)
                code = refusal.code.grpc_status.name
                await context.abort(refusal.code.grpc_status, str(refusal))
                return None  # Never reached: abort raises.
            finally:
                self._service.metrics.finished(PROTOCOL, code, started)

        return grpc.unary_unary_rpc_method_handler(handle)

    async def predict(self, content: bytes, hold: Hold) -> Message:
        request = _parsed("Predict", content, check=self._check_counts)
        version = self._service.versions.get(request.model_spec.name, _number(request.model_spec))
        signature = version.signature(request.model_spec.signature_name or DEFAULT_SIGNATURE)
        wanted = _wanted(request, signature)
        shapes = self._shapes(request, signature)
        # What a single value stands for comes to the bytes of the message.
        size = max(len(content), sum(_sizes(signature, shapes).values()))
        hold(size - len(content))

        def read() -> Arrays:
            specs = signature.inputs
            return {name: tensor_messages.to_array(name, request.inputs[name], specs[name], shapes[name]) for name in specs}

        inputs = await self._service.convert(size, read)
        outputs = await self._service.predict(version, signature, inputs)

        def answer() -> Message:
            response = PredictResponse()
            response.model_spec.name = request.model_spec.name
            response.model_spec.version.value = version.number
            response.model_spec.signature_name = signature.name
            for name in wanted:
                tensor_messages.write(response.outputs[name], outputs[name], signature.outputs[name].dtype)
            return response

        return await self._service.convert(size_of(outputs.values()), answer)

    async def metadata(self, content: bytes, hold: Hold) -> Message:
        request = _parsed("GetModelMetadata", content)
        # Two are wrong already; thousands would stand in the error.
        spec, fields = request.model_spec, request.metadata_field[:2]
        return model_messages.metadata_message(self._service.versions, spec.name, _number(spec), fields)

    async def status(self, content: bytes, hold: Hold) -> Message:
        spec = _parsed("GetModelStatus", content).model_spec
        return model_messages.status_message(self._service.versions, spec.name, _number(spec))

    def _check_counts(self, content: bytes) -> None:
        current = self._service.versions.current
        signatures = current.signatures.values() if current else ()
        check_counts(content, max((len(signature.inputs) for signature in signatures), default=0))

    def _shapes(self, request: Any, signature: Signature) -> Shapes:
        """The shapes of the inputs, all of which the signature takes; nothing of their values is read."""
        signature.check_names(request.inputs)
        for name, spec in signature.inputs.items():
            tensor_messages.check_type(name, request.inputs[name], spec.dtype)
        shapes = {name: tensor_messages.sides_of(name, request.inputs[name]) for name in signature.inputs}
        signature.check_shapes(shapes)
        self._service.check_rows(signature.rows(shapes))
        # Where the signature leaves sides open, a few bytes would become any amount of memory, and of work.
        for name, size in _sizes(signature, shapes).items():
            if size > (most := self._service.settings.max_body_bytes):
                raise invalid(f"input {name!r} of shape {[*shapes[name]]} is larger than {most:,} bytes")
        return shapes


def _sizes(signature: Signature, shapes: Shapes) -> dict[str, int]:
    """Bytes of the inputs as arrays; of a string those of a pointer."""
    return {name: math.prod(sides) * signature.inputs[name].dtype.size for name, sides in shapes.items()}


def _wanted(request: Any, signature: Signature) -> list[str]:
    """The outputs that a request asks for."""
    # One more than there are: then one is unknown, or comes twice.
    wanted = request.output_filter[: len(signature.outputs) + 1]
    for name in wanted:
        if name not in signature.outputs:
            raise invalid(f"there is no output {name!r}; signature {signature.name!r} has {', '.join(signature.outputs)}")
        if wanted.count(name) > 1:
            raise invalid(f"output_filter names {name!r} twice: once is enough")
    return wanted or list(signature.outputs)


def _parsed(method: str, content: bytes, check: Callable[[bytes], None] = lambda content: None) -> Any:
    request_type = METHODS[method].request
    try:
        check(content)
        return request_type.FromString(content)
    except DecodeError:
        raise invalid(f"the message is no {request_type.DESCRIPTOR.name}") from None


def _number(spec: Any) -> int | None:
    if spec.version_label:
        raise ServingError(Code.NOT_FOUND, f"there are no version labels here ({spec.version_label}): give a version number")
    return spec.version.value if spec.HasField("version") else None


def _not_served(name: str) -> Method:
    async def refuse(content: bytes, hold: Hold) -> Message:
        raise ServingError(Code.UNIMPLEMENTED, f"{name} is not served here: use Predict, GetModelMetadata or GetModelStatus")

    return refuse
