"""Tensors in a `.safetensors` file: 8 bytes, the length of a header in JSON, which says where in the rest each tensor is.

Read here, as it is as short as calling the package `safetensors`, and one dependency less.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

_DTYPES: dict[str, np.dtype] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "I64": np.dtype("<i8")}


def read(content: bytes) -> dict[str, np.ndarray]:
    """The tensors of a file, by name; they are views of its bytes.

    Raises:
        ValueError: if it is damaged, or holds numbers of a kind that is not read here.
    """
    length = int.from_bytes(content[:8], "little")
    if length > len(content) - 8:
        raise ValueError("it is cut short, or is no .safetensors file")
    try:
        header = json.loads(content[8 : 8 + length])
    # RecursionError is of brackets within brackets.
    except (ValueError, RecursionError) as error:
        raise ValueError("its header is damaged, or it is no .safetensors file") from error
    if not isinstance(header, dict):
        raise ValueError("its header is no table of tensors")
    data = memoryview(content)[8 + length :]
    return {name: _tensor(name, told, data) for name, told in header.items() if name != "__metadata__"}


def _tensor(name: str, told: Any, data: memoryview) -> np.ndarray:
    told = told if isinstance(told, Mapping) else {}
    kind, shape, place = told.get("dtype"), told.get("shape"), told.get("data_offsets")
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise ValueError(f"{name[:100]!r} is not of {', '.join(_DTYPES)}: save it as one of them")
    if not (_are_counts(shape) and _are_counts(place) and len(place) == 2 and len(shape) <= 8):
        raise ValueError(f"{name[:100]!r} has no shape or place that could be read")
    begin, end = place
    if not begin <= end <= len(data) or end - begin != math.prod(shape) * _DTYPES[kind].itemsize:
        raise ValueError(f"{name[:100]!r} is not where its header says: the file is cut short or damaged")
    return np.frombuffer(data[begin:end], _DTYPES[kind]).reshape(shape)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 40 for value in values)
