"""Attributes that never go stale: what a step was traced with."""

from typing import Any


class Traced:
    """An attribute that a model's step is traced with: set to another value, even between steps, it is traced anew."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_traced_{name}"

    def __get__(self, model: Any, owner: type | None = None) -> Any:
        # The class itself is asked by who looks for documentation.
        return self if model is None else getattr(model, self._name)

    def __set__(self, model: Any, value: Any) -> None:
        is_new = not hasattr(model, self._name) or getattr(model, self._name) != value
        setattr(model, self._name, value)
        if is_new and model.train_function is not None:
            model.make_train_function(force=True)
