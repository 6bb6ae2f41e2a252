"""Tensors in JSON, as TensorFlow Serving's REST API writes them: to arrays by a signature's specs, and back.

Imports no TensorFlow: a process beside the server does this for large messages.
"""

import base64
import binascii
import contextlib
import itertools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from export.serving.errors import ServingError, invalid
from export.serving.lookup import check_input_names, check_rows

if TYPE_CHECKING:
    from export.serving.signatures import Arrays, Signature, Spec

BINARY_KEY = "b64"
BINARY_ENDING = "_bytes"
"""Strings of an output with this ending are written in base64."""
_MAX_RANK = 32
_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a decimal number",
    type(None): "null",
}


class JsonInput(NamedTuple):
    """What JSON may hold for an input.

    Attributes:
        dtype: TensorFlow's name of it.
        kinds: types of JSON that it takes; none if JSON has no form for it.
        low, high: the least and the largest number.
        numpy_type: of the array.
        has_rows: whether the first axis is a batch of any size.
        shown: the Spec, for messages.
    """

    dtype: str
    kinds: frozenset[type]
    low: float
    high: float
    numpy_type: type
    has_rows: bool
    shown: str

    def __str__(self) -> str:
        return self.shown


class JsonSignature(NamedTuple):
    """A signature without its model."""

    name: str
    inputs: dict[str, JsonInput]


def json_signature(signature: "Signature") -> JsonSignature:
    """What JSON may hold for a signature."""
    return JsonSignature(signature.name, {name: _json_input(spec) for name, spec in signature.inputs.items()})


def _json_input(spec: "Spec") -> JsonInput:
    dtype = spec.dtype
    of_others: dict[str, set[type]] = {"string": {str, dict}, "bool": {bool}}
    kinds = of_others.get(dtype.name, set())
    low, high = 0.0, 0.0
    # A type that TensorFlow gives no limits, such as int4, has no form either.
    with contextlib.suppress(TypeError, ValueError):
        if dtype.is_integer:
            (low, high), kinds = dtype.limits, {int}
        elif dtype.is_floating:
            low, high, kinds = float(dtype.min), float(dtype.max), {int, float}
    return JsonInput(dtype.name, frozenset(kinds), low, high, dtype.as_numpy_dtype, spec.has_rows, str(spec))


