"""Requests of both protocols: right ones with the answers that must come, and wrong ones with the codes that may."""

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from export import serving_protocol
from export.serving.folders import DEFAULT_SIGNATURE
from tools.load_test.reference import Arrays, Reference

REST, GRPC = "rest", "grpc"
_DEPTH = 100_000
_SIDES = 10_000
"""Sides of a shape, inputs, outputs: multiplied, so many sides take a second."""


class Case(NamedTuple):
    """A request.

    Attributes:
        kind: what is right or wrong about it.
        body: of the HTTP request, or the message.
        codes: that may be answered.
        answer: the outputs that must be; None for a wrong request.
        path, method: of the HTTP request.
    """

    kind: str
    body: bytes
    codes: frozenset[str]
    answer: Arrays | None = None
    path: str = ""
    method: str = "POST"


def good_cases(reference: Reference, name: str) -> dict[str, list[Case]]:
    """Right requests of one image each, in every form, by protocol."""
    return {REST: [*_good_rest(reference, name)], GRPC: [*_good_grpc(reference, name)]}


def bad_cases(reference: Reference, name: str, oversized_bytes: int) -> dict[str, list[Case]]:
    """Wrong requests, by protocol; `oversized_bytes` is more than the server takes, 0 if that is not known."""
    return {REST: [*_bad_rest(reference, name, oversized_bytes)], GRPC: [*_bad_grpc(reference, name, oversized_bytes)]}


def _good_rest(reference: Reference, name: str) -> Iterator[Case]:
    path, ok = f"/v1/models/{name}:predict", frozenset(["200"])
    for image, answer in zip(reference.images, reference.answers, strict=True):
        yield Case("rows", _json({"instances": image.tolist()}), ok, answer, path)
        yield Case("columns", _json({"inputs": {reference.input: image.tolist()}}), ok, answer, path)
    for content, answer in zip(reference.encoded, reference.encoded_answers, strict=True):
        yield Case("image bytes", _json(_encoded_body(content)), ok, answer, path)


def _good_grpc(reference: Reference, name: str) -> Iterator[Case]:
    ok = frozenset(["OK"])
    for image, answer in zip(reference.images, reference.answers, strict=True):
        yield Case("images", _message(name, DEFAULT_SIGNATURE, {reference.input: image}), ok, answer)
    for content, answer in zip(reference.encoded, reference.encoded_answers, strict=True):
        yield Case("image bytes", _message(name, "image_bytes", {"image_bytes": np.array([content])}), ok, answer)


def _bad_rest(reference: Reference, name: str, oversized_bytes: int) -> Iterator[Case]:
    def case(kind: str, body: Any, code: str = "400", *, path: str = f"{name}:predict", method: str = "POST") -> Case:
        content = body if isinstance(body, bytes) else _json(body)
        return Case(kind, content, frozenset([code]), None, f"/v1/models/{path}", method)

    image = reference.images[0]
    rows = image.tolist()
    yield case("no JSON", b'{"instances": [[1, 2')
    yield case("empty body", b"")
    yield case("no UTF-8", b'{"instances": ["\xff"]}')
    yield case("nested too deeply", b'{"instances": ' + b"[" * _DEPTH)
    yield case("empty batch", {"instances": []})
    yield case("wrong shape", {"instances": image[:, :-1].tolist()})
    yield case("ragged", {"instances": [*rows, rows[0][:-1]]})
    yield case("decimals", {"instances": (image + 0.5).tolist()})
    yield case("out of range", {"instances": (image.astype(int) - 300).tolist()})
    yield case("not a number", {"instances": np.full(image.shape, np.nan).tolist()})
    yield case("text", {"instances": ["image"]})
    yield case("unknown signature", {"signature_name": "none", "instances": rows})
    yield case("unknown input", {"inputs": {"none": rows}})
    yield case("neither form", {"rows": rows})
    yield case("unknown model", {"instances": rows}, "404", path="none:predict")
    yield case("unknown version", {"instances": rows}, "404", path=f"{name}/versions/999999:predict")
    yield case("wrong method", b"", "405", method="GET")
    yield case("classify", {"examples": []}, path=f"{name}:classify")
    if reference.encoded:
        yield case("no image", _encoded_body(b"no image"))
        yield case("image cut off", _encoded_body(reference.encoded[0][:30]))
        yield case("no base64", {"signature_name": "image_bytes", "instances": [{"b64": "?!"}]})
    if oversized_bytes:
        yield case("oversized", b" " * oversized_bytes, "413")


