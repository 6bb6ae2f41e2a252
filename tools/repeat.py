"""`python -m tools.repeat --seeds=0,1,2 --flagfile=configs/mnist5k.cfg`: one run a seed, and the mean over them.

Every other flag goes to r2d2_tf.train as it is. Each run is a process and a folder of its own; a finished one is not
repeated. Prints a Markdown table, errors in percent. If a run fails, the other seeds are run nevertheless; the exit code
is then 1.
"""

import statistics
import sys
from collections.abc import Sequence
from typing import Any

from r2d2_tf.config.command_line import from_command_line, run_program
from r2d2_tf.config.config import Config
from r2d2_tf.runs import run_directory
from tools.shared.arguments import parse_seeds
from tools.shared.runner import run_to_the_end


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    return run_program(arguments, __doc__, lambda: _repeat(arguments))


def _repeat(arguments: Sequence[str]) -> int:
    seeds, others = _split_seeds(arguments)
    configs = [from_command_line([*others, f"--seed={seed}"]) for seed in seeds]
    if any(config.run_dir for config in configs):
        raise ValueError("--run_dir would put all seeds into one folder: leave it out")
    finished = [run_directory.finished_summary(config) for config in configs]
    summaries, failed = [], []
    for config, summary in zip(configs, finished, strict=True):
        summary = summary or _train(config, others)
        if summary is None:
            failed.append(config.seed)
        else:
            summaries.append(summary)
    if summaries:
        print(table(summaries))
    if failed:
        print(f"error: {_seeds(failed)} did not finish; each run's own message says why. {_done(summaries)}", file=sys.stderr)
    return 1 if failed else 0


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _done(summaries: Sequence[dict[str, Any]]) -> str:
    if not summaries:
        return "No seed is done"
    return f"Done, and alone in the table: {_seeds([summary['seed'] for summary in summaries])}"


def _split_seeds(arguments: Sequence[str]) -> tuple[list[int], list[str]]:
    chosen = [a for a in arguments if a.startswith("--seeds=")]
    seeds = parse_seeds(chosen[-1].removeprefix("--seeds=").split(",") if chosen else ())
    return seeds, [a for a in arguments if a not in chosen]


def _train(config: Config, others: Sequence[str]) -> dict[str, Any] | None:
    """The summary of a run that is made now; None if it did not finish."""
    command = [sys.executable, "-m", "r2d2_tf.train", *others, f"--seed={config.seed}"]
    if run_to_the_end(command):
        return None
    return run_directory.read_summary(config.resolved_run_dir)


def table(summaries: Sequence[dict[str, Any]]) -> str:
    """Test errors after each stage and seconds, a row a run, and their mean and standard deviation, as Markdown."""
    stages = list(summaries[0]["test_error_percent"])
    rows = [[*(s["test_error_percent"][stage] for stage in stages), s["seconds"]["total"]] for s in summaries]
    lines = [
        "| seed | " + " | ".join(f"{stage.replace('_', ' ')} %" for stage in stages) + " | seconds |",
        "|---" * (len(stages) + 2) + "|",
    ]
    lines += [_row(str(s["seed"]), values) for s, values in zip(summaries, rows, strict=True)]
    columns = list(zip(*rows, strict=True))
    lines.append(_row("mean", [statistics.mean(column) for column in columns]))
    if len(rows) > 1:
        lines.append(_row("standard deviation", [statistics.stdev(column) for column in columns]))
    return "\n".join(lines)


def _row(label: str, values: Sequence[float]) -> str:
    return f"| {label} | " + " | ".join(f"{value:.2f}" for value in values) + " |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
