"""`python -m tools.suspects --run_dir=RUN`: which given labels are probably wrong, of a run with --learn_labeled_rows.

Ranks the labeled images by the probability that their learned row leaves to the given label, lowest first, and writes
suspects.csv into the run's folder. Where the true classes are known, as of a benchmark with --label_noise, it says how good the
ranking is: its average precision, 1 if all wrong labels come first.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from r2d2_tf.config.command_line import parse_flags, run_program
from r2d2_tf.runs import finished, run_directory
from r2d2_tf.system import files
from tools.shared import run_images, saved_table
from tools.shared.saved_table import ranked

CSV_FILE = "suspects.csv"


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    flag_values = flags.FlagValues()
    flags.DEFINE_string("run_dir", "", "folder of a finished run", flag_values=flag_values)
    flags.DEFINE_string("data_dir", "", "folder of the data set, if not that of the run", flag_values=flag_values)
    flags.DEFINE_integer("count", 20, "suspects that are printed", lower_bound=1, flag_values=flag_values)
    return run_program(arguments, f"{__doc__}\n{flag_values.get_help()}", lambda: _run(flag_values, arguments))


def _run(flag_values: flags.FlagValues, arguments: Sequence[str]) -> int:
    """The program's own work; see command_line.run_program."""
    parse_flags(flag_values, arguments)
    run_dir, config, _ = finished.named(flag_values["run_dir"].value)
    if not (config.learn_labeled_rows and config.parsed_rounds):
        raise ValueError(f"the labeled rows of {run_dir} were not learned: train with --learn_labeled_rows, and with --rounds")
    run_directory.check_writable(run_dir)
    table = saved_table.read(run_dir / run_directory.TABLE_FILE)
    data = run_images.load(config, flag_values["data_dir"].value)
    true_labels = run_images.placed(table, data).true_labels
    suspects = ranked(table)
    lines = [
        {
            "file": suspects.ids[i],
            "given": data.class_names[suspects.given[i]],
            "learned": data.class_names[suspects.learned[i]],
            "probability_of_given": f"{suspects.probability[i]:.4f}",
        }
        for i in range(len(suspects.rows))
    ]
    with files.written_whole(run_dir / CSV_FILE) as path:
        _write(path, lines)
    _say(lines, flag_values["count"].value, run_dir / CSV_FILE)
    known = true_labels[suspects.rows]
    is_wrong = (known != suspects.given) & (known >= 0)
    if is_wrong.any():
        print(f"{is_wrong.sum()} given labels are wrong; average precision of this order: {average_precision(is_wrong):.3f}")
    return 0


def _say(lines: Sequence[dict[str, Any]], count: int, path: Path) -> None:
    shown = [{name: name for name in lines[0]}, *lines[:count]]
    widths = {name: max(len(line[name]) for line in shown) for name in lines[0]}
    for line in shown:
        print("  ".join(f"{line[name]:<{width}}" for name, width in widths.items()).rstrip())
    left = sum(line["learned"] != line["given"] for line in lines)
    print(
        f"\nAll {len(lines):,} labeled images, the most doubtful first: {path}\n{left:,} rows say another class than was given."
    )


def average_precision(is_wrong: np.ndarray) -> float:
    """Mean, over the wrong ones, of the share of wrong ones among those down to it in the order, `[labels]` bool."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(is_wrong, -np.arange(len(is_wrong))))


def _write(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, lines[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
