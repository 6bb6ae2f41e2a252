"""What --backbone names beyond the project's own networks, told from files: neither TensorFlow nor that code is imported."""

import ast
import difflib
import importlib
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import PathFinder
from pathlib import Path

APPLICATIONS = "keras.applications"
ARGUMENTS = ("image_shape", "num_classes", "batch_norm")
"""What a function may take, by these names; the first it must take."""
_FORM = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_EXAMPLES = f"{APPLICATIONS}:EfficientNetV2B0, or package.module:function of your own"


def check_form(backbone: str) -> None:
    """Raises ValueError unless `backbone` is `module:function`."""
    if not _FORM.fullmatch(backbone):
        raise ValueError(f"backbone ({backbone!r}) is not module:function: write {_EXAMPLES}")


def parted(backbone: str) -> tuple[str, str]:
    """The module and the function of `module:function`."""
    module, _, function = backbone.partition(":")
    return module, function


def is_application(backbone: str) -> bool:
    """Whether it is a network of keras.applications."""
    return parted(backbone)[0] == APPLICATIONS


def check(backbone: str, *, synchronized_batch_norm: bool) -> None:
    """Finds a mistake in a `module:function` that passed `check_form`, as far as its source shows it.

    Raises:
        ValueError: if there is no such application, module or function, or the function takes other arguments.
    """
    module, function = parted(backbone)
    if module == APPLICATIONS:
        application_module(function)
        check_arguments(backbone, {}, synchronized_batch_norm=synchronized_batch_norm)
        return
    if module.startswith(f"{APPLICATIONS}."):
        raise ValueError(f"backbone ({backbone}): write {APPLICATIONS}:{function}")
    source = _source_of(backbone)
    if source is None:
        return
    try:
        tree = ast.parse(source.read_bytes())
    except SyntaxError as error:
        raise ValueError(f"backbone ({backbone}): {source}, line {error.lineno}, is not Python: {error.msg}") from error
    bound = dict(_bound(tree.body))
    if function not in bound and not bound.keys() & {"*", "__getattr__"}:
        raise ValueError(f"backbone ({backbone}): there is no {function} in {source}{_near(function, bound, f'{module}:')}")
    found = bound.get(function)
    if isinstance(found, ast.FunctionDef) and not found.decorator_list:
        check_arguments(backbone, _arguments(found.args), synchronized_batch_norm=synchronized_batch_norm)


def application_module(name: str) -> str:
    """The module within keras.applications that a network is of, and its `preprocess_input` too.

    Raises:
        ValueError: if there is no such network.
    """
    modules = applications()
    if name not in modules:
        raise ValueError(f"backbone: {APPLICATIONS} has no network {name}{_near(name, modules, f'{APPLICATIONS}:')}")
    return modules[name]


def applications() -> dict[str, str]:
    """The networks of keras.applications, each with its module; read from the source of the package's list."""
    keras = PathFinder.find_spec("keras")
    folders = keras.submodule_search_locations if keras else None
    if not folders:
        raise ValueError(f"there is no package keras, whose {APPLICATIONS} --backbone names")
    tree = ast.parse((Path(folders[0]) / "applications" / "__init__.py").read_bytes())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module]
    # `from keras.src.applications.vgg16 import VGG16`; others import the modules.
    return {
        alias.name: str(node.module).rpartition(".")[2]
        for node in imports
        for alias in node.names
        if str(node.module).startswith("keras.src.")
    }


def check_arguments(backbone: str, needed: Mapping[str, bool], *, synchronized_batch_norm: bool) -> None:
    """Raises ValueError unless a function can be called with ARGUMENTS.

    `needed` are the arguments that it takes, and whether each must be given; none for an application.
    """
    others = [name for name, is_needed in needed.items() if is_needed and name not in ARGUMENTS]
    if not is_application(backbone) and (others or "image_shape" not in needed):
        wrong = f"wants {others[0]}" if others else "does not take image_shape"
        raise ValueError(
            f"backbone ({backbone}) {wrong}: write def {parted(backbone)[1]}(image_shape), which returns a Keras model that "
            "gives features, or (image_shape, num_classes) for one that gives logits; batch_norm is optional"
        )
    if synchronized_batch_norm and "batch_norm" not in needed:
        raise ValueError(
            f"synchronized_batch_norm does not reach the layers of --backbone={backbone}: leave it out, or take a function of "
            "your own with the argument batch_norm, which makes such a layer"
        )


def _source_of(backbone: str) -> Path | None:
    """The file of a function's module, found without importing its packages; None if it is not written in Python."""
    module = parted(backbone)[0]
    importlib.invalidate_caches()
    parts = module.split(".")
    places, spec = None, None
    for count in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:count]), None if places is None else list(places))
        if spec is None or (spec.submodule_search_locations is None and count < len(parts)):
            raise ValueError(
                f"backbone ({backbone}): there is no module {module}: give one of the current folder, or that is installed, or "
                f"{APPLICATIONS}:NAME"
            )
        places = spec.submodule_search_locations
    path = Path(spec.origin) if spec and spec.origin else None
    return path if path is not None and path.suffix == ".py" else None


def _bound(body: Iterable[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """The names that a module's statements bind, each with the statement; `*` stands for any."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name, node) for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            yield from ((name.id, node) for name in ast.walk(node) if isinstance(name, ast.Name))
        else:
            for block in ("body", "orelse", "finalbody", "handlers"):
                for inner in getattr(node, block, ()):
                    yield from _bound(inner.body if isinstance(inner, ast.ExceptHandler) else [inner])


def _arguments(arguments: ast.arguments) -> dict[str, bool]:
    positional = [*arguments.posonlyargs, *arguments.args]
    first_default = len(positional) - len(arguments.defaults)
    needed = {argument.arg: number < first_default for number, argument in enumerate(positional)}
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        needed[argument.arg] = default is None
    return needed


def _near(name: str, names: Iterable[str], prefix: str) -> str:
    near = difflib.get_close_matches(name, list(names), n=3)
    return f": did you mean {' or '.join(prefix + other for other in near)}?" if near else f": write {_EXAMPLES}"
