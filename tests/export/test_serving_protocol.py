"""The messages that client and server speak, against tensorflow-serving-api's; arrays in tensors, against TensorFlow."""

import numpy as np
import pytest
import serving_api
import tensorflow as tf
from google.protobuf.descriptor import FieldDescriptor

from export import serving_protocol as ours

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
NUMBERS = (*INTEGERS, "float16", "float32", "float64", "bool", "complex64", "complex128")
LEFT_OUT = {
    "tensorflow.TensorProto": {"resource_handle_val", "variant_val"},
    "tensorflow.TensorInfo": {"coo_sparse", "composite_tensor"},
    "tensorflow.serving.PredictRequest": {"predict_streamed_options", "client_id", "request_options"},
}
MESSAGES = [ours._POOL.FindMessageTypeByName(name) for name in ours._MESSAGES]


def described(field: FieldDescriptor) -> tuple:
    nested, enum = field.message_type, field.enum_type
    return (
        field.number,
        field.type,
        field.is_repeated,
        field.is_packed,
        field.has_presence,
        nested and (nested.full_name, nested.GetOptions().map_entry),
        enum and enum.full_name,
        field.containing_oneof and field.containing_oneof.name,
    )


def fields_of(message) -> dict[str, tuple]:
    """Fields by name, those of the entries of its maps, too."""
    entries = [entry for entry in message.nested_types if entry.GetOptions().map_entry]
    return {f.full_name: described(f) for m in (message, *entries) for f in m.fields}


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.full_name)
def test_fields_are_those_of_tensorflow_serving(message):
    left_out = {f"{message.full_name}.{name}" for name in LEFT_OUT.get(message.full_name, ())}
    theirs = fields_of(serving_api.POOL.FindMessageTypeByName(message.full_name))
    assert left_out <= theirs.keys()
    assert fields_of(message) == {name: field for name, field in theirs.items() if name not in left_out}


@pytest.mark.parametrize("name", ours._ENUMS)
def test_enums_are_those_of_tensorflow_serving(name):
    def values(pool) -> dict[str, int]:
        found = {value.name: value.number for value in pool.FindEnumTypeByName(name).values}
        return {key: n for key, n in found.items() if not key.endswith("_REF") and not key.startswith("DO_NOT_USE")}

    assert values(ours._POOL) == values(serving_api.POOL)


@pytest.mark.parametrize("name", ours.METHODS)
def test_methods_are_those_of_tensorflow_serving(name):
    service, request, response = ours.METHODS[name]
    theirs = serving_api.POOL.FindServiceByName(service).methods_by_name[name]
    assert (theirs.input_type.full_name, theirs.output_type.full_name) == (
        request.DESCRIPTOR.full_name,
        response.DESCRIPTOR.full_name,
    )


def fill(message, rng: np.random.Generator) -> None:
    """Something in every field of a message and of those in it; of a oneof, in the last."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type and field.message_type.GetOptions().map_entry:
            fill(getattr(message, field.name)["a key"], rng)
        elif field.message_type:
            inside = getattr(message, field.name)
            inside.SetInParent() if not field.is_repeated else inside.add()
            fill(inside[0] if field.is_repeated else inside, rng)
        else:
            kinds = {
                FieldDescriptor.TYPE_STRING: str,
                FieldDescriptor.TYPE_BYTES: lambda n: bytes([n]),
                FieldDescriptor.TYPE_BOOL: bool,
            }
            value = kinds.get(field.type, int)(int(rng.integers(1, 20)))
            value = field.enum_type.values[-1].number if field.enum_type else value
            if field.is_repeated:
                getattr(message, field.name).extend([value] * 3)
            else:
                setattr(message, field.name, value)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.full_name)
def test_both_write_the_same_bytes_and_read_them(message):
    mine = ours.message_factory.GetMessageClass(message)()
    fill(mine, np.random.default_rng(0))
    written = mine.SerializeToString(deterministic=True)
    theirs = ours.message_factory.GetMessageClass(serving_api.POOL.FindMessageTypeByName(message.full_name)).FromString(written)
    assert written
    assert str(theirs) == str(mine)
    assert theirs.SerializeToString(deterministic=True) == written
    assert type(mine).FromString(written) == mine


def test_what_is_not_described_is_handed_on():
    theirs = serving_api.message_class("PredictRequest")(client_id=b"a client")
    assert ours.PredictRequest.FromString(theirs.SerializeToString()).SerializeToString() == theirs.SerializeToString()


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0, 3)])
@pytest.mark.parametrize("kind", NUMBERS)
def test_arrays_are_written_and_read_as_tensorflow_does(kind, shape):
    array = np.random.default_rng(1).normal(0, 9, shape).astype(np.int8 if "u" not in kind else np.uint8).astype(kind)
    tensor = ours.TensorProto()
    ours.set_tensor(tensor, array)
    theirs = tf.make_tensor_proto(array)
    for read in (tf.make_ndarray(tensor), ours.array_of(tensor), ours.array_of(theirs)):
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)
    assert tensor.dtype == theirs.dtype
    if theirs.tensor_content:
        assert tensor.SerializeToString() == theirs.SerializeToString()


@pytest.mark.parametrize("values", [[b"a\0", b"b"], ["text"], b"one", [1, 2], [[0.5], [2.0]], 3, [True], np.array(["a", "b"])])
def test_lists_have_the_types_that_tensorflow_gives_them(values):
    tensor = ours.TensorProto()
    ours.set_tensor(tensor, values)
    theirs = tf.make_tensor_proto(values)
    assert tensor.dtype == theirs.dtype
    np.testing.assert_array_equal(tf.make_ndarray(tensor), tf.make_ndarray(theirs))
    assert ours.array_of(tensor).tolist() == tf.make_ndarray(theirs).tolist()


@pytest.mark.parametrize(
    ("dtype", "fields"),
    [
        ("DT_FLOAT", {"float_val": [1, 2, 3, 4]}),
        ("DT_UINT8", {"int_val": [7]}),
        ("DT_INT64", {}),
        ("DT_BOOL", {"bool_val": [True, False]}),
        ("DT_STRING", {"string_val": [b"a", b"b\0"]}),
        ("DT_HALF", {"half_val": [15360, 16384]}),
        ("DT_BFLOAT16", {"half_val": [16256, 16384]}),
        ("DT_COMPLEX64", {"scomplex_val": [1, 2, 3, 4, 5, 6, 7, 8]}),
        ("DT_BFLOAT16", {"tensor_content": b"\x80\x3f\x00\x40" * 2}),
    ],
)
def test_values_one_by_one_are_read_as_tensorflow_does(dtype, fields):
    tensor = ours.TensorProto(dtype=dtype, **fields)
    for side in (2, 2):
        tensor.tensor_shape.dim.add(size=side)
    assert ours.array_of(tensor).tolist() == tf.make_ndarray(tensor).tolist()


def test_types_that_numpy_has_not_are_refused():
    with pytest.raises(ValueError, match="an array of datetime64"):
        ours.set_tensor(ours.TensorProto(), np.array(["2000-01-01"], "datetime64[D]"))
    with pytest.raises(ValueError, match="a tensor of type 21 cannot be read"):
        ours.array_of(ours.TensorProto(dtype="DT_VARIANT"))
