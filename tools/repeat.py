"""`python -m tools.repeat --seeds=0,1,2 --flagfile=configs/mnist5k.cfg`: one run a seed, and the mean over them.

Every other flag goes to r2d2_tf.train as it is. Each run is a process and a folder of its own; a finished one is not
repeated. Prints a Markdown table, errors in percent. If a run fails, the other seeds are run nevertheless; the exit code
is then 1.
"""

import sys
from collections.abc import Sequence
from typing import Any

from r2d2_tf.config.command_line import from_command_line, run_program
from r2d2_tf.runs import run_directory
from tools.shared import runner
from tools.shared.arguments import parse_seeds
from tools.shared.seed_table import Column, seed_table


def main(arguments: Sequence[str]) -> int:
    return run_program(arguments, __doc__, lambda: _repeat(arguments))


def _repeat(arguments: Sequence[str]) -> int:
    chosen = [argument for argument in arguments if argument.startswith("--seeds=")]
    seeds = parse_seeds(chosen[-1].removeprefix("--seeds=").split(",") if chosen else ())
    others = [argument for argument in arguments if argument not in chosen]
    configs = [from_command_line([*others, f"--seed={seed}"]) for seed in seeds]
    if any(config.run_dir for config in configs):
        raise ValueError("--run_dir would put all seeds into one folder: leave it out")
    finished = [run_directory.finished_summary(config) for config in configs]
    summaries, failed = [], []
    for config, summary in zip(configs, finished, strict=True):
        try:
            summaries.append(summary or runner.train([*others, f"--seed={config.seed}"]))
        except runner.RunFailed:
            failed.append(config.seed)
    if summaries:
        print(table(summaries))
    if failed:
        done = [summary["seed"] for summary in summaries]
        rest = f"Done, and alone in the table: {_seeds(done)}" if done else "No seed is done"
        print(f"error: {_seeds(failed)} did not finish; each run's own message says why. {rest}", file=sys.stderr)
    return 1 if failed else 0


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def table(summaries: Sequence[dict[str, Any]]) -> str:
    """Test errors after each stage and seconds, a row a run, and their mean and standard deviation, as Markdown."""
    stages = list(summaries[0]["test_error_percent"])
    columns = [Column(f"{stage.replace('_', ' ')} %", [s["test_error_percent"][stage] for s in summaries]) for stage in stages]
    columns.append(Column("seconds", [s["seconds"]["total"] for s in summaries]))
    return seed_table([s["seed"] for s in summaries], columns)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
