"""Makes a trial: one run a fold, each in a process of its own, from a stage 1 that all trials share."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from r2d2_tf.config.config import Config
from r2d2_tf.data.image_data import DatasetSpec
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.metrics_log import read_metrics
from r2d2_tf.runs.outcome.summary import result_error
from r2d2_tf.system import files
from r2d2_tf.system.commands import command_line, environment
from r2d2_tf.train import STOPPED
from r2d2_tf.training.stages import plan
from tools.shared.runner import alone
from tools.tune.records import Record, Records
from tools.tune.space import Setting, configured, total_epochs
from tools.tune.validation import Fold

_PATIENCE = 0.2
"""Seconds between two looks at the processes."""
_THREAD_VARIABLES = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
_KEPT = (
    run_directory.CONFIG_FILE,
    run_directory.METRICS_FILE,
    run_directory.SUMMARY_FILE,
    run_directory.PICTURE_FILE,
    run_directory.LOCK_FILE,
)
"""What is left of the run of a trial: networks and tables of all trials would fill a disk."""


class Failed(Exception):
    """A run had to stop; the message says why."""


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
        return command_line("r2d2_tf.train", [f"--flagfile={flagfile}", f"--run_dir={self.folder}"])

    def error(self) -> str:
        """Why the run stopped, in its own words."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.is_file() else []
        told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return (told or lines or ["it said nothing"])[-1]


@dataclass(frozen=True)
class Trials:
    """Makes trials: a run each of the `folds`, `at_once` at the same time.

    What is killed on the way goes on where it was when it is asked for again.
    """

    folds: Sequence[Fold]
    spec: DatasetSpec
    folder: Path
    at_once: int
    worker: str

    @property
    def records(self) -> Records:
        return Records(self.folder / "trials")

    def stage_1(self) -> list[dict[str, Any]]:
        """Trains the stage 1 that trials share, if that is not done; returns the summary of each fold.

        Raises:
            RuntimeError: if it fails.
        """
        try:
            folders = self._stage_1([fold.config for fold in self.folds])
        except Failed as failed:
            raise RuntimeError(f"stage 1 stopped, so that nothing can be tried: {failed}") from failed
        return [run_directory.read_summary(folder) for folder in folders]

    def make(self, number: int, setting: Setting, epochs: int | None) -> Record:
        """Makes a trial, or reads it if it is done; with `epochs`, stage 2 is shortened to these.

        Raises:
            RuntimeError: if a run fails in another way than by having to stop.
        """
        began = time.monotonic()
        folder = self.records.folder / f"{number:04d}"
        with alone(folder) as lock:
            done = self.records.of(number)
            if done is None:
                configs = [configured(fold.config, setting, stage_2_epochs=epochs) for fold in self.folds]
                errors, failed = self._tried(number, configs, folder, lock)
                sizes = tuple(fold.num_validation for fold in self.folds)
                length, seconds = total_epochs(configs[0].parsed_rounds), time.monotonic() - began
                done = Record(number, setting, length, errors, sizes, failed, round(seconds, 1), self.worker)
                self.records.add(done)
            for run in folder.glob("fold_*/"):
                _prune(run)
        return done

    def _tried(self, number: int, configs: Sequence[Config], folder: Path, lock: int) -> tuple[tuple[float, ...], str]:
        """The error of each fold, or why the trial failed."""
        try:
            starts = self._stage_1(configs)
            jobs = [
                Job(replace(config, name=f"trial_{number}_fold_{fold}", stage_1_from=str(start)), folder / f"fold_{fold}")
                for fold, (config, start) in enumerate(zip(configs, starts, strict=True))
            ]
            self._run(jobs, f"trial {number}", lock)
        except Failed as failed:
            return (), str(failed)
        summaries = [run_directory.read_summary(job.folder) for job in jobs]
        return tuple(result_error(summary) for summary in summaries), ""

    def _stage_1(self, configs: Sequence[Config]) -> list[Path]:
        """The folders of the stage 1 of each fold, which is trained now if need be."""
        configs = [replace(c.stage_1_alone(), name=f"stage_1_fold_{fold}") for fold, c in enumerate(configs)]
        jobs = [Job(c, self.folder / "stage_1" / f"fold_{fold}-{c.digest}") for fold, c in enumerate(configs)]
        if not all(_is_finished(job.folder) for job in jobs):
            with alone(jobs[0].folder) as lock:
                self._run(jobs, "stage 1", lock)
        return [job.folder for job in jobs]

    def _run(self, jobs: Sequence[Job], title: str, lock: int) -> None:
        """Runs what is not finished; the runs inherit the lock, and so hold it on if this program is killed.

        Raises:
            Failed: if a run had to stop.
            RuntimeError: if it failed otherwise.
        """
        total = sum(stage.epochs for job in jobs for stage in plan(job.config, self.spec))
        # disable=None: no bar where the output is a file.
        bar_format = "{desc} |{bar:30}| {n_fmt}/{total_fmt} epochs, {elapsed} so far"
        left = [job for job in jobs if not _is_finished(job.folder)]
        with tqdm(total=total, desc=title, bar_format=bar_format, leave=False, disable=None) as bar:

            def show() -> None:
                bar.n = sum(job.epochs_done for job in jobs)
                bar.refresh()

            codes = run_jobs(left, self.at_once, pass_fds=[lock], watch=show)
        for job, code in zip(left, codes, strict=True):
            if code == STOPPED:
                raise Failed(f"{job.folder.name.replace('_', ' ')}: {job.error()}")
            if code:
                raise RuntimeError(
                    f"the run in {job.folder} ended with exit code {code}: {job.error()} (all it said: {job.log})"
                )


def _is_finished(folder: Path) -> bool:
    return (folder / run_directory.SUMMARY_FILE).is_file()


def _prune(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in _KEPT:
            path.unlink()


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
            env=limits | environment(),
            pass_fds=pass_fds,
            start_new_session=True,
        )
