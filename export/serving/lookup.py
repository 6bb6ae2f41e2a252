"""What clients ask for, held against what there is and what is allowed, in the words of both protocols.

Imports no TensorFlow.
"""

from collections.abc import Collection, Mapping
from typing import TypeVar

from export.serving.errors import Code, ServingError, invalid

Found = TypeVar("Found")


def named_signature(signatures: Mapping[str, Found], name: str) -> Found:
    """The signature of that name, or a ServingError."""
    if name not in signatures:
        raise invalid(f"there is no signature {name!r}: use {', '.join(signatures)}")
    return signatures[name]


def check_input_names(signature_name: str, inputs: Mapping[str, object], names: Collection[str]) -> None:
    """Raises ServingError unless `names` are those of all `inputs`, whose values are shown in messages, and no others."""
    given = set(names)
    if given == inputs.keys():
        return
    wanted = ", ".join(f"{name} ({spec})" for name, spec in inputs.items())
    for name in names:
        if name not in inputs:
            raise invalid(f"there is no input {name!r}; signature {signature_name!r} takes {wanted}")
    missing = next(name for name in inputs if name not in given)
    raise invalid(f"input {missing!r} is missing; signature {signature_name!r} takes {wanted}")


def check_rows(rows: int, most: int) -> None:
    """Raises ServingError if a request has more rows than it may."""
    if rows > most:
        raise ServingError(Code.TOO_LARGE, f"{rows:,} rows; a request may have {most:,}: send fewer at a time")
