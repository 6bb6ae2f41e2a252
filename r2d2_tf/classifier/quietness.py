"""What a fit leaves behind besides its folder: nothing on the screen, and nothing of arrays in the user's cache folder."""

import contextlib
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

from r2d2_tf.data.cache import FOLDER_VARIABLE

_WARNING = "warning: "
_STACK = 4
"""Frames from here to the line that called fit."""


@contextlib.contextmanager
def printed_into(log: Path | None) -> Iterator[None]:
    """Has what is printed in the block written into a file, and its warnings given after it as Python's; None: it is shown."""
    if log is None:
        yield
        return
    with log.open("a+", encoding="utf-8") as file:
        before = file.tell()
        with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            yield
        file.seek(before)
        told = [line for line in file.read().splitlines() if line.startswith(_WARNING)]
    for line in told:
        warnings.warn(line.removeprefix(_WARNING), UserWarning, stacklevel=_STACK)


@contextlib.contextmanager
def kept_in(folder: Path | None) -> Iterator[None]:
    """Has what is found of images, as features, kept in a folder, and removed after the block; None: in the user's own.

    That of arrays would be found by no later run, and fill the disk.
    """
    if folder is None or os.environ.get(FOLDER_VARIABLE):
        yield
        return
    os.environ[FOLDER_VARIABLE] = str(folder / "cache")
    try:
        yield
    finally:
        del os.environ[FOLDER_VARIABLE]
        shutil.rmtree(folder / "cache", ignore_errors=True)
