"""The messages of TensorFlow Serving's protocol, and NumPy's arrays in its tensors; needs protobuf and NumPy alone.

tensorflow-serving-api has the messages, too, and asks for all of TensorFlow. Here they stand in the words of TensorFlow's
.proto files, in a pool of their own, so that both can be used side by side. What is left out of a message is what neither
side reads or writes; protobuf hands it on unread. A test holds all against the descriptions of the package.

This file stands alone: copied beside client.py, it lets that speak gRPC.
"""

import re
from typing import Any, NamedTuple

import numpy as np
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

_ENUMS = {
    "tensorflow.DataType": """
        DT_INVALID = 0; DT_FLOAT = 1; DT_DOUBLE = 2; DT_INT32 = 3; DT_UINT8 = 4; DT_INT16 = 5; DT_INT8 = 6; DT_STRING = 7;
        DT_COMPLEX64 = 8; DT_INT64 = 9; DT_BOOL = 10; DT_QINT8 = 11; DT_QUINT8 = 12; DT_QINT32 = 13; DT_BFLOAT16 = 14;
        DT_QINT16 = 15; DT_QUINT16 = 16; DT_UINT16 = 17; DT_COMPLEX128 = 18; DT_HALF = 19; DT_RESOURCE = 20; DT_VARIANT = 21;
        DT_UINT32 = 22; DT_UINT64 = 23; DT_FLOAT8_E5M2 = 24; DT_FLOAT8_E4M3FN = 25; DT_FLOAT8_E4M3FNUZ = 26;
        DT_FLOAT8_E4M3B11FNUZ = 27; DT_FLOAT8_E5M2FNUZ = 28; DT_INT4 = 29; DT_UINT4 = 30; DT_INT2 = 31; DT_UINT2 = 32;
        DT_FLOAT4_E2M1FN = 33""",
    "tensorflow.error.Code": """
        OK = 0; CANCELLED = 1; UNKNOWN = 2; INVALID_ARGUMENT = 3; DEADLINE_EXCEEDED = 4; NOT_FOUND = 5; ALREADY_EXISTS = 6;
        PERMISSION_DENIED = 7; UNAUTHENTICATED = 16; RESOURCE_EXHAUSTED = 8; FAILED_PRECONDITION = 9; ABORTED = 10;
        OUT_OF_RANGE = 11; UNIMPLEMENTED = 12; INTERNAL = 13; UNAVAILABLE = 14; DATA_LOSS = 15""",
    "tensorflow.serving.ModelVersionStatus.State": """
        UNKNOWN = 0; START = 10; LOADING = 20; AVAILABLE = 30; UNLOADING = 40; END = 50""",
}
_MESSAGES = {
    "tensorflow.TensorShapeProto": "repeated tensorflow.TensorShapeProto.Dim dim = 2; bool unknown_rank = 3",
    "tensorflow.TensorShapeProto.Dim": "int64 size = 1; string name = 2",
    "tensorflow.TensorProto": """
        tensorflow.DataType dtype = 1; tensorflow.TensorShapeProto tensor_shape = 2; int32 version_number = 3;
        bytes tensor_content = 4; repeated int32 half_val = 13; repeated float float_val = 5; repeated double double_val = 6;
        repeated int32 int_val = 7; repeated bytes string_val = 8; repeated float scomplex_val = 9;
        repeated int64 int64_val = 10; repeated bool bool_val = 11; repeated double dcomplex_val = 12;
        repeated uint32 uint32_val = 16; repeated uint64 uint64_val = 17; bytes float8_val = 18""",
    "tensorflow.TensorInfo": """
        oneof encoding string name = 1; tensorflow.DataType dtype = 2; tensorflow.TensorShapeProto tensor_shape = 3""",
    "tensorflow.SignatureDef": """
        map<string, tensorflow.TensorInfo> inputs = 1; map<string, tensorflow.TensorInfo> outputs = 2;
        string method_name = 3; map<string, tensorflow.TensorProto> defaults = 4""",
    "tensorflow.serving.ModelSpec": """
        string name = 1; oneof version_choice google.protobuf.Int64Value version = 2;
        oneof version_choice string version_label = 4; string signature_name = 3""",
    "tensorflow.serving.PredictRequest": """
        tensorflow.serving.ModelSpec model_spec = 1; map<string, tensorflow.TensorProto> inputs = 2;
        repeated string output_filter = 3""",
    "tensorflow.serving.PredictResponse": """
        tensorflow.serving.ModelSpec model_spec = 2; map<string, tensorflow.TensorProto> outputs = 1""",
    "tensorflow.serving.SignatureDefMap": "map<string, tensorflow.SignatureDef> signature_def = 1",
    "tensorflow.serving.GetModelMetadataRequest": """
        tensorflow.serving.ModelSpec model_spec = 1; repeated string metadata_field = 2""",
    "tensorflow.serving.GetModelMetadataResponse": """
        tensorflow.serving.ModelSpec model_spec = 1; map<string, google.protobuf.Any> metadata = 2""",
    "tensorflow.serving.GetModelStatusRequest": "tensorflow.serving.ModelSpec model_spec = 1",
    "tensorflow.serving.GetModelStatusResponse": "repeated tensorflow.serving.ModelVersionStatus model_version_status = 1",
    "tensorflow.serving.ModelVersionStatus": """
        int64 version = 1; tensorflow.serving.ModelVersionStatus.State state = 2; tensorflow.serving.StatusProto status = 3""",
    "tensorflow.serving.StatusProto": "tensorflow.error.Code error_code = 1; string error_message = 2",
}
_FIELD = re.compile(r"\s*(?:oneof (\w+) )?(repeated )?(?:map<string, ([\w.]+)>|([\w.]+)) (\w+) = (\d+)\s*")
_FieldProto = descriptor_pb2.FieldDescriptorProto


