"""The runs of a table of the paper, their lines in files, and the table made of them."""

import csv
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from r2d2_tf.config import beginnings
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.config.config import Config
from r2d2_tf.system import files, spreadsheets
from r2d2_tf.system.messages import markdown
from r2d2_tf.system.provenance import told_commit
from tools.reproduce import fake_data
from tools.reproduce.paper_tables import Row

_MEASURED = ("stage_1", "stage_2", "stage_3", "final", "final_top5", "seconds")
COLUMNS = ("row", "seed", "outcome", *_MEASURED, "images", "flags", "config_digest", "git_commit", "tensorflow", "machine")
"""Of the files of results. Errors are in percent, after each stage and at the end."""
_LINE = 118
Record = dict[str, str]


@dataclass(frozen=True)
class TableExperiment:
    """What a table's rows change.

    Attributes:
        fake_data: folder of the fake data that it is tried out on; None: it is run as it is.
        draws_splits: seeds but 0 draw their own labeled images, where seed 0 reads them from a file.
    """

    arguments: list[str]
    fake_data: Path | None = None
    draws_splits: bool = False


@dataclass(frozen=True)
class Run:
    """One run of a table: a row with a seed."""

    row: Row
    config: Config
    arguments: list[str]

    @classmethod
    def of(cls, row: Row, experiment: TableExperiment, seed: int) -> "Run":
        arguments = [*experiment.arguments, *row.flags, f"--seed={seed}"]
        if experiment.draws_splits and seed:
            arguments.append("--split_file=")
        config = from_command_line(arguments)
        if experiment.fake_data is not None:
            arguments += fake_data.trial_flags(config, experiment.fake_data)
            config = from_command_line(arguments)
        return cls(row, config, arguments)

    @property
    def key(self) -> tuple[str, int]:
        return self.row.label, self.config.seed

    @property
    def has_later_stages(self) -> bool:
        """Whether there is more than stage 1."""
        return bool(self.config.rounds or self.config.finetune_epochs)

    def stage_1_alone(self) -> "Run":
        """The run of this row's stage 1, the same for all rows that share it."""
        return self._with(self.config.stage_1_alone())

    def first_round_alone(self) -> "Run | None":
        """The run up to the end of stage 2's first round, the same for all rows that share so much; None without stage 2."""
        return self._with(beginnings.first_round_alone(self.config)) if self.config.rounds else None

    def _with(self, config: Config) -> "Run":
        return Run(self.row, config, config.to_flagfile().splitlines())


def shared_first_rounds(runs: Sequence[Run]) -> frozenset[str]:
    """Digests of the runs up to the first round's end that several of `runs` share."""
    firsts = Counter(first.config.digest for run in runs if (first := run.first_round_alone()) is not None)
    return frozenset(digest for digest, count in firsts.items() if count > 1)


@dataclass(frozen=True)
class Results:
    """The lines of a table, a file a seed, and the table made of them. Several programs may add lines at the same time.

    Lines that were made with other flags stay in their files, but are not of the table.

    Attributes:
        name: of the table and the experiment: NAME_seedS.csv, NAME.md.
        command: that makes it, but for the seeds.

    Raises:
        ValueError: if a file cannot be read as lines of results.
    """

    folder: Path
    name: str
    rows: Sequence[Row]
    experiment: TableExperiment
    title: str
    command: str

    def __post_init__(self) -> None:
        self.records()

    def records(self) -> dict[tuple[str, int], Record]:
        """The lines of the table as they are on disk now: (row, seed) -> line."""
        lines = [line for path in sorted(self.folder.glob(f"{self.name}_seed*.csv")) for line in _read(path)]
        rows = {row.label: row for row in self.rows}
        found = {}
        for line in lines:
            label, seed = line["row"], int(line["seed"])
            if label in rows and line["config_digest"] == Run.of(rows[label], self.experiment, seed).config.digest:
                found[label, seed] = line
        return found

    def add(self, run: Run, record: Record) -> None:
        """Adds the line of a run to its seed's file."""
        path = self.folder / f"{self.name}_seed{run.config.seed}.csv"
        self.folder.mkdir(parents=True, exist_ok=True)
        others = _read(path) if path.is_file() else []
        same = (record["row"], record["config_digest"])
        lines = [line for line in others if (line["row"], line["config_digest"]) != same] + [record]
        order = [row.label for row in self.rows]
        lines.sort(key=lambda line: order.index(line["row"]) if line["row"] in order else len(order))
        spreadsheets.write(path, [COLUMNS, *([line.get(column) for column in COLUMNS] for line in lines)])

    def write_table(self) -> str:
        """Writes the table with its title, data, commits and machines as Markdown, and returns it."""
        records = self.records()
        keys = ("images", "git_commit", "tensorflow", "machine")
        facts = {key: sorted({line[key] for line in records.values() if line.get(key)}) for key in keys}
        seeds = sorted({seed for _, seed in records})
        images = f" Images: {'; '.join(facts['images'])}." if facts["images"] else ""
        about = "Test error in percent after the last epoch: mean and standard deviation over the seeds."
        lines = [
            *wrap(f"{self.title}. {about}{images}", _LINE),
            "",
            *table_lines(self.rows, records),
            "",
            *wrap(
                f"Seeds {', '.join(map(str, seeds))}; {told_commit(', '.join(facts['git_commit']))}; TensorFlow "
                f"{', '.join(facts['tensorflow'])}; {'; '.join(facts['machine'])}. Each run is a line in "
                f"{self.name}_seed*.csv. Made by:",
                _LINE,
            ),
            "",
            f"    {self.command} --seeds={','.join(map(str, seeds))}",
        ]
        text = "\n".join(lines)
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write_text(self.folder / f"{self.name}.md", text + "\n")
        return f"{text}\n\nwritten to {self.folder / self.name}.md"


def _read(path: Path) -> list[Record]:
    try:
        lines = spreadsheets.read_columns(path)
        for line in lines:
            int(line["seed"]), line["row"], line["outcome"], line["config_digest"]
            if line["outcome"] == "finished":
                float(line["final"])
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged: mend or remove it, and its runs are read or made again") from error
    return lines


def table_lines(rows: Sequence[Row], records: dict[tuple[str, int], Record]) -> list[str]:
    """The lines of the table. Stopped runs are counted, and a row without runs reads `not run`."""
    top5 = any(row.paper_top5 is not None for row in rows) or any(record.get("final_top5") for record in records.values())
    table = [["", "seeds", "ours", "paper", "difference", *(["ours, top 5", "paper, top 5"] if top5 else [])]]
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
                _with_spread([float(r["final_top5"]) for r in finished if r.get("final_top5")]) or ("-" if own else "not run"),
                _cell(row.paper_top5),
            ]
        table.append(cells)
    return markdown(table)


def _with_spread(values: Sequence[float]) -> str:
    spread = f" +- {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}" if values else ""


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
