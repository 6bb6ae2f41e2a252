"""`python -m tools.label_queue.queue_experiment --flagfile=configs/mnist5k.cfg`: are queued labels worth more than random ones?

For each seed: a run; then, for each strategy of tools.label_queue, --count more images get their true labels, and a run on all
labels starts from the first one's network (--warm_start; with --cold it trains a stage 1 of its own). Prints a Markdown table
of final test errors in percent, their means and standard deviations, and by how much each strategy differs from the last one,
seed by seed; it stands in OUTPUT_DIR/table.md too. Other flags go to r2d2_tf.train as they are.

Each run is a process and a folder of its own in --output_dir: the same command goes on where it was interrupted, and repeats
nothing that is finished. Which images are asked for depends on no test image and on no hidden label. To choose a strategy take
a data set that is made for choosing, such as --dataset=mnist5k_dev.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

from r2d2_tf.config.command_line import from_command_line, run_program
from r2d2_tf.config.flag_help import flags_text
from r2d2_tf.config.path_flags import define_path
from r2d2_tf.data.datasets import OWN_SETS
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.outcome.summary import result_error
from r2d2_tf.system import files, provenance
from r2d2_tf.system.messages import one_line
from tools.label_queue import selection
from tools.shared import saved_table
from tools.shared.arguments import parse_own, parse_seeds
from tools.shared.runner import summary_of
from tools.shared.seed_table import Column, seed_table

TABLE_FILE = "table.md"


@dataclass(frozen=True)
class Experiment:
    """What is to be run: the flags of all runs, and this program's own. Strategies are held against the last one."""

    arguments: tuple[str, ...]
    seeds: tuple[int, ...]
    strategies: tuple[str, ...]
    count: int
    folder: Path
    cold: bool

    def first_run(self, seed: int) -> list[str]:
        """The flags of the run whose table is asked."""
        return [*self.arguments, f"--seed={seed}", f"--run_dir={self.folder / f'seed{seed}'}"]

    def later_run(self, seed: int, strategy: str) -> list[str]:
        """The flags of a run with more labels; its split file is beside its folder."""
        name = f"seed{seed}-{strategy}{'-cold' if self.cold else ''}"
        labels = from_command_line(self.arguments).num_labels + self.count
        start = [] if self.cold else [f"--warm_start={self.folder / f'seed{seed}'}"]
        split = self.folder / f"seed{seed}-{strategy}.txt"
        own = [f"--seed={seed}", f"--split_file={split}", f"--num_labels={labels}", f"--run_dir={self.folder / name}"]
        return [*self.arguments, *own, *start]


def split_text(first_run: Path, strategy: str, count: int, seed: int) -> str:
    """The labeled images of a run, and `count` more that a strategy asks for, as a split file."""
    table = saved_table.read(first_run / run_directory.TABLE_FILE)
    found = selection.candidates(first_run, table, [str(number) for number in range(table.num_classes)])
    order = selection.chosen(found, selection.usefulness(found, strategy, seed), count, quota=0)
    more = "".join(f"{name}\n" for name in table.ids[found.rows[order]].tolist())
    return f"{(first_run / run_directory.SPLIT_FILE).read_text()}# {strategy}, seed {seed}:\n{more}"


def final_error(arguments: Sequence[str]) -> float:
    """Percent of test images that are wrong at the end of a run, which is made now if need be; see runner.summary_of."""
    return result_error(summary_of(arguments))


def errors_of(experiment: Experiment, seed: int) -> dict[str, float]:
    """Final errors of a seed's runs by column of the table."""
    first = experiment.folder / f"seed{seed}"
    errors = {"before": final_error(experiment.first_run(seed))}
    for strategy in experiment.strategies:
        experiment.folder.mkdir(parents=True, exist_ok=True)
        files.write_text(experiment.folder / f"seed{seed}-{strategy}.txt", split_text(first, strategy, experiment.count, seed))
        errors[strategy] = final_error(experiment.later_run(seed, strategy))
    return errors


