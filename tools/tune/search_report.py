"""What people get of a search: a line a trial, and at the end a table, a picture, and a flagfile with the best setting."""

import fcntl
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from r2d2_tf.config.config import Config
from r2d2_tf.system import files, provenance
from r2d2_tf.system.messages import markdown, one_line
from tools.tune.records import Record, Records, best_of
from tools.tune.search_picture import draw
from tools.tune.space import RATE_FACTOR, Setting, Space, configured

FLAGFILE, TABLE, LINES, PICTURE = "best.cfg", "trials.md", "trials.csv", "trials.png"
_WIDTH = 9


@dataclass(frozen=True)
class Plan:
    """What a search is, for people.

    Attributes:
        config: whose flags are searched.
        space: what is searched.
        epochs: of stage 2 in each trial that is planned.
        validated_on: what measures errors, in words.
        command: that was typed.
    """

    config: Config
    space: Space
    epochs: Sequence[int]
    validated_on: str
    command: str

    @property
    def varies_length(self) -> bool:
        """Whether trials are of different lengths."""
        return len(set(self.epochs)) > 1


class Reporter:
    """Tells of trials as they end, and keeps the files up to date.

    Args:
        plan: of the search.
        records: of the trials.
        folder: where the files are.
        shares_trials: whether other processes make trials too.
    """

    def __init__(self, plan: Plan, records: Records, folder: Path, *, shares_trials: bool = False) -> None:
        self.plan = plan
        self.records = records
        self.folder = folder
        self.shares_trials = shares_trials

    def heading(self) -> str:
        """The titles of the columns of `line`."""
        names = "".join(f"  {name:>{_WIDTH}}" for name in _names(self.plan))
        return f"trial{names}    error         best so far  seconds  time left"

    def report(self, record: Record) -> None:
        """Prints the line of a trial, and writes the files anew."""
        print(self.line(record), flush=True)
        self.write()

    def line(self, record: Record) -> str:
        """A trial in one line."""
        done = self.records.all()
        best = best_of(done)
        columns = zip(_names(self.plan), _values(self.plan, record), strict=True)
        values = "".join(f"  {value:>{max(_WIDTH, len(name))}}" for name, value in columns)
        error = f"{'failed':>8}        " if record.failed else f"{_with_spread(record):<16}"
        best_text = f"{best.error:9.2f} %" if best and best.error is not None else f"{'-':>11}"
        reason = f"   {_brief(record.failed)}" if record.failed else ""
        return f"{record.number:5}{values}  {error}{best_text} {record.seconds:8.0f} {self._time_left(done):>10}{reason}"

    def _time_left(self, done: Sequence[Record]) -> str:
        left = max(0, sum(self.plan.epochs) - sum(record.epochs for record in done))
        workers = len({record.worker for record in done}) if self.shares_trials else 1
        seconds = sum(record.seconds for record in done) / max(1, sum(record.epochs for record in done))
        return tqdm.format_interval(left * seconds / max(1, workers))

    def write(self) -> Record | None:
        """Writes table, lines and flagfile of what is known; returns the best trial."""
        with (self.folder / "report.lock").open("a") as lock:
            # Other workers write them too.
            fcntl.flock(lock, fcntl.LOCK_EX)
            records = self.records.all()
            best = best_of(records)
            files.write_csv(self.folder / LINES, _csv_lines(self.plan, records))
            caption = f"Error in percent on {self.plan.validated_on}, best first. Made by `{self.plan.command}`."
            files.write_text(self.folder / TABLE, f"{caption}\n\n{table(self.plan, records)}\n")
            if best is not None:
                files.write_text(self.folder / FLAGFILE, flagfile(self.plan, records, best))
        return best

    def draw(self) -> None:
        """Draws the picture of what is known."""
        records = self.records.all()
        title = f"{self.plan.config.name}: error on {self.plan.validated_on}"
        draw(self.plan.space, records, best_of(records), title=title, path=self.folder / PICTURE)


