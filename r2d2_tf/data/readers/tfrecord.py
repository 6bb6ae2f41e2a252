"""Reads TFRecord files of tf.train.Example without TensorFlow, whose import takes seconds."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
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


_EXAMPLE = """
name: "example.proto" package: "r2d2_tf" syntax: "proto3"
message_type { name: "BytesList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "Int64List" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type { name: "Feature"
  field { name: "bytes_list" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".r2d2_tf.BytesList" }
  field { name: "int64_list" number: 3 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".r2d2_tf.Int64List" } }
message_type { name: "Features"
  field { name: "feature" number: 1 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".r2d2_tf.Features.FeatureEntry" }
  nested_type { name: "FeatureEntry" options { map_entry: true }
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".r2d2_tf.Feature" } } }
message_type { name: "Example"
  field { name: "features" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".r2d2_tf.Features" } }
"""
"""tf.train.Example, described anew: TensorFlow's own description of it cannot be had without importing all of it."""
_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(text_format.Parse(_EXAMPLE, descriptor_pb2.FileDescriptorProto()))
_Example = message_factory.GetMessageClass(_POOL.FindMessageTypeByName("r2d2_tf.Example"))
