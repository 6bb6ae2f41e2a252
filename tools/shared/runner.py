"""Runs as processes."""

import fcntl
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO


def run_to_the_end(command: Sequence[str], pass_fds: Sequence[int] = ()) -> int:
    """Runs a program and returns its exit code.

    Ctrl-C reaches the program too: it is given the time to save itself.

    Raises:
        KeyboardInterrupt: after the program's end, if it was interrupted.
    """
    with subprocess.Popen(command, pass_fds=pass_fds) as process:
        interrupted = False
        while True:
            try:
                code = process.wait()
                break
            except KeyboardInterrupt:
                interrupted = True
    if interrupted:
        raise KeyboardInterrupt
    return code


def wait_for_lock(lock: IO[str], folder: Path) -> None:
    """Waits while another program, or a run that a killed one left, works on `folder`; then nobody else does."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting for the run in {folder}, which a living process trains", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
