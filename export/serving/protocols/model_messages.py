"""Status and metadata of a model, as TensorFlow Serving's messages; REST writes the same as JSON."""

from typing import Any

from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from export.serving.errors import Code, ServingError, invalid
from export.serving.versions import ModelVersions
from export.serving_protocol import GetModelMetadataResponse, GetModelStatusResponse, ModelVersionStatus, SignatureDefMap

SIGNATURE_FIELD = "signature_def"
_UNKNOWN_ERROR = 2
"""Error code of a version that did not load, as in tensorflow.error.Code."""


def status_message(versions: ModelVersions, name: str, number: int | None) -> Any:
    """GetModelStatusResponse of all versions, or of one.

    Raises:
        ServingError: if there is no such model or version.
    """
    if name != versions.name:
        raise ServingError(Code.NOT_FOUND, f"there is no model {name!r}: this server has {versions.name!r}")
    states = {n: state for n, state in sorted(versions.states.items(), reverse=True) if number in (None, n)}
    if not states:
        known = ", ".join(map(str, sorted(versions.states)))
        raise ServingError(Code.NOT_FOUND, f"model {name!r} has no version {number}: it has {known}")
    response = GetModelStatusResponse()
    for n, state in states.items():
        entry = response.model_version_status.add(version=n, state=ModelVersionStatus.State.Value(state.name))
        entry.status.error_code = _UNKNOWN_ERROR if state.error else 0
        entry.status.error_message = state.error
    return response


def metadata_message(versions: ModelVersions, name: str, number: int | None, fields: list[str]) -> Any:
    """GetModelMetadataResponse; `signature_def` is the only field there is.

    Raises:
        ServingError: if the model or version is not loaded, or another field is asked for.
    """
    if fields != [SIGNATURE_FIELD]:
        raise invalid(f"metadata_field is {fields}; it must be [{SIGNATURE_FIELD!r}]")
    version = versions.get(name, number)
    response = GetModelMetadataResponse()
    response.model_spec.name = versions.name
    response.model_spec.version.value = version.number
    definitions = SignatureDefMap()
    for key, definition in version.definitions.items():
        definitions.signature_def[key].MergeFromString(definition.SerializeToString())
    response.metadata[SIGNATURE_FIELD].Pack(definitions)
    return response


def metadata_json(message: Any) -> dict[str, Any]:
    """GetModelMetadataResponse as REST answers it: the packed message is written out, without its type."""
    definitions = SignatureDefMap()
    message.metadata[SIGNATURE_FIELD].Unpack(definitions)
    # TensorFlow's own description has the fields, too, that the protocol's leaves unread.
    whole = {key: SignatureDef.FromString(d.SerializeToString()) for key, d in definitions.signature_def.items()}
    written = {SIGNATURE_FIELD: {key: to_json(definition) for key, definition in whole.items()}}
    return {"model_spec": to_json(message.model_spec), "metadata": {SIGNATURE_FIELD: written}}


def to_json(message: Any) -> dict[str, Any]:
    """A message as REST answers it."""
    return MessageToDict(message, always_print_fields_with_no_presence=True, preserving_proto_field_name=True)
