"""TensorFlow Serving's own messages and stubs, without its package: tests ask our server with them.

The file beside has the descriptions in tensorflow-serving-api 2.21.0: a FileDescriptorSet of prediction_service.proto,
model_service.proto and all that they import.
"""

import gzip
from pathlib import Path
from types import SimpleNamespace

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_RECORDED = Path(__file__).parent / "recorded" / "tensorflow_serving_api.pb.gz"
POOL = descriptor_pool.DescriptorPool()
for recorded in descriptor_pb2.FileDescriptorSet.FromString(gzip.decompress(_RECORDED.read_bytes())).file:
    POOL.Add(recorded)


def message_class(name: str):
    """The class of a message of the package tensorflow.serving."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"tensorflow.serving.{name}"))


def stub(channel, service: str):
    """Calls by name, as in the generated PredictionServiceStub and ModelServiceStub."""
    described = POOL.FindServiceByName(f"tensorflow.serving.{service}")
    calls = {}
    for method in described.methods:
        request, response = map(message_factory.GetMessageClass, (method.input_type, method.output_type))
        how = {"request_serializer": request.SerializeToString, "response_deserializer": response.FromString}
        calls[method.name] = channel.unary_unary(f"/{described.full_name}/{method.name}", **how)
    return SimpleNamespace(**calls)
