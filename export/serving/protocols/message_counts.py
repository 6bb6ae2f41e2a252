"""What a PredictRequest is made of, counted before it is read.

Parsed, two bytes of a message can be an input, or a side of a shape, of a hundred bytes. That takes the interpreter, and with
it all other requests, nearly a second for 8 MiB. So messages are first read without what is in them: as bytes.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from export.serving.errors import invalid
from export.serving_protocol import PredictRequest, TensorProto

_SHAPE_BYTES = 4096
"""Of a shape: many times what sides of a rank that can be take, and so few that they are soon read."""
_Field = descriptor_pb2.FieldDescriptorProto


def _outline(message: Any, field: str) -> Any:
    """The class of a message like `message` of which this field alone is known, and left as bytes, each time that it comes."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{message.full_name}.proto", syntax="proto3")
    number = message.fields_by_name[field].number
    described = file.message_type.add(name=message.name)
    described.field.add(name="found", number=number, type=_Field.TYPE_BYTES, label=_Field.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(message.name))


_INPUTS = _outline(PredictRequest.DESCRIPTOR, "inputs")
_TENSORS = _outline(PredictRequest.DESCRIPTOR.fields_by_name["inputs"].message_type, "value")
_SHAPES = _outline(TensorProto.DESCRIPTOR, "tensor_shape")


def check_counts(content: bytes, most_inputs: int) -> None:
    """Raises ServingError if a PredictRequest has more inputs than any can have, or an input far too many sides.

    Raises:
        DecodeError: if `content` is no message.
    """
    for entry in _found(_INPUTS, content, "inputs", most_inputs):
        for tensor in _found(_TENSORS, entry, "tensors of an input", 1):
            for shape in _found(_SHAPES, tensor, "shapes of an input", 1):
                if len(shape) > _SHAPE_BYTES:
                    raise invalid(f"a shape of {len(shape):,} bytes came; this server takes at most {_SHAPE_BYTES:,}")


def _found(outline: Any, content: bytes, what: str, most: int) -> Any:
    found = outline.FromString(content).found
    if len(found) > most:
        raise invalid(f"{len(found):,} {what} came; this server takes at most {most}")
    return found