def table(plan: Plan, records: Sequence[Record]) -> str:
    """The trials in Markdown, best first, those of shortened runs and the failed ones last."""
    lines = [["trial", *_names(plan), "error %", "over folds", "seconds", ""]]
    for record in sorted(records, key=lambda r: (bool(r.failed), -r.epochs, r.error or 0.0, r.number)):
        own = "the config's own" if record.setting == plan.space.own else ""
        note = f"failed: {_brief(record.failed)}" if record.failed else own
        error = "-" if record.error is None else f"{record.error:.2f}"
        folds = ", ".join(f"{e:.2f}" for e in record.errors) or "-"
        lines.append([str(record.number), *_values(plan, record), error, folds, f"{record.seconds:.0f}", note])
    return "\n".join(markdown(lines))


def described(space: Space, setting: Setting) -> str:
    """A setting in words."""
    return ", ".join(f"{dimension.name} {setting[dimension.name]:g}" for dimension in space.dimensions)


def best_config(plan: Plan, best: Record) -> Config:
    """The config with the best setting, at its full length."""
    return replace(configured(plan.config, best.setting), name=f"{plan.config.name}_tuned")


def flagfile(plan: Plan, records: Sequence[Record], best: Record) -> str:
    """A flagfile that trains with the best setting, and says how it was found."""
    own = next((r for r in records if r.setting == plan.space.own and r.epochs == best.epochs), None)
    own_result = (
        ""
        if own is None or own == best
        else f" (the config's own setting, trial {own.number}: {_with_spread(own) or 'failed'})"
    )
    searched = {name: str(value) for name, value in best.setting.items() if name != RATE_FACTOR}
    if RATE_FACTOR in best.setting:
        searched["rounds"] = best_config(plan, best).rounds
    others = [
        line
        for line in best_config(plan, best).to_flagfile().splitlines()
        if line.split("=")[0].removeprefix("--") not in searched
    ]
    failed = sum(bool(record.failed) for record in records)
    return "\n".join(
        [
            f"# Trial {best.number}, the best of {len(records)} ({failed} failed): {_with_spread(best)}{own_result}.",
            f"# Errors on {plan.validated_on}; the least of so many is a little too good.",
            f"# Searched: {'; '.join(map(str, plan.space.dimensions))}.",
            f"# Found by: {one_line(plan.command)}",
            f"# Commit {provenance.git_commit() or 'unknown'}.",
            *(f"--{name}={value}" for name, value in searched.items()),
            "",
            "# As it was:",
            *others,
            "",
        ]
    )


def _names(plan: Plan) -> list[str]:
    return [*(dimension.name for dimension in plan.space.dimensions), *(["epochs"] if plan.varies_length else [])]


def _values(plan: Plan, record: Record) -> list[str]:
    values = [f"{record.setting[dimension.name]:g}" for dimension in plan.space.dimensions]
    return [*values, *([str(record.epochs)] if plan.varies_length else [])]


def _with_spread(record: Record) -> str:
    if record.error is None:
        return ""
    spread = "" if record.spread is None else f" +- {record.spread:.2f}"
    return f"{record.error:5.2f}{spread} %"


def _brief(reason: str) -> str:
    """The reason of a failure, without details and advice."""
    return reason.split(";")[0].split(", which ")[0]


def _csv_lines(plan: Plan, records: Sequence[Record]) -> Iterator[list[object]]:
    names = [dimension.name for dimension in plan.space.dimensions]
    yield ["trial", *names, "epochs", "error", "spread", "errors", "images", "seconds", "worker", "failed"]
    for r in records:
        numbers = ["" if v is None or math.isnan(v) else f"{v:.4g}" for v in (r.error, r.spread)]
        errors = " ".join(f"{error:.4g}" for error in r.errors)
        settings = [r.setting[name] for name in names]
        yield [r.number, *settings, r.epochs, *numbers, errors, sum(r.sizes), r.seconds, r.worker, one_line(r.failed)]
