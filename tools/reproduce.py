"""`python -m tools.reproduce --table=1 --base=configs/mnist5k.cfg --seeds=0,1,2`: the rows of an ablation table.

Runs tables 1 to 4 of the paper on the experiment of a config, one run after another; a finished run is not repeated, so
that a killed program goes on where it was. Stage 1 is trained once a seed and shared by all rows. Writes
--output_dir/tableN_NAME.csv as each run finishes and .md at the end, and prints the table: test error in percent, ours
beside the paper's, which is CIFAR-10's. Every other flag goes to r2d2_tf.train as it is.
"""

import csv
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

from r2d2_tf import run_directory
from r2d2_tf.config import Config, from_command_line
from r2d2_tf.schedules import Round


@dataclass(frozen=True)
class Row:
    """One row of a table: its name, the flags that make it, and the paper's error in percent."""

    label: str
    flags: tuple[str, ...]
    paper: float


def rows_of(table: int, rounds: Sequence[Round]) -> list[Row]:
    """The rows of table 1, 2, 3 or 4, for an experiment whose stage 2 has `rounds` (those of table 1's column e)."""
    if table == 1:
        constant = [Round(r.epochs, rounds[0].learning_rate) for r in rounds]
        return [
            Row("a: first round alone", (_rounds(rounds[:1]),), 6.71),
            Row("b: all rounds, no reprediction, constant rate", (_rounds(constant), "--norepredict"), 6.37),
            Row("c: reprediction, constant rate", (_rounds(constant),), 6.23),
            Row("d: no reprediction, falling rate", ("--norepredict",), 5.94),
            Row("e: reprediction, falling rate", (), 5.78),
        ]
    if table == 2:
        errors = {0.1: 5.78, 0.2: 5.44, 0.3: 5.81, 0.4: 5.90, 0.5: 6.11}
        return [Row(f"alpha {alpha}", (f"--alpha={alpha}", "--beta=0.03"), paper) for alpha, paper in errors.items()]
    if table == 3:
        errors = {0.01: 5.62, 0.02: 5.75, 0.03: 5.78, 0.04: 5.83, 0.05: 5.76}
        return [Row(f"beta {beta}", ("--alpha=0.1", f"--beta={beta}"), paper) for beta, paper in errors.items()]
    losses = {"reverse_kl": 5.78, "forward_kl": 8.06, "squared_l2": 6.35}
    return [Row(loss, (f"--class_loss={loss}",), paper) for loss, paper in losses.items()]


def _rounds(rounds: Sequence[Round]) -> str:
    return "--rounds=" + ",".join(f"{r.epochs}:{r.learning_rate}" for r in rounds)


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    if "--help" in arguments:
        print(__doc__)
        return 0
    try:
        own, others = _split_flags(arguments)
        base = [f"--flagfile={own['base'].value}", *others]
        rows = rows_of(own["table"].value, from_command_line(base).parsed_rounds)
        seeds = [int(seed) for seed in own["seeds"].value]
        plan = {(row.label, seed): from_command_line([*base, *row.flags, f"--seed={seed}"]) for row in rows for seed in seeds}
    except (ValueError, flags.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    files = Path(own["output_dir"].value) / f"table{own['table'].value}_{Path(own['base'].value).stem}"
    finals: dict[str, list[float | None]] = {row.label: [] for row in rows}
    records = []
    for row in rows:
        for seed in seeds:
            summary = _result(plan[row.label, seed], [*base, *row.flags, f"--seed={seed}"], own["runs"].value)
            finals[row.label].append(_last_error(summary))
            records.append(_record(row, seed, summary))
            _write_csv(files.with_suffix(".csv"), records)
    text = markdown(rows, finals)
    with run_directory.written_whole(files.with_suffix(".md")) as path:
        path.write_text(text + "\n")
    print(f"{text}\n\nwritten to {files}.csv and .md")
    return 0


def _split_flags(arguments: Sequence[str]) -> tuple[flags.FlagValues, list[str]]:
    own = flags.FlagValues()
    flags.DEFINE_integer("table", None, "table of the paper", lower_bound=1, upper_bound=4, flag_values=own)
    flags.DEFINE_string("base", "configs/mnist5k.cfg", "config of the experiment", flag_values=own)
    flags.DEFINE_list("seeds", ["0", "1", "2"], "seeds to run", flag_values=own)
    flags.DEFINE_string("output_dir", "docs/results", "where the tables go", flag_values=own)
    flags.DEFINE_string("runs", "runs/reproduce", "where the runs go", flag_values=own)
    names = {f"--{name}" for name in own}
    own(["reproduce", *(a for a in arguments if a.split("=")[0] in names)])
    if own["table"].value is None:
        raise ValueError("say which table to reproduce: --table=1, 2, 3 or 4")
    return own, [a for a in arguments if a.split("=")[0] not in names]


def _result(config: Config, arguments: list[str], runs: str) -> dict[str, Any] | None:
    """The summary of a run, made now if need be; None if the run had to stop."""
    folder = Path(runs) / f"{config.name}-{config.digest}"
    if (folder / run_directory.SUMMARY_FILE).is_file():
        return run_directory.read_summary(folder)
    shared = Path(runs) / f"{config.name}-seed{config.seed}-stage_1"
    command = [sys.executable, "-m", "r2d2_tf.train", *arguments, "--new_run"]
    if not (shared / run_directory.SUMMARY_FILE).is_file():
        # A run of all stages that are not stage 1, as short as can be: its stage 1 is what the others start from.
        short = ["--rounds=1:1e-6", "--norepredict", "--finetune_epochs=0", "--nostop_on_collapse"]
        subprocess.run([*command, *short, f"--run_dir={shared}"], check=True)
    done = subprocess.run([*command, f"--stage_1_from={shared}", f"--run_dir={folder}"], check=False)
    return run_directory.read_summary(folder) if done.returncode == 0 else None


def _last_error(summary: dict[str, Any] | None) -> float | None:
    return None if summary is None else list(summary["test_error_percent"].values())[-1]


def _record(row: Row, seed: int, summary: dict[str, Any] | None) -> dict[str, Any]:
    record: dict[str, Any] = {"row": row.label, "seed": seed, "flags": " ".join(row.flags), "paper": row.paper}
    if summary is None:
        return {**record, "outcome": "stopped"}
    return {**record, "outcome": "finished", **summary["test_error_percent"], "git_commit": summary["git_commit"]}


def _write_csv(path: Path, records: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = ("row", "seed", "flags", "paper", "outcome", "stage_1", "stage_2", "stage_3", "git_commit")
    with run_directory.written_whole(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)


def markdown(rows: Sequence[Row], finals: dict[str, list[float | None]]) -> str:
    """The table: mean and standard deviation over the seeds, the paper's error, the difference; stopped runs are counted."""
    lines = ["| | ours % | paper % | difference |", "|---|---|---|---|"]
    for row in rows:
        errors = [error for error in finals[row.label] if error is not None]
        stopped = len(finals[row.label]) - len(errors)
        note = f" ({stopped} of {len(finals[row.label])} runs stopped)" if stopped else ""
        if not errors:
            lines.append(f"| {row.label} | -{note or ' not run'} | {row.paper:.2f} | - |")
            continue
        mean = statistics.mean(errors)
        spread = f" +- {statistics.stdev(errors):.2f}" if len(errors) > 1 else ""
        lines.append(f"| {row.label} | {mean:.2f}{spread}{note} | {row.paper:.2f} | {mean - row.paper:+.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
