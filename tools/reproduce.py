"""`python -m tools.reproduce --table=1 --scale=cpu --data_dir=DIR --seeds=0,1,2`: a table of the paper, row by row.

Runs the rows of table 1 to 8, one run a row and seed; --scale=full takes the paper's own size, --scale=cpu one that a CPU
carries, and --base=CONFIG any other experiment. Stage 1 is trained once a seed and shared by all rows that start from it.
After each run the seed's lines (--output_dir/tableN_CONFIG_seedS.csv) and the table (tableN_CONFIG.md) are written
anew. What stands there is not run again, and what was killed is: so the same command goes on where it was.
--dry_run prints what would be run, and its cost. Every other flag goes to r2d2_tf.train as it is.
"""

import csv
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

from r2d2_tf import run_directory
from r2d2_tf.command_line import from_command_line
from r2d2_tf.config import Config
from r2d2_tf.datasets import DATASETS
from r2d2_tf.tfds_reader import check_tfds
from r2d2_tf.train import STOPPED
from tools.paper import STAGE_1_ALONE, TABLES, Row, rows_of

_MEASURED = ("stage_1", "stage_2", "stage_3", "final", "final_top5", "seconds")
COLUMNS = ("row", "seed", "outcome", *_MEASURED, "flags", "config_digest", "git_commit", "tensorflow", "machine")
"""Of the files of results. Errors are in percent, after each stage and at the end."""
Record = dict[str, str]


