"""How programs of the project are started and named: from a checkout and from an installed package.

In a checkout `export`, `tools` and `configs` stand beside the package, and `python -m tools.report` runs one. A wheel has them
in a folder of the package, as nobody wants packages called `export` and `tools` among all others; there one console command
runs them: `r2d2 report`.
"""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

_PACKAGE = Path(__file__).parent.parent
INSTALLED = _PACKAGE / "_commands"
"""Where a wheel has export, tools and configs; pyproject.toml puts them there."""
CONSOLE, CONSOLE_MODULE = "r2d2", "r2d2_tf"
"""The console command, and the module that `python -m` runs in its place."""
MODULES = (
    *("r2d2_tf.train", "tools.check_data", "tools.report", "tools.evaluate", "tools.predict"),
    *("export", "export.serve", "export.client", "export.inference", "tools.load_test"),
    *("tools.label_queue", "tools.label_queue.queue_experiment", "tools.suspects", "tools.pseudo_labels"),
    *("tools.repeat", "tools.compare", "tools.tune", "tools.check_data.proposal_trial"),
    *("tools.reproduce", "tools.reproduce.baselines", "tools.reproduce.theorem_check", "tools.reproduce.feature_plot"),
    *("tools.torture", "tools.benchmark"),
)
"""All programs, in the order in which a newcomer meets them."""
_FLAG = re.compile(r"(--\w+=)(.+)", re.DOTALL)
_IN_A_TEXT = re.compile(r"python -m ((?:r2d2_tf|tools|export)\b[\w.]*\b)")


def is_installed() -> bool:
    """Whether this runs from a wheel; an editable install runs from its checkout."""
    return INSTALLED.is_dir()


def root() -> Path:
    """The folder that holds export, tools and configs."""
    return INSTALLED if is_installed() else _PACKAGE.parent


def name_of(module: str) -> str:
    """What the console command calls a program: `tools.check_data` is `check-data`."""
    return re.sub(r"^(r2d2_tf|tools|export)\.", "", module).replace("_", "-")


BY_NAME = {name_of(module): module for module in MODULES}


def command_line(module: str, arguments: Sequence[str] = ()) -> list[str]:
    """What starts a program of the project in a process of its own; hand `environment()` to it, too."""
    named = [CONSOLE_MODULE, name_of(module)] if is_installed() else [module]
    return [sys.executable, "-m", *named, *arguments]


def environment() -> dict[str, str]:
    """The environment of such a process: in a checkout it finds the project from any working directory."""
    if is_installed():
        return dict(os.environ)
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(root()), *others])}


def shown(module: str, *arguments: str) -> str:
    """The words that a person types to run a program: `python -m tools.report`, or `r2d2 report` where it is installed."""
    return pasted([CONSOLE, name_of(module), *arguments] if is_installed() else ["python", "-m", module, *arguments])


def command_of(module: str, *arguments: str) -> str:
    """The same by this very interpreter, to be pasted into a shell whose PATH need not know it."""
    named = [*_console(), name_of(module)] if is_installed() else [typed(sys.executable), "-m", module]
    return pasted([*named, *arguments])


def in_text(text: str) -> str:
    """A text in which programs are named as in a checkout, such as the help of one, as a person types them here."""
    return _IN_A_TEXT.sub(lambda found: shown(found[1]), text) if is_installed() else text


def typed(path: str | Path) -> str:
    """`path` as a person would type it: relative to the working directory where it lies below it."""
    path = Path(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def brought(path: Path) -> Path:
    """The project's own file where `path`, as in `configs/mnist5k.cfg`, is not in the working directory."""
    own = root() / path
    return own if path.parts[:1] == ("configs",) and not path.exists() and own.is_file() else path


def pasted(words: Sequence[str]) -> str:
    """A command line as it goes into a shell; of `--flag=value` the value alone is quoted."""
    parts = [(_FLAG.fullmatch(word) or ("", "", word)) for word in words]
    return " ".join(part[1] + shlex.quote(part[2]) for part in parts)


def _console() -> list[str]:
    beside = Path(sys.executable).parent / CONSOLE
    if shutil.which(CONSOLE) == str(beside):
        return [CONSOLE]
    return [typed(beside)] if beside.is_file() else [typed(sys.executable), "-m", CONSOLE_MODULE]
