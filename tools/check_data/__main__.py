"""`python -m tools.check_data --data_dir=PHOTOS [--labels=labels.csv]`: what is in your own images, before you train.

Counts classes, sizes and kinds of files; names images that cannot be read, copies, labels that contradict each other, and test
images that are among the training images; draws a sheet of images as a network sees them; and proposes a config with the reason
of each flag, which --config_out writes as a flagfile that trains as it is. Nothing is written into the folder of the images.

Exit codes: 0, it can be trained on; 1, something is wrong with images or labels that should be mended first; 2, it could not be
looked at, and the line says why.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from r2d2_tf.config.command_line import run_with_flags
from r2d2_tf.runs import run_directory
from tools.check_data.data_check import Asked, check


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    flag_values = flags.FlagValues()
    define = flags.DEFINE_string
    define("data_dir", "", "folder of images, .npz file, or folder of prepared TFDS sets", flag_values=flag_values)
    define("dataset", "", "folder, npz or tfds:NAME; by default what --data_dir looks like", flag_values=flag_values)
    define("labels", "", "CSV or Parquet file with columns file, label (and split)", flag_values=flag_values)
    define("sheet", "own_images.png", "picture of images to write; empty: none", flag_values=flag_values)
    define("config_out", "", "flagfile to write; empty: none", flag_values=flag_values)
    flags.DEFINE_integer("num_labels", 0, "labels that a run draws of a TFDS set; 0: all", 0, flag_values=flag_values)
    flags.DEFINE_float("test_fraction", 0.0, "share of the labeled images to test on", 0.0, 0.99, flag_values=flag_values)
    flags.DEFINE_float("hours", 2.0, "that a run may take, for the proposal", 0.01, flag_values=flag_values)
    flags.DEFINE_enum("device", "auto", ["auto", "cpu", "gpu"], "what will train, for the proposal", flag_values=flag_values)
    return run_with_flags(arguments, __doc__, flag_values, _run)


def _run(flag_values: flags.FlagValues) -> int:
    if not flag_values["data_dir"].value:
        raise ValueError("say which images to look at: --data_dir=PHOTOS")
    for name in ("sheet", "config_out"):
        if flag_values[name].value:
            run_directory.check_writable(Path(flag_values[name].value).parent)
    return check(Asked(**{name: flag_values[name].value for name in Asked._fields}))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
