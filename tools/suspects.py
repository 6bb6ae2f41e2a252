"""`python -m tools.suspects --run_dir=RUN`: which given labels are probably wrong, of a run with --learn_labeled_rows.

Ranks the labeled images by the probability that their learned row leaves to the given label, lowest first, and writes
suspects.csv into the run's folder. Where the true classes are known, as of a benchmark with --label_noise, it says how good the
ranking is: its average precision, 1 if all wrong labels come first.
"""

import sys
from collections.abc import Sequence

import numpy as np
from absl import flags

from r2d2_tf.config.command_line import run_with_flags
from r2d2_tf.config.path_flags import define_data_dir, define_path
from r2d2_tf.runs import finished, run_directory
from r2d2_tf.system import files
from r2d2_tf.system.messages import markdown
from tools.shared import run_images, saved_table
from tools.shared.saved_table import ranked

CSV_FILE = "suspects.csv"


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    flag_values = flags.FlagValues()
    define_path("run_dir", "", "folder of a finished run", flag_values=flag_values)
    define_data_dir(flag_values)
    flags.DEFINE_integer("count", 20, "suspects that are printed", lower_bound=1, flag_values=flag_values)
    return run_with_flags(arguments, __doc__, flag_values, _run)


def _run(flag_values: flags.FlagValues) -> int:
    run_dir, config, summary = finished.named(flag_values["run_dir"].value)
    if not (config.learn_labeled_rows and config.parsed_rounds):
        raise ValueError(f"the labeled rows of {run_dir} were not learned: train with --learn_labeled_rows, and with --rounds")
    run_directory.check_writable(run_dir)
    table = saved_table.read(run_dir / run_directory.TABLE_FILE)
    _, data = finished.images_of(run_dir, config, summary, data_dir=flag_values["data_dir"].value)
    true_labels = run_images.placed(table, data).true_labels
    suspects = ranked(table)
    columns = (suspects.ids, suspects.given, suspects.learned, suspects.probability)
    names = data.class_names
    lines = [(name, names[given], names[learned], f"{p:.4f}") for name, given, learned, p in zip(*columns, strict=True)]
    titles = ("file", "given", "learned", "probability_of_given")
    files.write_csv(run_dir / CSV_FILE, [titles, *lines])
    print("\n".join(markdown([titles, *lines[: flag_values["count"].value]])))
    print(f"\nAll {len(lines):,} labeled images, the most doubtful first: {run_dir / CSV_FILE}")
    print(f"{(suspects.learned != suspects.given).sum():,} rows say another class than was given.")
    known = true_labels[suspects.rows]
    is_wrong = (known != suspects.given) & (known >= 0)
    if is_wrong.any():
        print(f"{is_wrong.sum()} given labels are wrong; average precision of this order: {average_precision(is_wrong):.3f}")
    return 0


def average_precision(is_wrong: np.ndarray) -> float:
    """Mean, over the wrong ones, of the share of wrong ones among those down to it in the order, `[labels]` bool."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(is_wrong, -np.arange(len(is_wrong))))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
