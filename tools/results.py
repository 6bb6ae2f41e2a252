"""The runs of a table of the paper, their lines in files, and the table made of them."""

import csv
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r2d2_tf import run_directory
from r2d2_tf.command_line import from_command_line
from r2d2_tf.config import Config
from tools import fake_data
from tools.paper import Row

_MEASURED = ("stage_1", "stage_2", "stage_3", "final", "final_top5", "seconds")
COLUMNS = ("row", "seed", "outcome", *_MEASURED, "flags", "config_digest", "git_commit", "tensorflow", "machine")
"""Of the files of results. Errors are in percent, after each stage and at the end."""
Record = dict[str, str]


@dataclass(frozen=True)
class Experiment:
    """What a table's rows change: an experiment as arguments; tried out on the fake data in a folder, if one is given."""

    arguments: list[str]
    fake_data: Path | None = None


@dataclass(frozen=True)
class Run:
    """One run of a table: a row with a seed."""

    row: Row
    config: Config
    arguments: list[str]

    @classmethod
    def of(cls, row: Row, experiment: "Experiment", seed: int) -> "Run":
        """The run of `row` on an experiment with `seed`."""
        arguments = [*experiment.arguments, *row.flags, f"--seed={seed}"]
        config = from_command_line(arguments)
        if experiment.fake_data is not None:
            arguments += fake_data.trial_flags(config, experiment.fake_data)
            config = from_command_line(arguments)
        return cls(row, config, arguments)

    @property
    def has_later_stages(self) -> bool:
        """Whether there is more than stage 1."""
        return bool(self.config.rounds or self.config.finetune_epochs)

    def stage_1_alone(self) -> "Run":
        """The run of this row's stage 1, the same for all rows that share it."""
        config = self.config.stage_1_alone()
        return Run(self.row, config, config.to_flagfile().splitlines())


class Results:
    """The lines of a table, a file a seed, and the table made of them.

    Args:
        folder: of the files.
        name: of the table and the experiment: NAME_seedS.csv, NAME.md.
        rows: of the table.
        experiment: lines that were made with other flags count as not there.
    """

    def __init__(self, folder: Path, name: str, rows: Sequence[Row], experiment: Experiment) -> None:
        self.folder = folder
        self.name = name
        self.rows = rows
        self.records: dict[tuple[str, int], Record] = {}
        for path in sorted(folder.glob(f"{name}_seed*.csv")):
            with path.open(newline="") as file:
                found = {(record["row"], int(record["seed"])): record for record in csv.DictReader(file)}
            for row, seed in ((row, seed) for row in rows for label, seed in found if label == row.label):
                if found[row.label, seed]["config_digest"] == Run.of(row, experiment, seed).config.digest:
                    self.records[row.label, seed] = found[row.label, seed]

    def record_of(self, run: Run) -> Record | None:
        """The line of a run that is done, else None."""
        return self.records.get((run.row.label, run.config.seed))

    def add(self, run: Run, record: Record) -> None:
        """Adds the line of a run and writes its seed's file."""
        self.records[run.row.label, run.config.seed] = record
        seed = run.config.seed
        lines = [self.records[row.label, seed] for row in self.rows if (row.label, seed) in self.records]
        self.folder.mkdir(parents=True, exist_ok=True)
        with (
            run_directory.written_whole(self.folder / f"{self.name}_seed{seed}.csv") as temporary,
            temporary.open("w", newline="") as file,
        ):
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", restval="")
            writer.writeheader()
            writer.writerows(lines)

    def write_table(self, title: str, command: str) -> str:
        """Writes the table with its title, commits and machines as Markdown, and returns it."""
        made_by = ("git_commit", "tensorflow", "machine")
        facts = {key: sorted({r[key] for r in self.records.values() if r.get(key)}) for key in made_by}
        seeds = sorted({seed for _, seed in self.records})
        text = "\n".join(
            [
                f"{title}. Test error in percent after the last epoch: mean and standard deviation over the seeds.",
                "",
                *markdown(self.rows, self.records),
                "",
                f"Seeds {', '.join(map(str, seeds))}; commit {', '.join(facts['git_commit'])}; TensorFlow "
                f"{', '.join(facts['tensorflow'])}; {'; '.join(facts['machine'])}. Each run is a line in "
                f"{self.name}_seed*.csv. Made by:",
                "",
                f"    {command}",
            ]
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        with run_directory.written_whole(self.folder / f"{self.name}.md") as path:
            path.write_text(text + "\n")
        return f"{text}\n\nwritten to {self.folder / self.name}.md"


def markdown(rows: Sequence[Row], records: dict[tuple[str, int], Record]) -> list[str]:
    """The lines of the table. Stopped runs are counted, and a row without runs reads `not run`."""
    top5 = any(row.paper_top5 is not None for row in rows) or any(record.get("final_top5") for record in records.values())
    titles = ["", "seeds", "ours", "paper", "difference", *(["ours, top 5", "paper, top 5"] if top5 else [])]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for row in rows:
        own = [record for (label, _), record in sorted(records.items()) if label == row.label]
        finished = [record for record in own if record["outcome"] == "finished"]
        errors = [float(record["final"]) for record in finished]
        stopped = f" ({len(own) - len(finished)} of {len(own)} runs stopped)" if len(own) > len(finished) else ""
        mean = statistics.mean(errors) if errors else None
        ours = _with_spread(errors) + stopped if errors else (stopped.strip() or "not run")
        difference = f"{mean - row.paper:+.2f}" if mean is not None and row.paper is not None else "-"
        cells = [row.label, str(len(own)), ours, _cell(row.paper), difference]
        if top5:
            cells += [
                _with_spread([float(r["final_top5"]) for r in finished if r.get("final_top5")]) or "not run",
                _cell(row.paper_top5),
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _with_spread(values: Sequence[float]) -> str:
    spread = f" +- {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}" if values else ""


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
