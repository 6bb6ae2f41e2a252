"""Bodies of REST requests to arrays, and arrays to bodies of answers. Imports no TensorFlow."""

import gzip
import io
import json
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from export.serving.errors import Code, ServingError, invalid
from export.serving.folders import DEFAULT_SIGNATURE
from export.serving.lookup import named_signature
from export.serving.protocols import tensors
from export.serving.protocols.tensors import JsonSignature

if TYPE_CHECKING:
    from export.serving.signatures import Arrays


class Bounds(NamedTuple):
    """How large a request may be."""

    rows: int
    bytes: int


class Inputs(NamedTuple):
    """What a request asks for; `in_rows`: the answer must be in rows, too."""

    signature: str
    arrays: "Arrays"
    in_rows: bool


def read(body: bytes | bytearray, signatures: Mapping[str, JsonSignature], bounds: Bounds, *, is_zipped: bool) -> Inputs:
    """What a body asks for, whose shapes are not checked.

    Raises:
        ServingError: if it is wrong.
    """
    content = tensors.parse_body(_unzipped(body, bounds.bytes) if is_zipped else body)
    signature = named_signature(signatures, tensors.signature_name(content, DEFAULT_SIGNATURE))
    return Inputs(signature.name, *tensors.request_arrays(content, signature, bounds.rows))


def write(outputs: Mapping[str, np.ndarray], *, in_rows: bool) -> bytes:
    """The body of an answer.

    Raises:
        ServingError: if JSON has no form for the outputs.
    """
    return json.dumps(tensors.response_content(outputs, in_rows=in_rows)).encode()


def too_large(most_bytes: int) -> ServingError:
    """The refusal of a body."""
    return ServingError(Code.TOO_LARGE, f"the body is larger than {most_bytes:,} bytes: send fewer at a time")


def _unzipped(body: bytes | bytearray, most_bytes: int) -> bytes:
    try:
        content = gzip.GzipFile(fileobj=io.BytesIO(body)).read(most_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise invalid(f"the body is not gzip: {error}") from None
    if len(content) > most_bytes:
        raise too_large(most_bytes)
    return content
