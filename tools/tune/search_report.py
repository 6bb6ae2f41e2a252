"""What people get of a search: a line a trial, and at the end a table, a picture, and a flagfile with the best setting."""

import fcntl
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tqdm import tqdm

from r2d2_tf.config.config import Config
from r2d2_tf.system import files, provenance, spreadsheets
from r2d2_tf.system.messages import markdown, one_line
from tools.tune.options import Options
from tools.tune.records import Record, Records, best_of
from tools.tune.search_picture import draw
from tools.tune.space import RATE_FACTOR, Setting, Space, configured

FLAGFILE, TABLE, LINES, PICTURE = "best.cfg", "trials.md", "trials.csv", "trials.png"
_WIDTH = 9


@dataclass(frozen=True)
class Reporter:
    """Tells of the trials of a search as they end, and keeps its files up to date.

    Attributes:
        epochs: of stage 2 in each trial that is planned.
        validated_on: what measures errors, in words.
    """

    options: Options
    records: Records
    epochs: Sequence[int]
    validated_on: str

    @property
    def varies_length(self) -> bool:
        return len(set(self.epochs)) > 1

    def heading(self) -> str:
        """The titles of the columns of `line`."""
        names = "".join(f"  {name:>{_WIDTH}}" for name in self._names())
        return f"trial{names}    error         best so far  seconds  time left"

    def report(self, record: Record) -> None:
        """Prints the line of a trial, and writes the files anew."""
        print(self.line(record), flush=True)
        self.write()

    def line(self, record: Record) -> str:
        done = self.records.all()
        best = best_of(done)
        columns = zip(self._names(), self._values(record), strict=True)
        values = "".join(f"  {value:>{max(_WIDTH, len(name))}}" for name, value in columns)
        error = f"{'failed':>8}        " if record.failed else f"{_with_spread(record):<16}"
        best_text = f"{best.error:9.2f} %" if best and best.error is not None else f"{'-':>11}"
        reason = f"   {_brief(record.failed)}" if record.failed else ""
        return f"{record.number:5}{values}  {error}{best_text} {record.seconds:8.0f} {self._time_left(done):>10}{reason}"

    def _time_left(self, done: Sequence[Record]) -> str:
        epochs = sum(record.epochs for record in done)
        left = max(0, sum(self.epochs) - epochs)
        workers = len({record.worker for record in done}) if self.options.tuner_id else 1
        seconds = sum(record.seconds for record in done) / max(1, epochs)
        return tqdm.format_interval(left * seconds / max(1, workers))

    def write(self) -> Record | None:
        """Writes table, lines and flagfile of what is known; returns the best trial."""
        folder = self.options.folder
        with (folder / "report.lock").open("a") as lock:
            # Other workers write them too.
            fcntl.flock(lock, fcntl.LOCK_EX)
            records = self.records.all()
            best = best_of(records)
            spreadsheets.write(folder / LINES, _csv_lines(self.options.space, records))
            caption = f"Error in percent on {self.validated_on}, best first. Made by `{self.options.command}`."
            files.write_text(folder / TABLE, f"{caption}\n\n{self.table(records)}\n")
            if best is not None:
                files.write_text(folder / FLAGFILE, self.flagfile(records, best))
        return best

    def draw(self) -> None:
        records = self.records.all()
        title = f"{self.options.config.name}: error on {self.validated_on}"
        draw(self.options.space, records, best_of(records), title=title, path=self.options.folder / PICTURE)

    def table(self, records: Sequence[Record]) -> str:
        """The trials in Markdown, best first, those of shortened runs and the failed ones last."""
        lines = [["trial", *self._names(), "error %", "over folds", "seconds", ""]]
        for record in sorted(records, key=lambda r: (bool(r.failed), -r.epochs, r.error or 0.0, r.number)):
            own = "the config's own" if record.setting == self.options.space.own else ""
            note = f"failed: {_brief(record.failed)}" if record.failed else own
            error = "-" if record.error is None else f"{record.error:.2f}"
            folds = ", ".join(f"{e:.2f}" for e in record.errors) or "-"
            lines.append([str(record.number), *self._values(record), error, folds, f"{record.seconds:.0f}", note])
        return "\n".join(markdown(lines))

    def flagfile(self, records: Sequence[Record], best: Record) -> str:
        """A flagfile that trains with the best setting, and says how it was found."""
        config, space = best_config(self.options.config, best), self.options.space
        own = next((r for r in records if r.setting == space.own and r.epochs == best.epochs), best)
        own_result = f" (the config's own setting, trial {own.number}: {_with_spread(own) or 'failed'})" if own != best else ""
        searched = {name: str(value) for name, value in best.setting.items() if name != RATE_FACTOR}
        if RATE_FACTOR in best.setting:
            searched["rounds"] = config.rounds
        others = [x for x in config.to_flagfile().splitlines() if x.partition("=")[0].removeprefix("--") not in searched]
        failed = sum(bool(record.failed) for record in records)
        lines = [
            f"# Trial {best.number}, the best of {len(records)} ({failed} failed): {_with_spread(best)}{own_result}.",
            f"# Errors on {self.validated_on}; the least of so many is a little too good.",
            f"# Searched: {'; '.join(map(str, space.dimensions))}.",
            f"# Found by: {one_line(self.options.command)}",
            f"# By {provenance.told_commit(provenance.git_commit())}.",
            *(f"--{name}={value}" for name, value in searched.items()),
            "",
            "# As it was:",
            *others,
        ]
        return "\n".join(lines) + "\n"

    def _names(self) -> list[str]:
        names = [dimension.name for dimension in self.options.space.dimensions]
        return [*names, "epochs"] if self.varies_length else names

    def _values(self, record: Record) -> list[str]:
        values = [f"{record.setting[dimension.name]:g}" for dimension in self.options.space.dimensions]
        return [*values, str(record.epochs)] if self.varies_length else values


def described(space: Space, setting: Setting) -> str:
    return ", ".join(f"{dimension.name} {setting[dimension.name]:g}" for dimension in space.dimensions)


def best_config(config: Config, best: Record) -> Config:
    """The config with the best setting, at its full length."""
    return replace(configured(config, best.setting), name=f"{config.name}_tuned")


def _with_spread(record: Record) -> str:
    if record.error is None:
        return ""
    spread = "" if record.spread is None else f" +- {record.spread:.2f}"
    return f"{record.error:5.2f}{spread} %"


def _brief(reason: str) -> str:
    """The reason of a failure, without details and advice."""
    return reason.split(";")[0].split(", which ")[0]


def _csv_lines(space: Space, records: Sequence[Record]) -> Iterator[list[object]]:
    names = [dimension.name for dimension in space.dimensions]
    yield ["trial", *names, "epochs", "error", "spread", "errors", "images", "seconds", "worker", "failed"]
    for r in records:
        numbers = ["" if v is None or math.isnan(v) else f"{v:.4g}" for v in (r.error, r.spread)]
        errors = " ".join(f"{error:.4g}" for error in r.errors)
        settings = [r.setting[name] for name in names]
        yield [r.number, *settings, r.epochs, *numbers, errors, sum(r.sizes), r.seconds, r.worker, one_line(r.failed)]
