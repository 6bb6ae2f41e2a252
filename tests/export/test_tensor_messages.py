"""Tensors in gRPC's messages: read as TensorFlow reads them, and never more than a signature admits."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from export.serving.errors import ServingError
from export.serving.protocols import tensor_messages
from export.serving.protocols.grpc_service import GrpcService
from export.serving.signatures import Signature, Spec
from export.serving_protocol import PredictRequest

NUMBERS = [
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
]
TYPES = [*NUMBERS, "complex64", "complex128", "bool", "string", "float8_e5m2", "qint8"]


def values_of(dtype):
    if dtype == tf.string:
        return np.array([[b"a", b"\0"], [b"\xff\0", b""]], object)
    if dtype.name in NUMBERS:
        return np.array([[dtype.min, dtype.max], [0, 1]], dtype.as_numpy_dtype)
    return np.array([[0, 1], [1, 0]]).astype(dtype.as_numpy_dtype)


@pytest.mark.parametrize("dtype", [tf.as_dtype(name) for name in TYPES], ids=TYPES)
def test_values_of_each_type_are_read_as_tensorflow_reads_them(dtype, monkeypatch):
    monkeypatch.setattr(tensor_messages, "_AT_ONCE", 2)
    in_bytes, one_by_one = tf.make_tensor_proto(values_of(dtype), dtype), TensorProto()
    # Of a row the last value stands for those that follow.
    tensor_messages.write(one_by_one, values_of(dtype)[:1, :1], dtype)
    one_by_one.tensor_shape.dim[1].size = 3
    for message, sides in ((in_bytes, (2, 2)), (one_by_one, (1, 3))):
        array = tensor_messages.to_array("x", message, Spec(dtype, (None, None)), sides)
        assert array.dtype == dtype.as_numpy_dtype
        np.testing.assert_array_equal(array, tf.make_ndarray(message))


def test_bytes_of_bools_are_true_or_false():
    message = TensorProto(dtype=tf.bool.as_datatype_enum, tensor_content=b"\0\1\7")
    array = tensor_messages.to_array("x", message, Spec(tf.bool, (None,)), (3,))
    assert array.view(np.uint8).tolist() == [0, 1, 1]


def test_a_tensor_of_no_values_needs_none():
    message = TensorProto(dtype=tf.string.as_datatype_enum)
    assert tensor_messages.to_array("x", message, Spec(tf.string, (None, None)), (1, 0)).shape == (1, 0)


def test_where_sides_are_open_the_bytes_of_a_message_bound_an_input():
    definition, request = SignatureDef(), PredictRequest()
    definition.inputs["x"].dtype = request.inputs["x"].dtype = tf.uint16.as_datatype_enum
    definition.inputs["x"].tensor_shape.CopyFrom(tf.TensorShape([None, None]).as_proto())
    request.inputs["x"].tensor_shape.dim.add(size=1)
    side = request.inputs["x"].tensor_shape.dim.add(size=50)
    settings = SimpleNamespace(max_body_bytes=100)
    service = GrpcService(SimpleNamespace(settings=settings, check_rows=lambda rows: None))
    signature = Signature("open", None, definition)
    assert service._shapes(request, signature) == {"x": (1, 50)}
    side.size = 51
    with pytest.raises(ServingError, match=r"input 'x' of shape \[1, 51\] is larger than 100 bytes"):
        service._shapes(request, signature)