def _bad_grpc(reference: Reference, name: str, oversized_bytes: int) -> Iterator[Case]:
    def case(kind: str, body: bytes, code: str = "INVALID_ARGUMENT") -> Case:
        return Case(kind, body, frozenset([code]))

    def changed(sides: Sequence[int], **fields: Any) -> bytes:
        request = serving_protocol.PredictRequest.FromString(_message(name, "", {key: image}))
        tensor = serving_protocol.TensorProto(dtype=request.inputs[key].dtype, **fields)
        for side in sides:
            tensor.tensor_shape.dim.add(size=side)
        request.inputs[key].CopyFrom(tensor)
        return request.SerializeToString()

    image, key = reference.images[0], reference.input
    yield case("no message", b"\xff\xff\xff\xff")
    yield case("wrong type", _message(name, "", {key: image.astype(np.float32)}))
    yield case("wrong shape", _message(name, "", {key: image[:, :-1]}))
    yield case("empty batch", _message(name, "", {key: image[:0]}))
    yield case("huge shape", changed([10**12, *image.shape[1:]]), "RESOURCE_EXHAUSTED")
    yield case("thousands of sides", changed([1] + [2**62] * _SIDES))
    yield case("no values", changed(image.shape))
    yield case("out of range", changed(image.shape, int_val=[300]))
    yield case("values twice", changed(image.shape, int_val=[7], tensor_content=image.tobytes()))
    yield case("thousands of inputs", _message(name, "", {}) + b"\x12\0" * _SIDES)
    yield case("thousands of outputs", _message(name, "", {key: image}) + b"\x1a\4none" * _SIDES)
    yield case("no input", _message(name, "", {}))
    yield case("unknown input", _message(name, "", {"none": image}))
    yield case("unknown signature", _message(name, "none", {key: image}))
    yield case("unknown model", _message("none", "", {key: image}), "NOT_FOUND")
    if reference.encoded:
        yield case("no image", _message(name, "image_bytes", {"image_bytes": np.array([b"no image"])}))
    if oversized_bytes:
        yield case("oversized", b" " * oversized_bytes, "RESOURCE_EXHAUSTED")


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()


def _encoded_body(content: bytes) -> dict[str, Any]:
    return {"signature_name": "image_bytes", "instances": [{"b64": base64.b64encode(content).decode()}]}


def _message(name: str, signature: str, inputs: dict[str, np.ndarray]) -> bytes:
    message = serving_protocol.PredictRequest()
    message.model_spec.name = name
    message.model_spec.signature_name = signature
    for key, value in inputs.items():
        serving_protocol.set_tensor(message.inputs[key], value)
    return message.SerializeToString()


def outputs_of_rest(content: bytes, expected: Arrays) -> Arrays:
    """The outputs in an answer of REST, by name."""
    answer = json.loads(content)
    if "predictions" in answer:
        rows = answer["predictions"]
        columns = {name: [row[name] for row in rows] for name in rows[0]} if len(expected) > 1 else rows
    else:
        columns = answer["outputs"]
    columns = columns if len(expected) > 1 else {next(iter(expected)): columns}
    return {name: _like(values, expected.get(name)) for name, values in columns.items()}


def _like(values: Any, wanted: np.ndarray | None) -> np.ndarray:
    is_text = wanted is not None and wanted.dtype == object
    return np.array([text.encode() for text in values], object) if is_text else np.array(values)


def outputs_of_grpc(content: bytes) -> Arrays:
    """The outputs in an answer of gRPC, by name."""
    outputs = serving_protocol.PredictResponse.FromString(content).outputs
    return {name: serving_protocol.array_of(tensor) for name, tensor in outputs.items()}
