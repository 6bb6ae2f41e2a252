"""Files that appear whole or not at all, whenever the process or the machine dies."""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

PARTIAL = ".partial-"
"""How the name of a file begins that is being written."""


def with_home(name: str) -> str:
    """The name of a file or folder, a leading ~ or ~USER written out; ~USER stays where there is no such user.

    Raises:
        ValueError: if whoever calls has no home.
    """
    found = os.path.expanduser(name)
    if found == "~" or found.startswith("~/"):
        raise ValueError(f"{name!r} begins with ~, and there is no home folder here: write it out")
    return found


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` to write to; on success it becomes `path`, whole or not at all.

    Raises:
        OSError: if the file cannot be written, as on a full disk, with what to do about it.
    """
    # The ending is kept: Keras, NumPy and Matplotlib choose a format by it. Two processes, of two machines
    # too, have a file each.
    temporary = path.with_name(f"{PARTIAL}{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
    try:
        yield temporary
        move_into_place(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a file in UTF-8, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def move_into_place(temporary: Path, path: Path) -> None:
    """Renames a file that is written completely, so that it survives a crash of the machine."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def cannot_write(path: Path, error: BaseException) -> OSError:
    """What a person is told when `path` could not be written because of `error`."""
    number = getattr(error, "errno", None) or errno.EIO
    reason = getattr(error, "strerror", None) or error
    if not path.parent.is_dir():
        return OSError(number, f"{path} could not be written: {reason}, its folder is gone")
    free = shutil.disk_usage(path.parent).free / 2**30
    return OSError(number, f"{path} could not be written: {reason}, {free:.1f} GiB are free there")
