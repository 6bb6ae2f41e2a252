"""`r2d2 COMMAND ...`, or `python -m r2d2_tf COMMAND ...`: every program of the project by its name.

In a checkout `python -m` runs the same programs by the names of their modules.
"""

import ast
import difflib
import os
import re
import runpy
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from r2d2_tf import __version__
from r2d2_tf.system import commands

_EXTRAS = {
    **dict.fromkeys(("aiohttp", "grpc", "grpc_health", "prometheus_client", "requests"), "serve"),
    **dict.fromkeys(("onnx", "onnxruntime", "tf2onnx"), "onnx"),
    "keras_tuner": "tune",
}
"""A package that some programs import -> the extra that installs it."""
_WIDTH = 100


def main() -> int:
    """Runs the program that the command line names, and returns the exit code where it does not end the process itself."""
    # In front of whatever else is called tools or export; then, as for `python -m`, the working directory.
    is_kept_out = sys.flags.safe_path or os.getcwd() in sys.path
    sys.path[:0] = [str(commands.root()), *([] if is_kept_out else [os.getcwd()])]
    return run(sys.argv[1:])


def run(arguments: Sequence[str]) -> int:
    """The same for `arguments`, with programs importable."""
    name = commands.name_of(arguments[0]) if arguments else "--help"
    if name in ("--help", "-h", "help"):
        print(help_text())
        return 0
    if name == "--version":
        print(f"r2d2_tf {__version__}")
        return 0
    if name not in commands.BY_NAME:
        near = difflib.get_close_matches(name, commands.BY_NAME, n=1)
        hint = f"did you mean {near[0]}?" if near else f"{commands.CONSOLE} --help lists all"
        print(f"error: there is no command {arguments[0]}: {hint}", file=sys.stderr)
        return 2
    sys.argv = [f"{commands.CONSOLE} {name}", *arguments[1:]]
    try:
        runpy.run_module(commands.BY_NAME[name], run_name="__main__", alter_sys=True)
    except ModuleNotFoundError as error:
        if (extra := _EXTRAS.get((error.name or "").partition(".")[0])) is None:
            raise
        print(f"error: {name} needs {error.name}, which is not installed: pip install 'r2d2_tf[{extra}]'", file=sys.stderr)
        return 2
    return 0


def help_text() -> str:
    """All commands, each with what its program says of itself; imports none of them."""
    width = max(map(len, commands.BY_NAME)) + 4
    lines = [f"usage: {commands.CONSOLE} COMMAND --flag=value ...", ""]
    for name, module in commands.BY_NAME.items():
        about = textwrap.fill(commands.in_text(_about(module)), _WIDTH - width, break_on_hyphens=False)
        lines.append(f"  {name:{width - 2}}{textwrap.indent(about, ' ' * width).lstrip()}")
    return "\n".join([*lines, "", f"{commands.CONSOLE} COMMAND --help lists the flags of one."])


def _about(module: str) -> str:
    """The first line of a module's docstring, without the command that it begins with."""
    docstring = ast.get_docstring(ast.parse(_file_of(module).read_text(encoding="utf-8"))) or ""
    about = re.sub(r"^`[^`]*`: ", "", docstring.partition("\n")[0])
    return about[:1].lower() + about[1:].removesuffix(".")


def _file_of(module: str) -> Path:
    package, *rest = module.split(".")
    folder = Path(__file__).parent if package == "r2d2_tf" else commands.root() / package
    path = folder.joinpath(*rest)
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


if __name__ == "__main__":
    sys.exit(main())
