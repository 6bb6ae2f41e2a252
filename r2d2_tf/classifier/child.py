"""Runs a command of the project, which the package does not import, in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from r2d2_tf.system import commands
from r2d2_tf.system.messages import one_line

_MISTAKE = 2
"""Exit code of a command that was given something wrong."""


def run_command(module: str, arguments: Sequence[str], *, places: Sequence[Path], verbose: bool) -> None:
    """Runs `python -m module arguments`.

    Args:
        module: of export or tools.
        arguments: of its command line.
        places: folders in which it finds modules besides its own and those of this process, as that of a network.
        verbose: show what it prints.

    Raises:
        ValueError: in its words, if it was given something wrong.
        RuntimeError: in its words, if it failed otherwise.
    """
    python, *rest = commands.command_line(module, arguments)
    environment = commands.environment()
    # What this process imports from comes last and not first: files of the user's may be called export.py or tools.py.
    paths = [
        *environment.get("PYTHONPATH", "").split(os.pathsep),
        *map(str, places),
        *(path or os.getcwd() for path in sys.path),
    ]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    done = subprocess.run([python, "-P", *rest], env=environment, capture_output=True, text=True)
    if verbose:
        print(done.stdout, end="", flush=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"{module} ended with exit code {done.returncode}"]
        told = next((line for line in lines if line.startswith("error: ")), lines[-1])
        raise (ValueError if done.returncode == _MISTAKE else RuntimeError)(one_line(told.removeprefix("error: ")))
