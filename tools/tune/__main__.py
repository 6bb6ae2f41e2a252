"""`python -m tools.tune --flagfile=configs/mnist5k.cfg --alpha=0.05:0.5 --beta=0.005:0.1`: searches for good flags.

A range is `low:high`, `low:high:log` or `low:high:linear` (by default log, where high is ten times low or more), or a list of
choices `a,b,c`. --alpha and --beta take one, and --search=FLAG=RANGE, given as often as needed, any other number of
r2d2_tf.train; `--search=rounds_rate_factor=0.25:2` multiplies the learning rates of all rounds. Beta stays below alpha. Every
other flag goes to the runs as it is; --alpha and --beta with one value too.

Trials are judged by labeled images that training sees without their labels, never by the test set: in folds, so that each
judges once (--folds; by default 2 for fewer than 1,000 labels), or by one part of them (--folds=1 --validation_fraction=0.2),
or by the test images of another data set (--validation_dataset). The first trial is the config's own setting. Stage 1 is
trained once a fold; a searched flag that it depends on gives each trial its own. hyperband tries settings in a few epochs of
stage 2, with rounds (and stage 3) shortened in proportion, and the best of them again in more.

--seed decides labels, folds and training, --search_seed what is tried. Killed at any moment, the same command goes on. Several
workers: KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT, as keras-tuner has them (docs/searching.md).
"""

import sys
from collections.abc import Sequence

from r2d2_tf.config.command_line import run_program
from r2d2_tf.config.flag_help import flags_text
from tools.tune import options


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code: 1, a run failed; 2, the command was wrong; 130, Ctrl-C."""
    help_text = f"{__doc__}\n\n{flags_text(options.define_flags())}"
    return run_program(arguments, help_text, lambda: _search(arguments))


def _search(arguments: Sequence[str]) -> int:
    chosen = options.read(arguments)
    # Only now: TensorFlow takes seconds to import, and a mistake in a flag should be told at once.
    from r2d2_tf.system.startup import import_tensorflow_quietly

    import_tensorflow_quietly()
    from tools.tune.search import run

    return run(chosen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
