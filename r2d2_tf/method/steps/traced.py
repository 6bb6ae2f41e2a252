"""Attributes that never go stale: what a step was traced with."""

from collections.abc import Callable
from typing import Any


class Traced:
    """An attribute that a model's step is traced with: set to another value, even between steps, it is traced anew.

    Args:
        kept_as: makes of what is set what is kept, and raises ValueError for what may not be set; None: it is kept as it is.
    """

    def __init__(self, kept_as: Callable[[Any], Any] | None = None) -> None:
        self._kept_as = kept_as

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_traced_{name}"

    def __get__(self, model: Any, owner: type | None = None) -> Any:
        # The class itself is asked by who looks for documentation.
        return self if model is None else getattr(model, self._name)

    def __set__(self, model: Any, value: Any) -> None:
        value = value if self._kept_as is None else self._kept_as(value)
        is_new = not hasattr(model, self._name) or getattr(model, self._name) != value
        setattr(model, self._name, value)
        if is_new and model.train_function is not None:
            model.make_train_function(force=True)