def parse_body(body: bytes | bytearray) -> dict[str, Any]:
    """The JSON object in a request's body.

    Raises:
        ServingError: if it is none.
    """
    try:
        content = json.loads(body)
    except RecursionError:
        raise invalid("the JSON is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise invalid(f"the body is not UTF-8: {error.reason} at byte {error.start:,}") from None
    except ValueError as error:
        raise invalid(f"the body is not JSON: {error}" if body else 'the body is empty: send {"instances": [...]}') from None
    if not isinstance(content, dict):
        raise invalid(f'the body is {_KINDS[type(content)]}; it must be an object, as in {{"instances": [...]}}')
    return content


def signature_name(content: Mapping[str, Any], default: str) -> str:
    name = content.get("signature_name", default)
    if not isinstance(name, str):
        raise invalid(f"signature_name is {_KINDS[type(name)]}; it must be a string")
    return name or default


def request_arrays(content: Mapping[str, Any], signature: JsonSignature, max_rows: int) -> tuple["Arrays", bool]:
    """The inputs in a request, and whether they came in rows (`instances`), so that the answer must be in rows too.

    Their shapes are not checked.

    Raises:
        ServingError: if they are not what the signature takes, or have more rows than `max_rows`.
    """
    given = [key for key in ("instances", "inputs") if key in content]
    if len(given) != 1:
        came = "both came" if given else f"none of them came ({_names(content)})"
        raise invalid(f'send either "instances" (a list of rows) or "inputs" (columns): {came}')
    in_rows = given == ["instances"]
    columns = _columns_of_rows(content["instances"], signature) if in_rows else _columns(content["inputs"], signature)
    check_input_names(signature.name, signature.inputs, columns)
    for name, value in columns.items():
        if signature.inputs[name].has_rows and isinstance(value, list):
            check_rows(len(value), max_rows)
    return {name: to_array(name, value, signature.inputs[name]) for name, value in columns.items()}, in_rows


def _names(content: Mapping[str, Any]) -> str:
    return ", ".join(repr(key) for key in list(content)[:5]) or "the object is empty"


def _is_named(value: Any) -> bool:
    """Whether a JSON value gives inputs by name; an object with nothing but `b64` is a binary string."""
    return isinstance(value, dict) and value.keys() != {BINARY_KEY}


def _only_input(signature: JsonSignature, key: str) -> str:
    if len(signature.inputs) != 1:
        raise invalid(f'signature {signature.name!r} takes {", ".join(signature.inputs)}: name them in "{key}"')
    return next(iter(signature.inputs))


def _columns(value: Any, signature: JsonSignature) -> dict[str, Any]:
    return value if _is_named(value) else {_only_input(signature, "inputs"): value}


def _columns_of_rows(rows: Any, signature: JsonSignature) -> dict[str, Any]:
    if not isinstance(rows, list):
        raise invalid(f'"instances" is {_KINDS[type(rows)]}; it must be a list, one item a row')
    if not rows:
        raise invalid('"instances" is empty: send at least one')
    if dict not in set(map(type, rows)) or not any(map(_is_named, rows)):
        return {_only_input(signature, "instances"): rows}
    for number, row in enumerate(rows):
        if not _is_named(row):
            raise invalid(f"instance {number} is {_KINDS[type(row)]}; others are objects that name the inputs")
        check_input_names(signature.name, signature.inputs, row)
    return {name: [row[name] for row in rows] for name in signature.inputs}


def to_array(name: str, value: Any, spec: JsonInput) -> np.ndarray:
    """A JSON value as an array of the dtype of `spec`; no number is rounded to another whole one.

    The list is flattened level by level, rather than given to NumPy as it is: that would take true for 1, null for NaN,
    and a long string as the width of every element.

    Raises:
        ServingError: if the lists are ragged, or a value does not fit the dtype.
    """
    shape: list[int] = []
    level = [value]
    while level and isinstance(level[0], list):
        if len(shape) == _MAX_RANK:
            raise invalid(f"input {name!r} is nested more than {_MAX_RANK} lists deep")
        side = len(level[0])
        # In C: there is a list for each pixel. Texts and objects have lengths too; their items are no numbers.
        try:
            is_even = set(map(len, level)) == {side}
        except TypeError:
            is_even = False
        if not is_even or (str in spec.kinds and set(map(type, level)) != {list}):
            raise _ragged(name, level, depth=len(shape) + 1)
        shape.append(side)
        level = list(itertools.chain.from_iterable(level))
    return _leaves(name, level, spec).reshape(shape)


def _ragged(name: str, level: list[Any], *, depth: int) -> ServingError:
    lengths = {len(item) if isinstance(item, list) else -1 for item in level}
    shown = ", ".join("a single value" if length < 0 else f"{length} items" for length in sorted(lengths)[:3])
    return invalid(f"input {name!r} is ragged: the lists at depth {depth} hold {shown}; all must be alike")


def _leaves(name: str, leaves: list[Any], spec: JsonInput) -> np.ndarray:
    kinds = set(map(type, leaves))
    if list in kinds:
        raise invalid(f"input {name!r} is ragged: lists and single values stand side by side")
    if not spec.kinds:
        raise invalid(f"input {name!r} is {spec.dtype}, for which JSON has no form: send it by gRPC")
    if wrong := kinds - spec.kinds:
        culprit = next(leaf for leaf in leaves if type(leaf) in wrong)
        shown = f" ({culprit!r})" if isinstance(culprit, float | bool) else ""
        raise invalid(f"input {name!r} has {_KINDS[type(culprit)]}{shown} among its values; it takes {spec.dtype}")
    if str in spec.kinds:
        return _strings(name, leaves)
    return np.array(leaves, bool) if bool in spec.kinds else _numbers(name, leaves, spec)


def _numbers(name: str, leaves: list[Any], spec: JsonInput) -> np.ndarray:
    dtype, low, high = spec.dtype, spec.low, spec.high
    wide = np.float64 if float in spec.kinds else np.uint64 if dtype == "uint64" else np.int64
    try:
        numbers = np.fromiter(leaves, wide, len(leaves))
    except OverflowError:
        raise invalid(f"input {name!r} has a number too large for {dtype} ({low} to {high})") from None
    outside = ((numbers < low) | (numbers > high)) & np.isfinite(numbers)
    if outside.any():
        raise invalid(f"input {name!r} has {numbers[outside][0]}; {dtype} takes {low} to {high}")
    return numbers.astype(spec.numpy_type)


def _strings(name: str, leaves: list[Any]) -> np.ndarray:
    try:
        return np.array([leaf.encode() if isinstance(leaf, str) else _decoded(name, leaf) for leaf in leaves], object)
    except UnicodeEncodeError:
        raise invalid(f"input {name!r} has a string that is not Unicode: send bytes in base64") from None


def _decoded(name: str, value: dict[str, Any]) -> bytes:
    text = value.get(BINARY_KEY)
    if value.keys() != {BINARY_KEY} or not isinstance(text, str):
        raise invalid(f'input {name!r} has an object among its values; bytes are written {{"{BINARY_KEY}": "..."}}')
    compact = "".join(text.split()).rstrip("=")
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f"input {name!r} has invalid base64: {error}") from None


def response_content(outputs: Mapping[str, np.ndarray], *, in_rows: bool) -> dict[str, Any]:
    """The answer: `predictions`, an item a row, or `outputs`; where there is one output alone, without its name.

    Raises:
        ServingError: if the answer must be in rows, and the outputs have none.
    """
    columns = {name: _to_json(name, array) for name, array in outputs.items()}
    if not in_rows:
        return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}
    rows = {len(array) if array.ndim else None for array in outputs.values()}
    if len(rows) != 1 or None in rows:
        raise invalid('the outputs do not have a row for each input: send "inputs" (columns) instead of "instances"')
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]}


def _to_json(name: str, array: np.ndarray) -> Any:
    if array.dtype == object or array.dtype.kind in "SU":
        return _strings_to_json(array.tolist(), as_bytes=name.endswith(BINARY_ENDING))
    if array.dtype.kind in "biu" or array.dtype == np.float64:
        return array.tolist()
    if array.dtype.kind not in "fV":  # V: bfloat16 and its like
        raise invalid(f"output {name!r} is {array.dtype}, for which JSON has no form: ask by gRPC")
    # The shortest decimal that is this float32: 0.2, not 0.20000000298023224.
    short = [float(text) for text in map(str, array.ravel())]
    return np.array(short, np.float64).reshape(array.shape).tolist()


def _strings_to_json(value: Any, *, as_bytes: bool) -> Any:
    if isinstance(value, list):
        return [_strings_to_json(item, as_bytes=as_bytes) for item in value]
    if as_bytes:
        return {BINARY_KEY: base64.b64encode(value).decode()}
    return value.decode(errors="replace") if isinstance(value, bytes) else value
