"""gRPC's tensors: checked by a signature and read to arrays, and written."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from export.serving.errors import invalid
from export.serving.signatures import Spec
from export.serving_protocol import PARTS, VALUE_FIELDS, TensorProto

_CONTENT = "tensor_content"
_HOLDERS = [f.name for f in TensorProto.DESCRIPTOR.fields if f.name.endswith("_val") or f.name == _CONTENT]
"""The fields in which values may stand."""
_MOST_SIDES = 32
"""Where the signature leaves them open; NumPy's arrays have at most 64."""
_AT_ONCE = 2**15
"""Values that are read or written in one go, some milliseconds: other threads wait meanwhile."""


def sides_of(name: str, message: Any) -> tuple[int, ...]:
    """The shape of an input."""
    sides = tuple(side.size for side in message.tensor_shape.dim)
    if len(sides) > _MOST_SIDES:
        raise invalid(f"input {name!r} has {len(sides):,} sides; at most {_MOST_SIDES} are allowed")
    if message.tensor_shape.unknown_rank or any(side < 0 for side in sides):
        raise invalid(f"input {name!r} has no complete shape")
    return sides


def check_type(name: str, message: Any, dtype: tf.DType) -> None:
    """Raises ServingError if an input is of another type."""
    if message.dtype != dtype.as_datatype_enum:
        raise invalid(f"input {name!r} is {_dtype_name(message.dtype)}; it must be {dtype.name}")


def _dtype_name(number: int) -> str:
    try:
        return tf.dtypes.as_dtype(number).name
    except TypeError:
        return f"of an unknown type ({number})"


def to_array(name: str, message: Any, spec: Spec, sides: tuple[int, ...]) -> np.ndarray:
    """The values of an input whose type and shape, which is `sides`, the spec admits.

    The last value stands for those that follow it, as in TensorFlow, but only within a single row.

    Raises:
        ServingError: if there are too few or too many, they stand in another field, or one does not fit the type.
    """
    dtype, count = spec.dtype, math.prod(sides)
    field, part = PARTS.get(message.dtype) or (VALUE_FIELDS.get(message.dtype, ""), dtype.as_numpy_dtype)
    held = [holder for holder in _HOLDERS if len(getattr(message, holder))]
    if not held:
        if count:
            # TensorFlow Serving takes zeros: a client that wrote the wrong field would be told the class of a black image.
            raise invalid(f"input {name!r} of shape {[*sides]} has no values: send all {count:,}")
        return np.empty(sides, dtype.as_numpy_dtype)
    allowed = [field] if dtype == tf.string else [_CONTENT, field] if field else _HOLDERS
    if len(held) > 1 or held[0] not in allowed:
        raise invalid(f"input {name!r} has values in {' and '.join(held)}; {dtype.name} stands in {' or '.join(allowed)}")
    if held[0] == _CONTENT:
        return _from_content(name, message.tensor_content, dtype, sides)
    if not field:
        return _of_a_rare_type(name, message, dtype, sides)
    values = getattr(message, field)
    parts = np.dtype(dtype.as_numpy_dtype).itemsize // np.dtype(part).itemsize
    least = count if max(sides[:1], default=0) > 1 else 1
    if not least * parts <= len(values) <= count * parts or len(values) % parts:
        raise _miscounted(name, dtype, sides, f"{len(values) // parts:,} came, send all {count:,}")
    return _filled(_read(name, values, field, part).view(dtype.as_numpy_dtype), count).reshape(sides)


def _from_content(name: str, content: bytes, dtype: tf.DType, sides: tuple[int, ...]) -> np.ndarray:
    wanted = math.prod(sides) * dtype.size
    if len(content) != wanted:
        raise _miscounted(name, dtype, sides, f"{len(content):,} bytes came, send {wanted:,}")
    if dtype == tf.bool:
        # Any other byte would be a bool that is neither true nor false.
        return (np.frombuffer(content, np.uint8) != 0).reshape(sides)
    return np.frombuffer(content, dtype.as_numpy_dtype).reshape(sides)


def _of_a_rare_type(name: str, message: Any, dtype: tf.DType, sides: tuple[int, ...]) -> np.ndarray:
    """A quantized type, or one of fewer bits than NumPy knows."""
    try:
        return tf.make_ndarray(message)
    except (TypeError, ValueError, OverflowError) as error:
        raise _miscounted(name, dtype, sides, str(error)) from None


def _miscounted(name: str, dtype: tf.DType, sides: tuple[int, ...], reason: str) -> Exception:
    return invalid(f"input {name!r} does not hold {[*sides]} values of {dtype.name}: {reason}")


def _read(name: str, values: Sequence[Any], field: str, part: Any) -> np.ndarray:
    """The values of a field, as an array of the type of NumPy `part`."""
    is_wider = field in ("int_val", "half_val")
    array = np.empty(len(values), np.int64 if is_wider else part)
    for start in range(0, len(values), _AT_ONCE):
        array[start : start + _AT_ONCE] = values[start : start + _AT_ONCE]
    if not is_wider:
        return array
    limits = np.iinfo(part)
    outside = (array < limits.min) | (array > limits.max)
    if outside.any():
        raise invalid(f"input {name!r} has {array[outside][0]} in {field}, which must lie in {limits.min} to {limits.max}")
    return array.astype(part)


def _filled(values: np.ndarray, count: int) -> np.ndarray:
    """`values` and the last of them, until they are `count`."""
    if len(values) == count:
        return values
    array = np.empty(count, values.dtype)
    array[: len(values)] = values
    array[len(values) :] = values[-1]
    return array


def write(message: Any, array: np.ndarray, dtype: tf.DType) -> None:
    """Fills a TensorProto, the values in their own field, as TensorFlow Serving writes it: clients read `float_val`."""
    number = dtype.as_datatype_enum
    if number not in VALUE_FIELDS:
        message.MergeFromString(tf.make_tensor_proto(array, dtype).SerializeToString())
        return
    message.dtype = number
    for side in array.shape:
        message.tensor_shape.dim.add(size=side)
    values, flat = getattr(message, VALUE_FIELDS[number]), array.ravel()
    for start in range(0, flat.size, _AT_ONCE):
        values.extend(flat[start : start + _AT_ONCE].tolist())
