"""`python -m tools.reproduce --table=1 --scale=cpu --data_dir=DIR --seeds=0,1,2`: a table of the paper, row by row.

Runs the rows of table 1 to 8, or of the experiment of figure 2 (--table=mnist), one run a row and seed; --scale=full takes
the paper's own size, --scale=cpu one that a CPU carries, and --base=CONFIG any other experiment. Stage 1 is trained once
a seed and shared by all rows that start from it, and so is a first round that rows have in common, as those of table 1.
After each run the seed's lines (--output_dir/tableN_CONFIG_seedS.csv) and the table (tableN_CONFIG.md) are written
anew. What stands there is not run again, and what was killed is: so the same command goes on where it was.
--dry_run prints what would be run, and its cost. --trial takes one step of each stage of every row, at real shapes, on
generated data that every output calls fake. Every other flag goes to r2d2_tf.train as it is.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from r2d2_tf.config.command_line import from_command_line, run_program
from r2d2_tf.config.flag_help import flags_text
from r2d2_tf.config.path_flags import define_path
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.data.readers.tfds import FAKE
from r2d2_tf.runs import run_directory
from r2d2_tf.system.commands import shown
from tools.reproduce import fake_data, run_plan
from tools.reproduce.paper_tables import TABLES, rows_of
from tools.reproduce.results import Results, Run, TableExperiment, shared_first_rounds
from tools.reproduce.trainer import Trainer
from tools.shared.arguments import parse_own, parse_seeds


def main(arguments: Sequence[str]) -> int:
    own = _define_flags()
    return run_program(arguments, f"{__doc__}\n\n{flags_text(own)}", lambda: _reproduce(arguments, own))


def _reproduce(arguments: Sequence[str], own: flags.FlagValues) -> int:
    runs, output = _read(arguments, own)
    trainer = Trainer(Path(own["runs"].value), shared_first_rounds(runs))
    if output.experiment.fake_data is None:
        run_plan.check(runs, is_needed=not own["dry_run"].value)
    if own["dry_run"].value:
        print(run_plan.plan(runs, output, trainer))
        return 0
    try:
        table = _run(runs, output, trainer)
    except (RuntimeError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table)
    return 0


def _define_flags() -> flags.FlagValues:
    own = flags.FlagValues()
    flags.DEFINE_enum("table", None, list(TABLES), "table of the paper, or mnist", flag_values=own)
    flags.DEFINE_enum("scale", "cpu", ["cpu", "full"], "size of the experiment", flag_values=own)
    define_path("base", "", "config of the experiment, in place of --scale's", flag_values=own)
    flags.DEFINE_list("seeds", ["0", "1", "2"], "seeds to run", flag_values=own)
    define_path("output_dir", "docs/results", "where the tables go", flag_values=own)
    define_path("runs", "runs/reproduce", "where the runs go", flag_values=own)
    flags.DEFINE_bool("dry_run", False, "print what would be run, and its cost", flag_values=own)
    flags.DEFINE_bool("trial", False, "one step of each stage, on fake data", flag_values=own)
    return own


def _read(arguments: Sequence[str], own: flags.FlagValues) -> tuple[list[Run], Results]:
    """Reads a command line into `own` flags, and the runs of a table and where their lines go.

    Raises:
        ValueError: if it cannot be done as it stands.
    """
    others = parse_own(own, arguments)
    if own["table"].value is None:
        raise ValueError("say which table to reproduce: --table=1 to 8, or mnist")
    table, folder, trial = own["table"].value, Path(own["runs"].value), own["trial"].value
    base = own["base"].value or f"configs/{getattr(TABLES[table], own['scale'].value)}.cfg"
    experiment = TableExperiment(
        [f"--flagfile={base}", *others], folder / "fake_data" if trial else None, draws_splits=table in "5678"
    )
    config = from_command_line(experiment.arguments)
    rows = rows_of(table, config)
    runs = [Run.of(row, experiment, seed) for seed in sorted(parse_seeds(own["seeds"].value)) for row in rows]
    output_dir, name = Path(own["output_dir"].value), f"table{table}_{config.name}"
    title = f"{TABLES[table].title} (there {TABLES[table].data}, here {config.dataset}), with {base}"
    if trial:
        output_dir, name = folder, f"{name}_trial"
        fake = FAKE if DATASETS[config.dataset].tfds_name else "TRIAL"
        title = f"{fake}, one step of each stage: the errors mean nothing. {title}"
    for place in (output_dir, folder):
        run_directory.check_writable(place)
    # As others can use it, without seeds: places on this machine are left out, or to be filled in.
    kept = [a for a in arguments if not a.startswith(("--output_dir=", "--runs=", "--seeds="))]
    portable = ["--data_dir=DIR" if a.startswith("--data_dir=") else a for a in kept]
    command = " ".join([shown("tools.reproduce"), *portable])
    return runs, Results(output_dir, name, rows, experiment, title, command)


def _run(runs: Sequence[Run], output: Results, trainer: Trainer) -> str:
    """Makes the runs that are left, each with its line and the table on disk before the next; returns the table."""
    if output.experiment.fake_data is not None:
        fake_data.make(runs[0].config.dataset, output.experiment.fake_data)
    for number, run in enumerate(runs, start=1):
        if run.key not in output.records():
            print(f"\nRun {number} of {len(runs)}: {run.row.label}, seed {run.config.seed}", flush=True)
            output.add(run, trainer.make(run))
            output.write_table()
    return output.write_table()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
