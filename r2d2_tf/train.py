"""`python -m r2d2_tf.train --flagfile=configs/mnist5k.cfg`: trains one model from a command line.

Exit codes: 0, the run is finished; 1, it had to stop; 2, the command line was wrong and nothing was written; 130, Ctrl-C.
"""

import sys
import time
from collections.abc import Sequence

from r2d2_tf import run_directory
from r2d2_tf.config import flag_help, from_command_line
from r2d2_tf.datasets import DATASETS, check_tfds
from r2d2_tf.startup import import_tensorflow_quietly


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` (without the program's name) and returns the exit code."""
    try:
        return _train(arguments)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


def _train(arguments: Sequence[str]) -> int:
    began = time.perf_counter()
    if "--help" in arguments:
        print(f"{__doc__}\nFlags, with their defaults:\n{flag_help()}")
        return 0
    try:
        config = from_command_line(arguments)
        finished = run_directory.finished_summary(config)
        tfds_name = DATASETS[config.dataset].tfds_name
        if finished is None and tfds_name is not None:
            check_tfds(tfds_name, config.data_path)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for line in config.warnings():
        print(f"warning: {line}", file=sys.stderr)
    # Only now: TensorFlow takes seconds to import, and a mistake in a flag should be told at once.
    import_tensorflow_quietly()
    from r2d2_tf import experiment

    return experiment.main(config, finished, began)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
