"""`python -m tools.reproduce --table=1 --scale=cpu --data_dir=DIR --seeds=0,1,2`: a table of the paper, row by row.

Runs the rows of table 1 to 8, or of the experiment of figure 2 (--table=mnist), one run a row and seed; --scale=full takes
the paper's own size, --scale=cpu one that a CPU carries, and --base=CONFIG any other experiment. Stage 1 is trained once
a seed and shared by all rows that start from it.
After each run the seed's lines (--output_dir/tableN_CONFIG_seedS.csv) and the table (tableN_CONFIG.md) are written
anew. What stands there is not run again, and what was killed is: so the same command goes on where it was.
--dry_run prints what would be run, and its cost. --trial takes one step of each stage of every row, at real shapes, on
generated data that every output calls fake. Every other flag goes to r2d2_tf.train as it is.
"""

import fcntl
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from absl import flags

from r2d2_tf import run_directory
from r2d2_tf.command_line import from_command_line
from r2d2_tf.datasets import DATASETS
from r2d2_tf.tfds_reader import FAKE, check_tfds, is_fake
from r2d2_tf.train import STOPPED
from tools import cost, fake_data
from tools.paper import TABLES, rows_of
from tools.results import Record, Results, Run, TableExperiment


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    if "--help" in arguments:
        print(__doc__)
        return 0
    try:
        own, others = _split_flags(arguments)
        table = own["table"].value
        base_path = own["base"].value or f"configs/{getattr(TABLES[table], own['scale'].value)}.cfg"
        folder, trial = Path(own["runs"].value), own["trial"].value
        experiment = TableExperiment(
            [f"--flagfile={base_path}", *others], folder / "fake_data" if trial else None, draws_splits=table in "5678"
        )
        config = from_command_line(experiment.arguments)
        rows = rows_of(table, config)
        runs = [Run.of(row, experiment, seed) for seed in _seeds(own["seeds"].value) for row in rows]
        tfds_name = DATASETS[config.dataset].tfds_name
        if tfds_name is not None and not (own["dry_run"].value or trial or config.download):
            check_tfds(tfds_name, config.data_path)
            if is_fake(tfds_name, config.data_path):
                raise ValueError(f"data_dir ({config.data_dir}) holds fake data: use --trial, or give real data")
        output_dir, name = Path(own["output_dir"].value), f"table{table}_{config.name}"
        if trial:
            output_dir, name = folder, f"{name}_trial"
        for place in (output_dir, folder):
            run_directory.check_writable(place)
        output = Results(output_dir, name, rows, experiment)
    except (ValueError, flags.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    title = f"{TABLES[table].title} (there {TABLES[table].data}, here {config.dataset}), with {base_path}"
    if trial:
        title = f"{FAKE if tfds_name else 'TRIAL'}, one step of each stage: the errors mean nothing. {title}"
    command = "python -m tools.reproduce " + " ".join(_portable(arguments))
    if own["dry_run"].value:
        print(_plan(runs, output))
        return 0
    try:
        if trial:
            fake_data.make(config.dataset, folder / "fake_data")
        for number, run in enumerate(runs, start=1):
            if output.record_of(run) is None:
                print(f"\nRun {number} of {len(runs)}: {run.row.label}, seed {run.config.seed}", flush=True)
                output.add(run, _make(run, folder))
                output.write_table(title, command)
    except (RuntimeError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(output.write_table(title, command))
    return 0


def _split_flags(arguments: Sequence[str]) -> tuple[flags.FlagValues, list[str]]:
    own = flags.FlagValues()
    flags.DEFINE_enum("table", None, list(TABLES), "table of the paper, or mnist", flag_values=own)
    flags.DEFINE_enum("scale", "cpu", ["cpu", "full"], "size of the experiment", flag_values=own)
    flags.DEFINE_string("base", "", "config of the experiment, in place of --scale's", flag_values=own)
    flags.DEFINE_list("seeds", ["0", "1", "2"], "seeds to run", flag_values=own)
    flags.DEFINE_string("output_dir", "docs/results", "where the tables go", flag_values=own)
    flags.DEFINE_string("runs", "runs/reproduce", "where the runs go", flag_values=own)
    flags.DEFINE_bool("dry_run", False, "print what would be run, and its cost", flag_values=own)
    flags.DEFINE_bool("trial", False, "one step of each stage, on fake data", flag_values=own)
    names = {f"--{name}" for name in own} | {"--nodry_run", "--notrial"}
    own(["reproduce", *(a for a in arguments if a.split("=")[0] in names)])
    if own["table"].value is None:
        raise ValueError("say which table to reproduce: --table=1 to 8, or mnist")
    return own, [a for a in arguments if a.split("=")[0] not in names]


def _seeds(texts: Sequence[str]) -> list[int]:
    try:
        seeds = sorted({int(text) for text in texts})
    except ValueError:
        seeds = []
    if not seeds:
        raise ValueError(f"seeds ({','.join(texts)}) must be whole numbers, separated by commas, as in --seeds=0,1,2")
    return seeds


def _portable(arguments: Sequence[str]) -> list[str]:
    """Arguments as others can use them, without seeds: places on this machine are left out or to be filled in."""
    kept = [a for a in arguments if not a.startswith(("--output_dir=", "--runs=", "--seeds="))]
    return ["--data_dir=DIR" if a.startswith("--data_dir=") else a for a in kept]


def _plan(runs: Sequence[Run], output: Results) -> str:
    """What would be run, and what it costs."""
    size = cost.multiply_adds(runs[0].config)
    lines = [
        f"{runs[0].config.backbone}: {size / 1e6:,.0f} million multiply-adds an image. Hours are of a GPU that sustains "
        f"{cost.TFLOPS:.0f} TFLOP/s, an estimate. Stage 1 is shared by the rows that start from it.",
        "",
        "| row | seed | | million images | hours |",
        "|---|---|---|---|---|",
    ]
    total = 0.0
    for run in runs:
        own = cost.cost_of(run.config)
        if run.has_later_stages:
            own = own.without(cost.cost_of(run.stage_1_alone().config))
        done = output.record_of(run) is not None
        hours = own.gpu_hours(size)
        total += 0.0 if done else hours
        state = "done" if done else "not run"
        lines.append(f"| {run.row.label} | {run.config.seed} | {state} | {own.trained / 1e6:.2f} | {hours:.2f} |")
    return "\n".join([*lines, "", f"Still to run: {total:.2f} hours on such a GPU. Nothing was run."])


def _make(run: Run, runs: Path) -> Record:
    """Trains a run, and before it the stage 1 that it shares with others, where that is not done yet."""
    shared = run.stage_1_alone()
    stage_1 = _trained(shared, shared.arguments, runs)
    if stage_1 is None or not run.has_later_stages:
        return _record(run, stage_1)
    return _record(run, _trained(run, [*run.arguments, f"--stage_1_from={_folder(shared, runs)}"], runs))


def _folder(run: Run, runs: Path) -> Path:
    return runs / f"{run.config.name}-{run.config.digest}"


def _trained(run: Run, arguments: list[str], runs: Path) -> dict[str, Any] | None:
    """The summary of a run, made now if need be; None if the run had to stop."""
    folder = _folder(run, runs)
    runs.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("a") as lock:
        wait_for_lock(lock, folder)
        if not (folder / run_directory.SUMMARY_FILE).is_file():
            command = [sys.executable, "-m", "r2d2_tf.train", *arguments, "--new_run", f"--run_dir={folder}"]
            # The run inherits the lock and so holds it on if this program is killed.
            code = subprocess.run(command, check=False, pass_fds=[lock.fileno()]).returncode
            if code == STOPPED:
                return None
            if code:
                raise RuntimeError(f"the run of row {run.row.label!r} failed; its own message says why")
    return run_directory.read_summary(folder)


def wait_for_lock(lock: IO[str], folder: Path) -> None:
    """Waits while another program, or a run that a killed one left, works on `folder`; then nobody else does."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting for the run in {folder}, which a living process trains", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


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
        "images": _images(summary),
        "git_commit": summary["git_commit"] or "",
        "tensorflow": summary["versions"].get("tensorflow") or summary["versions"].get("tensorflow-cpu") or "",
        "machine": summary["machine"],
    }


def _images(summary: dict[str, Any]) -> str:
    counts = f"{summary['num_labels']:,} labeled, {summary['num_unlabeled']:,} unlabeled, {summary['num_test']:,} to test on"
    return f"{counts} ({FAKE})" if summary["fake_data"] else counts


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
