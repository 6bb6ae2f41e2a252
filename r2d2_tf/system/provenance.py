"""What a result came from: machine, versions, commit of the source, digests of numbers."""

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from importlib import metadata

import numpy as np

from r2d2_tf.system import commands

_SOURCES = ("r2d2_tf", "export", "tools", "configs", "requirements.txt")


def machine() -> str:
    """What kind of machine this is, as in `Linux x86_64, 2 CPUs`."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"


def versions(*others: str) -> dict[str, str]:
    """Versions of what a result depends on, and of `others` that are installed."""
    names = ("r2d2_tf", "keras", "numpy", "tensorflow", "tensorflow-cpu", *others)
    return {name: version for name in names if (version := _version(name))}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """The commit of the project, `-dirty` if the source or a config was changed since; None outside a checkout of it.

    Results that a program writes into the checkout do not count.
    """
    # An installed package may lie in a checkout of something else.
    commit = "" if commands.is_installed() else _git("describe", "--always", "--abbrev=12", "--exclude=*")
    if not commit:
        return None
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", *_SOURCES)
    return f"{commit}-dirty" if changed else commit


def told_commit(commit: str | None) -> str:
    """The same for people; of a package that was installed, its version is what is known."""
    return f"commit {commit}" if commit else "commit unknown, of an installed package"


def _git(*arguments: str) -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    answer = subprocess.run([git, "-C", str(commands.root()), *arguments], capture_output=True, text=True, check=False)
    return answer.stdout.strip()


def digest_of(arrays: Iterable[np.ndarray]) -> str:
    """16 hexadecimal digits of a SHA-256 of the bytes of arrays, one after another."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
