"""A signature of a loaded SavedModel: what it takes and returns, checked, and run on NumPy arrays."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from export.serving.errors import ServingError, graph_message, invalid
from export.serving.lookup import check_input_names

Arrays = dict[str, np.ndarray]
_INTERNAL_SIGNATURE = "__saved_model_init_op"


class Spec(NamedTuple):
    """The dtype and shape of one tensor; `shape` has None for any size, and is None where the rank is open too."""

    dtype: tf.DType
    shape: tuple[int | None, ...] | None

    @property
    def has_rows(self) -> bool:
        """Whether the first axis is a batch of any size."""
        return bool(self.shape) and self.shape[0] is None  # type: ignore[index]

    @property
    def has_fixed_size(self) -> bool:
        """Whether all but the number of rows is known, so that a row always takes as much work."""
        return self.dtype != tf.string and self.shape is not None and None not in self.shape[1:]

    def admits(self, shape: tuple[int, ...]) -> bool:
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(b in (None, a) for a, b in zip(shape, self.shape, strict=True))

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype.name} of any shape"
        return f"{self.dtype.name} [{', '.join('any' if side is None else str(side) for side in self.shape)}]"


class Signature:
    """One signature.

    Attributes:
        inputs, outputs: the tensors by name.
        merges: whether requests can be joined along the first axis. False too once an output turned out not to have a
            row for each row of the input.
    """

    def __init__(self, name: str, function: Callable[..., Any], definition: Any) -> None:
        self.name = name
        self.inputs = {key: _spec(info) for key, info in sorted(definition.inputs.items())}
        self.outputs = {key: _spec(info) for key, info in sorted(definition.outputs.items())}
        specs = [*self.inputs.values(), *self.outputs.values()]
        self.merges = bool(self.inputs) and all(spec.has_rows for spec in specs)
        self._function = function

    def check(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Raises ServingError unless `arrays` are the inputs, of the right types and shapes, with at least one row."""
        self.check_names(arrays)
        self.check_shapes({name: array.shape for name, array in arrays.items()})

    def check_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raises ServingError unless these are shapes of the inputs, with at least one row."""
        for name, shape in shapes.items():
            spec = self.inputs[name]
            if not spec.admits(shape):
                raise invalid(f"input {name!r} has shape {list(shape)}; signature {self.name!r} takes {spec}")
            if spec.has_rows and not shape[0]:
                raise invalid(f"input {name!r} has no rows: send at least one")

    def rows(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """The rows of inputs of these shapes; 0 where no input has any."""
        return max((shape[0] for name, shape in shapes.items() if shape and self.inputs[name].has_rows), default=0)

    def check_names(self, names: Mapping[str, Any]) -> None:
        """Raises ServingError unless each input is there, and nothing else."""
        check_input_names(self.name, self.inputs, names)

    def run(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        """The outputs for inputs that `check` has passed.

        Raises:
            ServingError: if the model refuses them.
        """
        tensors = {name: tf.constant(array, self.inputs[name].dtype) for name, array in arrays.items()}
        try:
            outputs = self._function(**tensors)
        except tf.errors.InvalidArgumentError as error:
            raise invalid(graph_message(str(error))) from error
        return {name: outputs[name].numpy() for name in self.outputs}

    def warm_up(self) -> None:
        """Runs one row of zeros, if every shape is known but for the number of rows."""
        if not all(spec.has_fixed_size for spec in self.inputs.values()):
            return
        zeros = {
            name: np.zeros([1 if side is None else side for side in spec.shape or ()], spec.dtype.as_numpy_dtype)
            for name, spec in self.inputs.items()
        }
        # A model may refuse zeros; any other failure says that it cannot run.
        with contextlib.suppress(ServingError):
            self.run(zeros)

    def __str__(self) -> str:
        takes, returns = (", ".join(f"{name} {spec}" for name, spec in part.items()) for part in (self.inputs, self.outputs))
        return f"{takes} -> {returns}"


def _spec(info: Any) -> Spec:
    shape = info.tensor_shape
    sides = None if shape.unknown_rank else tuple(dim.size if dim.size >= 0 else None for dim in shape.dim)
    return Spec(tf.dtypes.as_dtype(info.dtype), sides)


def servable_signatures(functions: Mapping[str, Callable[..., Any]], definitions: Mapping[str, Any]) -> dict[str, Signature]:
    """The signatures that can be asked for: those whose inputs and outputs are all dense tensors."""
    found = {}
    for name, definition in sorted(definitions.items()):
        infos = [*definition.inputs.values(), *definition.outputs.values()]
        is_dense = all(info.WhichOneof("encoding") == "name" for info in infos)
        if name in functions and name != _INTERNAL_SIGNATURE and is_dense:
            found[name] = Signature(name, functions[name], definition)
    return found
