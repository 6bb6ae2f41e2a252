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
from tools.check_data.data_check import check, define_flags


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    return run_with_flags(arguments, __doc__, define_flags(), _run)


def _run(flag_values: flags.FlagValues) -> int:
    if not flag_values["data_dir"].value:
        raise ValueError("say which images to look at: --data_dir=PHOTOS")
    for name in ("sheet", "config_out"):
        if flag_values[name].value:
            run_directory.check_writable(Path(flag_values[name].value).parent)
    return check(flag_values)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
