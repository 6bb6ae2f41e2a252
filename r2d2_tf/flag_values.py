"""Is the value of one flag allowed?"""

import dataclasses
import difflib
import math
from collections.abc import Mapping
from typing import Any

_MOST = {int: 2**31 - 1, float: 1e30}
"""What a number may be where a flag sets no limit of its own: it must fit into 32 bits."""


def checked(field: dataclasses.Field, value: Any) -> Any:
    """A flag's value, a float where that is what the flag takes."""
    name, kind = field.name, type(field.default)
    if kind is float and type(value) is int:
        value = float(value) if abs(value) < 2**1023 else math.inf
    if type(value) is not kind:
        raise ValueError(f"{name} ({value!r}) must be a value of type {kind.__name__}: change --{name}")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{name} ({value}) must be a finite number: change --{name}")
        value += 0.0  # -0.0 would be equal to 0.0, and have another digest.
    _check(name, value, field.metadata)
    return value


def _check(name: str, value: Any, allowed: Mapping[str, Any]) -> None:
    if isinstance(value, str) and (value != value.strip() or not value.isprintable()):
        raise ValueError(f"{name} ({value!r}) must not begin or end with a space or hold control characters: change --{name}")
    if type(value) in _MOST:
        allowed = {"high": _MOST[type(value)], **allowed}
    choices = allowed.get("choices")
    others = allowed.get("others", "")
    begins = value.startswith(allowed["beginning"]) if "beginning" in allowed else bool(others) and ":" in value
    if choices is not None and value not in choices and not begins:
        near = difflib.get_close_matches(value, choices, n=1, cutoff=0.0)[0]
        more = f", {others}" if others else ""
        raise ValueError(f"{name} ({value!r}) must be one of {', '.join(choices)}{more}: did you mean --{name}={near}?")
    for key, words, ok in (
        ("low", "at least", lambda v, limit: v >= limit),
        ("above", "above", lambda v, limit: v > limit),
        ("high", "at most", lambda v, limit: v <= limit),
        ("below", "below", lambda v, limit: v < limit),
    ):
        if key in allowed and not ok(value, allowed[key]):
            raise ValueError(f"{name} ({value}) must be {words} {allowed[key]}: change --{name}")