def table_text(experiment: Experiment, errors: Mapping[int, Mapping[str, float]]) -> str:
    """The table in Markdown."""
    *others, last = experiment.strategies
    columns = [Column(name, [own[name] for own in errors.values()]) for name in ("before", *experiment.strategies)]
    columns += [Column(f"{name} - {last}", [own[name] - own[last] for own in errors.values()]) for name in others]
    start = "a stage 1 of its own" if experiment.cold else "the first run's network"
    return (
        f"{seed_table(list(errors), columns)}\n\n"
        f"Final test error in percent: before, and with {experiment.count} more labels, trained from {start}. Flags: "
        f"{' '.join(experiment.arguments)}. By {provenance.told_commit(provenance.git_commit())}; {provenance.machine()}.\n"
    )


def _experiment(flag_values: flags.FlagValues, arguments: Sequence[str]) -> Experiment:
    """What a command line asks for, checked as far as that needs no run."""
    others = tuple(parse_own(flag_values, arguments))
    seeds = tuple(parse_seeds(flag_values["seeds"].value))
    strategies = tuple(dict.fromkeys(flag_values["strategies"].value))
    wrong = [name for name in strategies if name not in selection.STRATEGIES]
    if wrong or not strategies:
        raise ValueError(f"strategies ({','.join(wrong)}) must be among {', '.join(selection.STRATEGIES)}: change --strategies")
    config = from_command_line(others)
    own = ("run_dir", "split_file", "new_run", "warm_start", "stage_1_from", "stage_2_from")
    if any(getattr(config, name) for name in own):
        taken = f"{', '.join(f'--{name}' for name in own[:-1])} and --{own[-1]}"
        raise ValueError(f"each run has a folder, labels and a start of its own: leave {taken} out")
    if not (config.num_labels and config.rounds):
        raise ValueError("there is nothing to ask for without unlabeled images and a table: give --num_labels and --rounds")
    if config.labels or config.dataset in OWN_SETS:
        given = "--labels" if config.labels else f"--dataset={config.dataset}"
        raise ValueError(f"{given} gives labels, and those of queued images are not known: take a named data set")
    options: dict[str, Any] = {name: flag_values[name].value for name in ("count", "cold")}
    made = Experiment(others, seeds, strategies, folder=Path(flag_values["output_dir"].value), **options)
    try:
        from_command_line(made.later_run(seeds[0], strategies[0]))
    except ValueError as error:
        raise ValueError(f"with --count={made.count} more labels, {error}") from error
    return made


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    flag_values = flags.FlagValues()
    flags.DEFINE_list("seeds", "0,1,2,3,4", "seeds of the runs", flag_values=flag_values)
    flags.DEFINE_list("strategies", "mixed,random", "of tools.label_queue", flag_values=flag_values)
    flags.DEFINE_integer("count", 50, "images that are labeled", lower_bound=1, flag_values=flag_values)
    define_path("output_dir", "runs/queue_experiment", "folder of the runs", flag_values=flag_values)
    flags.DEFINE_bool("cold", False, "train the later runs from a stage 1 of their own", flag_values=flag_values)
    help_text = f"{__doc__}\n\n{flags_text(flag_values)}"
    return run_program(arguments, help_text, lambda: _run(_experiment(flag_values, arguments)))


def _run(experiment: Experiment) -> int:
    run_directory.check_writable(experiment.folder)
    errors = {}
    try:
        for seed in experiment.seeds:
            errors[seed] = errors_of(experiment, seed)
            text = table_text(experiment, errors)
            files.write_text(experiment.folder / TABLE_FILE, text)
    except RuntimeError as error:
        print(f"error: {one_line(error)}; once that is mended, the same command goes on", file=sys.stderr)
        return 1
    print(f"\n{text}\nThis stands in {experiment.folder / TABLE_FILE} too.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
