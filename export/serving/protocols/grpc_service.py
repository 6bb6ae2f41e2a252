"""The gRPC side: PredictionService and ModelService of TensorFlow Serving."""

import math
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError, Message

from export.serving.errors import STOPPING, Code, ServingError, invalid
from export.serving.folders import DEFAULT_SIGNATURE
from export.serving.protocols import model_messages
from export.serving.service import Service, as_serving_error, size_of
from export.serving.signatures import Arrays, Signature
from export.serving_protocol import METHODS, MODEL_SERVICE, PREDICTION_SERVICE, VALUE_FIELDS, PredictResponse

PROTOCOL = "grpc"
NOT_SERVED = {PREDICTION_SERVICE: ("Classify", "Regress", "MultiInference"), MODEL_SERVICE: ("HandleReloadConfigRequest",)}

Method = Callable[[Any], Awaitable[Message]]


class GrpcService:
    """The methods, and how they are called."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """One handler a service, for `add_generic_rpc_handlers`."""
        answers = {"Predict": self.predict, "GetModelMetadata": self.metadata, "GetModelStatus": self.status}
        served: dict[str, dict[str, grpc.RpcMethodHandler]] = {
            service: {name: self._handler(None, _not_served(name)) for name in names} for service, names in NOT_SERVED.items()
        }
        for name, (service, request_type, _) in METHODS.items():
            served[service][name] = self._handler(request_type, answers[name])
        return [grpc.method_handlers_generic_handler(service, methods) for service, methods in served.items()]

    def _handler(self, request_type: Any, method: Method) -> grpc.RpcMethodHandler:
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
                        request = _parsed(request_type, content) if request_type else None
                        answer = (await method(request)).SerializeToString()
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

    async def predict(self, request: Any) -> Message:
        version = self._service.versions.get(request.model_spec.name, _number(request.model_spec))
        signature = version.signature(request.model_spec.signature_name or DEFAULT_SIGNATURE)
        wanted = list(request.output_filter) or list(signature.outputs)
        for name in wanted:
            if name not in signature.outputs:
                raise invalid(f"there is no output {name!r}; signature {signature.name!r} has {', '.join(signature.outputs)}")
        inputs = await self._service.convert(request.ByteSize(), lambda: self._inputs(request, signature))
        outputs = await self._service.predict(version, signature, inputs)

        def answer() -> Message:
            response = PredictResponse()
            response.model_spec.name = request.model_spec.name
            response.model_spec.version.value = version.number
            response.model_spec.signature_name = signature.name
            for name in wanted:
                _write(response.outputs[name], outputs[name], signature.outputs[name].dtype)
            return response

        return await self._service.convert(size_of(outputs.values()), answer)

    async def metadata(self, request: Any) -> Message:
        spec = request.model_spec
        return model_messages.metadata_message(self._service.versions, spec.name, _number(spec), list(request.metadata_field))

    async def status(self, request: Any) -> Message:
        return model_messages.status_message(self._service.versions, request.model_spec.name, _number(request.model_spec))

    def _inputs(self, request: Any, signature: Signature) -> Arrays:
        signature.check_names(dict.fromkeys(request.inputs))
        shapes = {name: _shape(name, message) for name, message in request.inputs.items()}
        self._service.check_rows(signature.rows(shapes))
        arrays = {name: self._array(name, request.inputs[name], signature) for name in signature.inputs}
        signature.check(arrays)
        return arrays

    def _array(self, name: str, message: Any, signature: Signature) -> np.ndarray:
        wanted = signature.inputs[name].dtype
        if message.dtype != wanted.as_datatype_enum:
            raise invalid(f"input {name!r} is {_dtype_name(message.dtype)}; it must be {wanted.name}")
        sides = _shape(name, message)
        count = math.prod(sides)
        # A single value may stand for all: a few bytes would become any amount of memory, and of work.
        if count * wanted.size > (most := self._service.settings.max_body_bytes):
            raise invalid(f"input {name!r} of shape {[*sides]} is larger than {most:,} bytes")
        values = sum(len(field) for described, field in message.ListFields() if described.name.endswith("_val"))
        if max(sides[:1], default=0) > 1 and values < count and not message.tensor_content:
            raise invalid(f"input {name!r} of shape {[*sides]} holds {values:,} values: send all {count:,}")
        try:
            return tf.make_ndarray(message)
        except (TypeError, ValueError) as error:
            raise invalid(f"input {name!r} does not hold {[*sides]} values of {wanted.name}: {error}") from None


def _shape(name: str, message: Any) -> tuple[int, ...]:
    sides = tuple(side.size for side in message.tensor_shape.dim)
    if message.tensor_shape.unknown_rank or any(side < 0 for side in sides):
        raise invalid(f"input {name!r} has no complete shape")
    return sides


def _parsed(request_type: Any, content: bytes) -> Message:
    try:
        return request_type.FromString(content)
    except DecodeError:
        raise invalid(f"the message is no {request_type.DESCRIPTOR.name}") from None


def _number(spec: Any) -> int | None:
    if spec.version_label:
        raise ServingError(Code.NOT_FOUND, f"there are no version labels here ({spec.version_label}): give a version number")
    return spec.version.value if spec.HasField("version") else None


def _not_served(name: str) -> Method:
    async def refuse(request: object) -> Message:
        raise ServingError(Code.UNIMPLEMENTED, f"{name} is not served here: use Predict, GetModelMetadata or GetModelStatus")

    return refuse


def _dtype_name(number: int) -> str:
    try:
        return tf.dtypes.as_dtype(number).name
    except TypeError:
        return f"of an unknown type ({number})"


def _write(message: Any, array: np.ndarray, dtype: tf.DType) -> None:
    """Fills a TensorProto, the values in their own field, as TensorFlow Serving writes it: clients read `float_val`."""
    number = dtype.as_datatype_enum
    if number not in VALUE_FIELDS:
        message.MergeFromString(tf.make_tensor_proto(array, dtype).SerializeToString())
        return
    message.dtype = number
    for side in array.shape:
        message.tensor_shape.dim.add(size=side)
    getattr(message, VALUE_FIELDS[number]).extend(array.ravel().tolist())