def _described() -> descriptor_pool.DescriptorPool:
    """A pool of the messages above."""
    pool = descriptor_pool.DescriptorPool()
    files = {}
    for module in (any_pb2, wrappers_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    imported = [any_pb2.DESCRIPTOR.name, wrappers_pb2.DESCRIPTOR.name]
    for package in ("tensorflow.error", "tensorflow", "tensorflow.serving"):
        files[package] = descriptor_pb2.FileDescriptorProto(
            name=f"{package}.proto", package=package, syntax="proto3", dependency=imported
        )
        imported = [*imported, f"{package}.proto"]
    scopes: dict[str, Any] = {}
    for name, fields in _MESSAGES.items():
        scope, _, own = name.rpartition(".")
        scopes[name] = scopes[scope].nested_type.add(name=own) if scope in scopes else files[scope].message_type.add(name=own)
        for declaration in fields.split(";"):
            _add_field(scopes[name], name, declaration)
    for name, values in _ENUMS.items():
        scope, _, own = name.rpartition(".")
        enum = (scopes.get(scope) or files[scope]).enum_type.add(name=own)
        for value in values.split(";"):
            enum.value.add(name=value.split()[0], number=int(value.split()[2]))
    for file in files.values():
        pool.Add(file)
    return pool


def _add_field(message: Any, scope: str, declaration: str) -> None:
    """Adds a field of .proto's form to the message of this full name; `oneof` and its name stand before each of its fields."""
    oneof, repeated, mapped, kind, name, number = _FIELD.fullmatch(declaration).groups()  # type: ignore[union-attr]
    if mapped:
        entry = message.nested_type.add(name="".join(map(str.capitalize, name.split("_"))) + "Entry")
        entry.options.map_entry = True
        _add_field(entry, "", "string key = 1")
        _add_field(entry, "", f"{mapped} value = 2")
        kind = f"{scope}.{entry.name}"
    field = message.field.add(name=name, number=int(number))
    field.label = _FieldProto.LABEL_REPEATED if repeated or mapped else _FieldProto.LABEL_OPTIONAL
    if "." in kind:
        field.type = _FieldProto.TYPE_ENUM if kind in _ENUMS else _FieldProto.TYPE_MESSAGE
        field.type_name = f".{kind}"
    else:
        field.type = _FieldProto.Type.Value(f"TYPE_{kind.upper()}")
    if oneof:
        if oneof not in [known.name for known in message.oneof_decl]:
            message.oneof_decl.add(name=oneof)
        field.oneof_index = len(message.oneof_decl) - 1


def _message_class(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"tensorflow.{name}"))


_POOL = _described()
TensorProto = _message_class("TensorProto")
SignatureDefMap = _message_class("serving.SignatureDefMap")
PredictRequest = _message_class("serving.PredictRequest")
PredictResponse = _message_class("serving.PredictResponse")
GetModelMetadataRequest = _message_class("serving.GetModelMetadataRequest")
GetModelMetadataResponse = _message_class("serving.GetModelMetadataResponse")
GetModelStatusRequest = _message_class("serving.GetModelStatusRequest")
GetModelStatusResponse = _message_class("serving.GetModelStatusResponse")
ModelVersionStatus = _message_class("serving.ModelVersionStatus")

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"


