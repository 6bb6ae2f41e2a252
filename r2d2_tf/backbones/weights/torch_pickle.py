"""The pickles in a file of `torch.save`, without Python's pickle: no name in a file is looked up, and nothing is called."""

import io
import pickletools
from typing import Any, NamedTuple, TypeVar

import numpy as np

_DICTIONARY, _TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
_STORAGES: dict[str, np.dtype] = {
    "torch FloatStorage": np.dtype("<f4"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch LongStorage": np.dtype("<i8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MOST_STEPS = 200_000
"""Ten times what the largest network takes."""
_MARK = object()
_Kind = TypeVar("_Kind")


class Name(NamedTuple):
    """Something that the file wants to have from a module: a word, here."""

    text: str


class Storage(NamedTuple):
    """Numbers that lie elsewhere in the file, under a key."""

    key: str
    dtype: np.dtype
    length: int


class Tensor(NamedTuple):
    """A part of a storage; `offset` and `strides` in numbers, none of which is negative."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    strides: tuple[int, ...]


def load(file: io.BytesIO) -> object:
    """Reads one pickle, up to its end: numbers, texts, tuples, lists, dictionaries and Tensors.

    Raises:
        ValueError: if it holds anything else, or is damaged.
    """
    stack: list = []
    memo: dict[int, object] = {}
    try:
        for step, (code, value, _) in enumerate(pickletools.genops(file)):
            if step > _MOST_STEPS:
                raise ValueError("its pickle is longer than that of any network here")
            _do(code.name, value, stack, memo)
        return stack.pop()
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("its pickle is damaged") from error


def _do(code: str, value: Any, stack: list, memo: dict) -> None:
    """One step, as pickletools describes it."""
    if code in _VALUES:
        stack.append(value)
    elif code in _CONSTANTS:
        stack.append(_CONSTANTS[code])
    elif code in ("EMPTY_DICT", "EMPTY_LIST"):
        stack.append({} if code == "EMPTY_DICT" else [])
    elif code == "MARK":
        stack.append(_MARK)
    elif code in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
        memo[len(memo) if code == "MEMOIZE" else value] = stack[-1]
    elif code in ("BINGET", "LONG_BINGET"):
        stack.append(memo[value])
    elif code == "TUPLE":
        stack.append(tuple(_since_mark(stack)))
    elif code in _TUPLES:
        stack.append(tuple(_last(stack, _TUPLES[code])))
    elif code in ("APPEND", "APPENDS"):
        values = _last(stack, 1) if code == "APPEND" else _since_mark(stack)
        _checked(stack[-1], list).extend(values)
    elif code in ("SETITEM", "SETITEMS"):
        values = _last(stack, 2) if code == "SETITEM" else _since_mark(stack)
        keys = [_checked(key, str) for key in values[::2]]
        _checked(stack[-1], dict).update(zip(keys, values[1::2], strict=True))
    elif code == "GLOBAL":
        stack.append(_name(value))
    elif code == "STACK_GLOBAL":
        stack.append(_name(" ".join(_last(stack, 2))))
    elif code == "BINPERSID":
        stack.append(_storage(*stack.pop()))
    elif code == "REDUCE":
        name, arguments = _last(stack, 2)
        stack.append(_made(_checked(name, Name).text, arguments))
    elif code == "BUILD":
        # What a state_dict says of versions beside its tensors.
        _last(stack, 1)
        _checked(stack[-1], dict)
    elif code not in ("PROTO", "FRAME", "STOP"):
        raise ValueError(f"its pickle wants {code}, which is not done: save the network's state_dict()")


def _last(stack: list, count: int) -> list:
    """Takes as many values off the stack."""
    if len(stack) < count:
        raise ValueError("its pickle is damaged")
    values = stack[-count:]
    del stack[-count:]
    return values


def _since_mark(stack: list) -> list:
    values = []
    while (value := stack.pop()) is not _MARK:
        values.append(value)
    return values[::-1]


def _checked(value: object, kind: type[_Kind]) -> _Kind:
    if not isinstance(value, kind):
        raise ValueError("its pickle is damaged, or holds what no state_dict does")
    return value


def _name(text: str) -> Name:
    if text not in (_DICTIONARY, _TENSOR, *_STORAGES):
        raise ValueError(
            f"it wants {text[:100]!r}, and nothing but tensors of float32, float16 and int64 is read: save the network's "
            "state_dict()"
        )
    return Name(text)


def _made(name: str, arguments: tuple) -> object:
    if name == _DICTIONARY and arguments == ():
        return {}
    if name != _TENSOR or not isinstance(arguments, tuple):
        raise ValueError("its pickle is damaged, or holds what no state_dict does")
    storage, offset, size, strides, *_ = arguments
    _checked(storage, Storage)
    for number in (offset, *size, *strides):
        if type(number) is not int or not 0 <= number < 1 << 40:
            raise ValueError("one of its tensors has a size, a stride or a place that is not possible")
    if len(size) != len(strides) or len(size) > 8 or 0 in size:
        raise ValueError("one of its tensors has a size that is not possible")
    return Tensor(storage, offset, tuple(size), tuple(strides))


def _storage(word: str, kind: Name, key: str, _place: str, count: int, view: None = None) -> Storage:
    """`_place` is the device; `view` is of files older than those that are read."""
    if word != "storage" or kind.text not in _STORAGES or view is not None or type(count) is not int or type(key) is not str:
        raise ValueError("its pickle is damaged, or holds what no state_dict does")
    return Storage(key, _STORAGES[kind.text], count)
