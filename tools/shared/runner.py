"""Runs of `r2d2_tf.train` as processes."""

import fcntl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.runs import run_directory
from r2d2_tf.system.commands import command_line, environment


class RunFailed(RuntimeError):
    """A run did not finish, but ended with this exit code; its own message says why."""

    def __init__(self, folder: Path, code: int) -> None:
        super().__init__(f"the run in {folder} did not finish; its own message says why")
        self.code = code


def summary_of(arguments: Sequence[str]) -> dict[str, Any]:
    """The summary of the run that a command line asks for, which is trained now if need be.

    Raises:
        RunFailed: if it does not finish.
        ValueError: if its folder holds another run.
    """
    config = from_command_line(arguments)
    summary = run_directory.finished_summary(config)
    if summary is None:
        print(f"\n{config.resolved_run_dir}", flush=True)
        summary = train(arguments)
    return summary


def train(arguments: Sequence[str], pass_fds: Sequence[int] = ()) -> dict[str, Any]:
    """Trains, or goes on training, the run that a command line asks for, and returns its summary.

    Raises:
        RunFailed: if it does not finish.
    """
    folder = from_command_line(arguments).resolved_run_dir
    if code := run_to_the_end(command_line("r2d2_tf.train", arguments), pass_fds):
        raise RunFailed(folder, code)
    return run_directory.read_summary(folder)


def run_to_the_end(command: Sequence[str], pass_fds: Sequence[int] = ()) -> int:
    """Runs a program and returns its exit code.

    Ctrl-C reaches the program too: it is given the time to save itself.

    Raises:
        KeyboardInterrupt: after the program's end, if it was interrupted.
    """
    interrupted = False
    with subprocess.Popen(command, env=environment(), pass_fds=pass_fds) as process:
        while process.returncode is None:
            try:
                process.wait()
            except KeyboardInterrupt:
                interrupted = True
    if interrupted:
        raise KeyboardInterrupt
    return process.returncode


@contextmanager
def alone(folder: Path) -> Iterator[int]:
    """Waits while another program, or a run that a killed one left, works on `folder`; then nobody else does.

    Gives the lock beside the folder: runs that inherit it hold it on if this program is killed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for the run in {folder}, which a living process trains", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()