class Method(NamedTuple):
    """A method of a service: the classes of its messages."""

    service: str
    request: Any
    response: Any


METHODS = {
    "Predict": Method(PREDICTION_SERVICE, PredictRequest, PredictResponse),
    "GetModelMetadata": Method(PREDICTION_SERVICE, GetModelMetadataRequest, GetModelMetadataResponse),
    "GetModelStatus": Method(MODEL_SERVICE, GetModelStatusRequest, GetModelStatusResponse),
}


def call(channel: Any, name: str) -> Any:
    """The function that asks this method on a channel of grpcio: request and timeout -> response."""
    service, request, response = METHODS[name]
    how = {"request_serializer": request.SerializeToString, "response_deserializer": response.FromString}
    return channel.unary_unary(f"/{service}/{name}", **how)


_STRING, _BFLOAT16 = 7, 14
_BITS = {1: "f4", 2: "f8", 3: "i4", 4: "u1", 5: "i2", 6: "i1", 8: "c8", 9: "i8", 10: "?"} | {
    _BFLOAT16: "u2", 17: "u2", 18: "c16", 19: "f2", 22: "u4", 23: "u8"
}  # fmt: skip
"""Type's number -> NumPy's type of the same bits."""
_NUMBERS = {np.dtype(bits): number for number, bits in _BITS.items() if number != _BFLOAT16}
VALUE_FIELDS = {1: "float_val", 2: "double_val", _STRING: "string_val", 9: "int64_val", 10: "bool_val"} | {
    **dict.fromkeys((3, 4, 5, 6, 17), "int_val"), 22: "uint32_val", 23: "uint64_val"
}  # fmt: skip
"""Type's number -> the field that holds its values one by one."""
PARTS = {8: ("scomplex_val", "f4"), _BFLOAT16: ("half_val", "u2"), 18: ("dcomplex_val", "f8"), 19: ("half_val", "u2")}
"""Types whose values stand in a field as numbers of another type, of which each takes one or two."""


def set_tensor(tensor: Any, values: Any) -> None:
    """Writes an array or nested lists to an empty TensorProto, as `tf.make_tensor_proto` does.

    Raises:
        ValueError: if there is no such type of tensors.
    """
    # As objects, since NumPy's own type of bytes drops zeros at the end.
    array = values if isinstance(values, np.ndarray) else np.array(values, object)
    is_text = array.dtype.kind in "SU" or (array.dtype == object and all(isinstance(v, bytes | str) for v in array.flat))
    if not (is_text or isinstance(values, np.ndarray)):
        array = np.array(values)
        array = array.astype({"f8": np.float32, "i8": np.int32}.get(array.dtype.str[1:], array.dtype))
    if not is_text and array.dtype not in _NUMBERS:
        raise ValueError(f"an array of {array.dtype} cannot be sent: send numbers, booleans or bytes")
    tensor.dtype = _STRING if is_text else _NUMBERS[array.dtype]
    for side in array.shape:
        tensor.tensor_shape.dim.add(size=side)
    if is_text:
        tensor.string_val.extend(v.encode() if isinstance(v, str) else v for v in array.ravel().tolist())
    else:
        tensor.tensor_content = array.astype(array.dtype.newbyteorder("<")).tobytes()


def array_of(tensor: Any) -> np.ndarray:
    """The values of a TensorProto, as `tf.make_ndarray` reads them; bfloat16 as float32, which holds each of its values.

    Raises:
        ValueError: if its type is not NumPy's, or it does not hold its values.
    """
    shape = [side.size for side in tensor.tensor_shape.dim]
    number, count = tensor.dtype, int(np.prod(shape, dtype=np.int64))
    if number != _STRING and number not in _BITS:
        raise ValueError(f"a tensor of type {number} cannot be read: numbers, booleans and strings can")
    bits = object if number == _STRING else np.dtype(_BITS[number]).newbyteorder("<")
    if tensor.tensor_content:
        array = np.frombuffer(tensor.tensor_content, bits).copy()
    else:
        field, part = PARTS.get(number) or (VALUE_FIELDS[number], bits)
        array = np.array(getattr(tensor, field)[:], part).view(bits)
        # The last value stands for all that follow it.
        array = np.pad(array, (0, count - len(array)), "edge") if len(array) else np.zeros(count, bits)
    if number == _BFLOAT16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.reshape(shape)