@dataclass(frozen=True)
class Run:
    """One run of a table: a row with a seed."""

    row: Row
    config: Config
    arguments: list[str]

    @classmethod
    def of(cls, row: Row, base: Sequence[str], seed: int) -> "Run":
        """The run of `row` on an experiment (`base`, as arguments) with `seed`."""
        arguments = [*base, *row.flags, f"--seed={seed}"]
        return cls(row, from_command_line(arguments), arguments)


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    if "--help" in arguments:
        print(__doc__)
        return 0
    try:
        own, others = _split_flags(arguments)
        table = own["table"].value
        base_path = own["base"].value or getattr(TABLES[table], own["scale"].value)
        base = [f"--flagfile={base_path}", *others]
        config = from_command_line(base)
        rows = rows_of(table, config)
        seeds = sorted({int(seed) for seed in own["seeds"].value})
        runs = {seed: [Run.of(row, base, seed) for row in rows] for seed in seeds}
        tfds_name = DATASETS[config.dataset].tfds_name
        if tfds_name is not None and not own["dry_run"].value:
            check_tfds(tfds_name, config.data_path)
    except (ValueError, flags.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    title = f"Table {table} of the paper, {TABLES[table].title}, with {base_path}"
    command = "python -m tools.reproduce " + " ".join(arguments)
    output = Results(Path(own["output_dir"].value), f"table{table}_{config.name}", rows, base)
    try:
        for seed, runs_of_seed in runs.items():
            for run in runs_of_seed:
                if output.record_of(run) is None:
                    record = _make(run, [*base, f"--seed={seed}"], Path(own["runs"].value))
                    output.add(run, record)
                    output.write_table(title, command)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(output.write_table(title, command))
    return 0


def _split_flags(arguments: Sequence[str]) -> tuple[flags.FlagValues, list[str]]:
    own = flags.FlagValues()
    flags.DEFINE_integer("table", None, "table of the paper", lower_bound=1, upper_bound=8, flag_values=own)
    flags.DEFINE_enum("scale", "cpu", ["cpu", "full"], "size of the experiment", flag_values=own)
    flags.DEFINE_string("base", "", "config of the experiment, in place of --scale's", flag_values=own)
    flags.DEFINE_list("seeds", ["0", "1", "2"], "seeds to run", flag_values=own)
    flags.DEFINE_string("output_dir", "docs/results", "where the tables go", flag_values=own)
    flags.DEFINE_string("runs", "runs/reproduce", "where the runs go", flag_values=own)
    flags.DEFINE_bool("dry_run", False, "print what would be run, and its cost", flag_values=own)
    names = {f"--{name}" for name in own} | {"--nodry_run"}
    own(["reproduce", *(a for a in arguments if a.split("=")[0] in names)])
    if own["table"].value is None:
        raise ValueError("say which table to reproduce: --table=1 to 8")
    return own, [a for a in arguments if a.split("=")[0] not in names]


def _make(run: Run, base: list[str], runs: Path) -> Record:
    """Trains a run, and before it the stage 1 that it shares with others, where that is not done yet."""
    alone = from_command_line([*base, *STAGE_1_ALONE])
    if run.config.digest == alone.digest or run.config.differences(alone, of_stage_1=True):
        return _trained(run, run.arguments, runs)
    shared = Run(run.row, alone, [*base, *STAGE_1_ALONE])
    if _trained(shared, shared.arguments, runs)["outcome"] == "stopped":
        return _record(run, None)
    return _trained(run, [*run.arguments, f"--stage_1_from={_folder(shared, runs)}"], runs)


def _folder(run: Run, runs: Path) -> Path:
    return runs / f"{run.config.name}-{run.config.digest}"


def _trained(run: Run, arguments: list[str], runs: Path) -> Record:
    folder = _folder(run, runs)
    wait_for_others(folder)
    if not (folder / run_directory.SUMMARY_FILE).is_file():
        command = [sys.executable, "-m", "r2d2_tf.train", *arguments, "--new_run", f"--run_dir={folder}"]
        code = subprocess.run(command, check=False).returncode
        if code == STOPPED:
            return _record(run, None)
        if code:
            raise RuntimeError(f"the run of row {run.row.label!r} failed; its own message says why")
    return _record(run, run_directory.read_summary(folder))


def wait_for_others(folder: Path) -> None:
    """Waits while another process trains in `folder`: a killed program leaves the run that it started."""
    while run_directory.is_in_use(folder):
        print(f"waiting for the run in {folder}, which a living process trains", flush=True)
        time.sleep(5)


def _record(run: Run, summary: dict[str, Any] | None) -> Record:
    record = {
        "row": run.row.label,
        "seed": str(run.config.seed),
        "outcome": "finished" if summary else "stopped",
        "flags": " ".join(run.row.flags),
        "config_digest": run.config.digest,
        "git_commit": run_directory.git_commit() or "",
        "machine": run_directory.machine(),
    }
    if summary is None:
        return record
    top5 = list(summary.get("test_top5_error_percent", {}).values())
    return record | {
        **{stage: f"{error:.4g}" for stage, error in summary["test_error_percent"].items()},
        "final": f"{list(summary['test_error_percent'].values())[-1]:.4g}",
        "final_top5": f"{top5[-1]:.4g}" if top5 else "",
        "seconds": f"{summary['seconds']['total']:.0f}",
        "git_commit": summary["git_commit"] or "",
        "tensorflow": summary["versions"].get("tensorflow") or summary["versions"].get("tensorflow-cpu") or "",
        "machine": summary["machine"],
    }


class Results:
    """The lines of a table, a file a seed, and the table made of them.

    Args:
        folder: of the files.
        name: of the table and the experiment: NAME_seedS.csv, NAME.md.
        rows: of the table.
        base: the experiment, as arguments; lines that were made with other flags count as not there.
    """

    def __init__(self, folder: Path, name: str, rows: Sequence[Row], base: Sequence[str]) -> None:
        self.folder = folder
        self.name = name
        self.rows = rows
        self.records: dict[tuple[str, int], Record] = {}
        for path in sorted(folder.glob(f"{name}_seed*.csv")):
            with path.open(newline="") as file:
                found = {(record["row"], int(record["seed"])): record for record in csv.DictReader(file)}
            for row, seed in ((row, seed) for row in rows for label, seed in found if label == row.label):
                if found[row.label, seed]["config_digest"] == Run.of(row, base, seed).config.digest:
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
