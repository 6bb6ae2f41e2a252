"""Runs as processes, some at a time, and how far they are."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2d2_tf.config.config import Config
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.metrics_log import read_metrics
from r2d2_tf.system import files

_PATIENCE = 0.2
"""Seconds between two looks at the processes."""
_THREAD_VARIABLES = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Job:
    """A run of `r2d2_tf.train` in a folder, beside which its flagfile (.cfg) and what it prints (.log) lie."""

    config: Config
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def epochs_done(self) -> int:
        """Epochs over all stages that are measured already."""
        path = self.folder / run_directory.METRICS_FILE
        return len(read_metrics(path)) if path.is_file() else 0

    def command(self) -> list[str]:
        """Writes the run's flagfile, and returns the command that makes the run, or goes on with it."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        flagfile = self.folder.with_name(f"{self.folder.name}.cfg")
        files.write_text(flagfile, self.config.to_flagfile())
        return [sys.executable, "-m", "r2d2_tf.train", f"--flagfile={flagfile}", f"--run_dir={self.folder}"]

    def error(self) -> str:
        """Why the run stopped, in its own words."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.is_file() else []
        told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return (told or lines or ["it said nothing"])[-1]


def run_jobs(
    jobs: Sequence[Job], at_once: int, *, pass_fds: Sequence[int] = (), watch: Callable[[], None] = lambda: None
) -> list[int | None]:
    """Runs jobs to their ends, `at_once` at a time; when one fails, the others save themselves and are ended early.

    A job gets its share of the cores, as TensorFlow gains nothing from several threads in a small network. It inherits
    `pass_fds`: a lock that it holds on if this program is killed. `watch` is called while waiting.

    Returns:
        Exit codes; None for those that were ended early or not begun.
    """
    waiting, running = list(enumerate(jobs)), dict[int, subprocess.Popen]()
    codes: list[int | None] = [None] * len(jobs)
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                number, job = waiting.pop(0)
                running[number] = _start(job, at_once, pass_fds)
            for number, process in list(running.items()):
                codes[number] = process.poll()
                if codes[number] is not None:
                    del running[number]
            if any(codes):
                break
            watch()
            time.sleep(_PATIENCE)
    finally:
        for process in running.values():
            process.send_signal(signal.SIGTERM)
        for process in running.values():
            process.wait()
    return codes


def _start(job: Job, at_once: int, pass_fds: Sequence[int]) -> subprocess.Popen:
    command = job.command()
    threads = str(max(1, (os.cpu_count() or 1) // at_once))
    limits = {name: threads for name in _THREAD_VARIABLES} if at_once > 1 else {}
    with job.log.open("w") as log:
        # A session of its own: Ctrl-C reaches this program alone, which then ends the runs, once.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=limits | os.environ,
            pass_fds=pass_fds,
            start_new_session=True,
        )
