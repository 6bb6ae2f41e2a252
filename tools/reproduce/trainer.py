"""Makes the runs of a table, each in a process and a folder of its own; what several begin with is trained once."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r2d2_tf.data.readers.tfds import FAKE
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.outcome.summary import result_error, result_stage
from r2d2_tf.system import provenance
from r2d2_tf.train import STOPPED
from tools.reproduce.results import Record, Run
from tools.shared import runner


@dataclass(frozen=True)
class Trainer:
    """Trains runs, below `folder`, and remembers those that had to stop: what stopped once is not tried again.

    Attributes:
        first_rounds: digests of the runs up to the first round's end that several start from (`shared_first_rounds`).
    """

    folder: Path
    first_rounds: frozenset[str] = frozenset()
    _stopped: set[Path] = field(default_factory=set)

    def is_trained(self, run: Run) -> bool:
        return (self._folder_of(run) / run_directory.SUMMARY_FILE).is_file()

    def make(self, run: Run) -> Record:
        """The line of a run, which is trained now if need be, and before it what it shares with others: stage 1, a first round.

        Raises:
            RuntimeError: if a run fails in another way than by having to stop.
        """
        shared = run.stage_1_alone()
        if self._folder_of(shared) in self._stopped:
            print("stopped already in stage 1, which this row shares with one above", flush=True)
        stage_1 = self._trained(shared, shared.arguments)
        if stage_1 is None or not run.has_later_stages:
            return _record(run, stage_1)
        start = f"--stage_1_from={self._folder_of(shared)}"
        if (first := self.shared_first_round(run)) is not None and not self._began_after_stage_1(run):
            if self._folder_of(first) in self._stopped:
                print("stopped already in the first round, which this row shares with one above", flush=True)
            summary = self._trained(first, [*first.arguments, start])
            if summary is None or first.config.digest == run.config.digest:
                return _record(run, summary)
            start = f"--stage_2_from={self._folder_of(first)}"
        return _record(run, self._trained(run, [*run.arguments, start]))

    def shared_first_round(self, run: Run) -> Run | None:
        """The run up to the first round's end from which `run` and others start; None: no other starts from it."""
        first = run.first_round_alone()
        return first if first is not None and first.config.digest in self.first_rounds else None

    def _began_after_stage_1(self, run: Run) -> bool:
        """Whether a run is there already that trains, or trained, its first round itself."""
        folder = self._folder_of(run)
        return (folder / run_directory.CONFIG_FILE).is_file() and not run_directory.load_config(folder).stage_2_from

    def _folder_of(self, run: Run) -> Path:
        return self.folder / f"{run.config.name}-{run.config.digest}"

    def _trained(self, run: Run, arguments: list[str]) -> dict[str, Any] | None:
        """The summary of a run, made now if need be; None if the run had to stop, now or before."""
        folder = self._folder_of(run)
        if folder in self._stopped:
            return None
        with runner.alone(folder) as lock:
            if self.is_trained(run):
                return run_directory.read_summary(folder)
            try:
                return runner.train([*arguments, f"--run_dir={folder}"], pass_fds=[lock])
            except runner.RunFailed as failed:
                if failed.code != STOPPED:
                    raise RuntimeError(f"the run of row {run.row.label!r} failed; its own message says why") from failed
                self._stopped.add(folder)
                return None


def _record(run: Run, summary: dict[str, Any] | None) -> Record:
    record = {
        "row": run.row.label,
        "seed": str(run.config.seed),
        "outcome": "finished" if summary else "stopped",
        "flags": " ".join(run.row.flags),
        "config_digest": run.config.digest,
        "git_commit": provenance.git_commit() or "",
        "machine": provenance.machine(),
    }
    if summary is None:
        return record
    top5 = summary.get("test_top5_error_percent", {}).get(f"stage_{result_stage(summary)}")
    images = f"{summary['num_labels']:,} labeled, {summary['num_unlabeled']:,} unlabeled, {summary['num_test']:,} to test on"
    return record | {
        **{stage: f"{error:.4g}" for stage, error in summary["test_error_percent"].items()},
        "final": f"{result_error(summary):.4g}",
        "final_top5": f"{top5:.4g}" if top5 is not None else "",
        "seconds": f"{summary['seconds']['total']:.0f}",
        "images": f"{images} ({FAKE})" if summary["fake_data"] else images,
        "git_commit": summary["git_commit"] or "",
        "tensorflow": summary["versions"].get("tensorflow") or summary["versions"].get("tensorflow-cpu") or "",
        "machine": summary["machine"],
    }
