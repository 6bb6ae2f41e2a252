"""Reads TFRecord files of tf.train.Example without TensorFlow, whose import takes seconds."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError


def read_examples(path: Path) -> Iterator[tuple[int, bytes, Any]]:
    """The examples of a file: offset and bytes of each as it is stored, and its features, name -> tf.train.Feature.

    Raises:
        ValueError: if the file is damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        # A record: length (8 bytes), its checksum (4), the example, its checksum (4).
        while header := file.read(12):
            offset = file.tell()
            (length,) = struct.unpack("<Q", header[:8]) if len(header) == 12 else (size,)
            try:
                if offset + length + 4 > size:
                    raise DecodeError("it ends too soon")
                record = file.read(length)
                features = _Example.FromString(record).features.feature
            except DecodeError as error:
                message = f"{path} is damaged at byte {offset}: remove its folder and prepare the data set again"
                raise ValueError(message) from error
            yield offset, record, features
            file.seek(4, 1)


def _example_class() -> Any:
    """tf.train.Example, described anew: TensorFlow's own description of it cannot be had without importing all of it."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="r2d2_tf", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, int, int, str], parent: Any = None) -> Any:
        added = file.message_type.add(name=name) if parent is None else parent.nested_type.add(name=name)
        for field_name, number, label, kind, type_name in fields:
            added.field.add(name=field_name, number=number, label=label, type=kind, type_name=type_name or None)
        return added

    one, many, nested = field.LABEL_OPTIONAL, field.LABEL_REPEATED, field.TYPE_MESSAGE
    message("BytesList", ("value", 1, many, field.TYPE_BYTES, ""))
    message("Int64List", ("value", 1, many, field.TYPE_INT64, ""))
    lists = (("bytes_list", 1, one, nested, ".r2d2_tf.BytesList"), ("int64_list", 3, one, nested, ".r2d2_tf.Int64List"))
    message("Feature", *lists)
    features = message("Features", ("feature", 1, many, nested, ".r2d2_tf.Features.FeatureEntry"))
    entry = (("key", 1, one, field.TYPE_STRING, ""), ("value", 2, one, nested, ".r2d2_tf.Feature"))
    message("FeatureEntry", *entry, parent=features).options.map_entry = True
    message("Example", ("features", 1, one, nested, ".r2d2_tf.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("r2d2_tf.Example"))


_Example = _example_class()
