"""`python -m r2d2_tf.train --flagfile=configs/mnist5k.cfg`: trains one model from a command line.

`python -m r2d2_tf.train --dataset=folder --data_dir=PHOTOS`, with nothing of how to train, tries recipes on labels that are
held out in turn, within `--minutes`, and trains by the best of them.

The same command goes on where a run was interrupted, and shows the result of a finished one.

Exit codes: 0, the run is finished; 1, a file could not be written, or no checkpoint can be gone on from; 2, the command line
was wrong and nothing was written; 3, the run had to stop, as something was not finite or the predictions collapsed; 130,
Ctrl-C, and 143, SIGTERM: the run was saved.
"""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Sequence
from typing import Any

from r2d2_tf.config.command_line import from_command_line, named_flags
from r2d2_tf.config.config import Config
from r2d2_tf.config.flag_help import FULL_HELP, HELP, help_text
from r2d2_tf.data.datasets import OWN_SETS
from r2d2_tf.recipes import choosing, inputs
from r2d2_tf.recipes.chosen import RECIPE_FILE, chosen_before, copy_into_run
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.runs.outcome.summary import next_text, result_text
from r2d2_tf.runs.preflight import begin, check_data
from r2d2_tf.system import terminal
from r2d2_tf.system.commands import in_text
from r2d2_tf.system.interrupts import RunInterrupted, StopSignals
from r2d2_tf.system.messages import mistake, one_line, warn
from r2d2_tf.system.startup import import_tensorflow_quietly, warnings_held_back

STOPPED = 3
"""Exit code of a run that had to stop."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` (without the program's name) and returns the exit code."""
    with terminal.plain_output(), StopSignals() as signals:
        try:
            return _train(arguments, signals)
        except RunInterrupted as interrupted:
            return _ended(f"{interrupted}; nothing was trained yet", interrupted.exit_code)


def _ended(why: str, exit_code: int) -> int:
    print(why, file=sys.stderr)
    return exit_code


def _train(arguments: Sequence[str], signals: StopSignals) -> int:
    began = time.perf_counter()
    if HELP in arguments or FULL_HELP in arguments:
        print(help_text(in_text(__doc__), full=FULL_HELP in arguments))
        return 0
    try:
        config, named = from_command_line(arguments), named_flags(arguments)
        if "data_dir" in named and "dataset" not in named:
            raise mistake(_which_set(config))
        if not inputs.is_open(named, config):
            return _run(config, signals, began)
        # Named by what was asked for, whatever is chosen.
        config = dataclasses.replace(config, run_dir=str(config.resolved_run_dir))
        if before := chosen_before(config, named):
            return _run(before, signals, began, chosen=True)
    except (ValueError, OSError) as error:
        return _ended(f"error: {one_line(error)}", 2)
    return _choose_and_run(config, signals, began, weights_allowed="weights" not in named)


def _which_set(config: Config) -> str:
    return (
        f"data_dir ({config.data_dir}) without a dataset: --dataset=folder is a folder of own images, --dataset=npz a file "
        f"of arrays; {config.dataset}, the default, needs none"
    )


def _choose_and_run(config: Config, signals: StopSignals, began: float, *, weights_allowed: bool) -> int:
    """Trains by the recipe that held-out labels choose."""
    try:
        config, spec = inputs.data_of(config)
        import_tensorflow_quietly()
        from tensorflow.errors import OpError

        from r2d2_tf.training.callbacks.collapse import RunStopped

        print("Looking at the images, and at how long it takes to train on them ...", flush=True)
        choice = choosing.Choosing(config, spec, signals, began, weights_allowed=weights_allowed)
        terminal.say(choice.plan_text())
        if config.dry_run:
            print("A dry run: nothing was trained or written.")
            return 0
    except (ValueError, OSError) as error:
        return _ended(f"error: {one_line(error)}", 2)
    # From now on there is something to lose.
    signals.defer()
    how_to_go_on = "the same command " + ("begins to choose anew" if config.new_run else "goes on with what is not tried yet")
    try:
        with warnings_held_back():
            chosen = choice.chosen()
    except RunInterrupted as interrupted:
        return _ended(f"{interrupted}; {how_to_go_on}", interrupted.exit_code)
    except ValueError as error:
        return _ended(f"error: {one_line(error)}", 2)
    except (OSError, OpError) as error:
        return _ended(f"error: {one_line(error)}; once that is mended, {how_to_go_on}", 1)
    except RunStopped as error:
        return _ended(f"error: {one_line(error)}", STOPPED)
    terminal.say("\n".join(["", *chosen.words, f"Its flags are in {choice.folder / RECIPE_FILE}", ""]))
    return _run(chosen.config, signals, began, chosen=True)


def _run(config: Config, signals: StopSignals, began: float, *, chosen: bool = False) -> int:
    try:
        if config.dry_run:
            return _dry_run(run_directory.as_begun(config), began)
        config, cluster, finished, spec = begin(config)
    except (ValueError, OSError) as error:
        return _ended(f"error: {one_line(error)}", 2)
    if finished is not None:
        if _changed_since(finished, config):
            warn("the images or their labels may have changed since: --new_run trains on what is there now")
        print(f"This run is finished already; --new_run would repeat it.\n{_result(finished, config)}")
        return 0
    # Only now: TensorFlow takes seconds to import, and a mistake in a flag should be told at once.
    import_tensorflow_quietly(others_may_end=len(cluster.addresses) > 1)
    from tensorflow.errors import OpError

    from r2d2_tf.distributed.workers import lost_worker
    from r2d2_tf.runs.checkpoints import CannotResume
    from r2d2_tf.training.callbacks.collapse import RunStopped
    from r2d2_tf.training.experiment import Experiment

    with contextlib.ExitStack() as stack:
        try:
            experiment = Experiment(config, spec, cluster, signals)
            folder = stack.enter_context(experiment.claimed())
            if chosen:
                copy_into_run(config)
        except OpError as error:
            if not (lost := lost_worker(error, cluster)):
                raise
            return _ended(f"error: {lost}; nothing was trained yet", 1)
        except (ValueError, OSError) as error:
            return _ended(f"error: {one_line(error)}", 2)
        signals.defer()
        try:
            with warnings_held_back():
                summary = experiment.run(folder, began)
            print(_result(summary, config))
        except RunInterrupted as interrupted:
            return _ended(f"{interrupted}; {run_directory.how_to_go_on(config)}", interrupted.exit_code)
        except (OSError, OpError) as error:
            lost = lost_worker(error, cluster)
            why = f"{lost}; once all are started again" if lost else f"{one_line(error)}; once that is mended"
            return _ended(f"error: {why}, {run_directory.how_to_go_on(config)}", 1)
        except CannotResume as error:
            return _ended(f"error: {one_line(error)}", 1)
        except RunStopped as error:
            return _ended(f"error: {one_line(error)}", STOPPED)
    return 0


def _dry_run(config: Config, began: float) -> int:
    """Prints what the run would take, whatever is in its folder.

    Raises:
        ValueError: if the config does not fit the data, the devices, the memory or the disk.
    """
    for line in [*config.warnings(), *_what_is_in_the_folder(config)]:
        warn(line)
    if config.strategy == "multi_worker":
        warn("a dry run looks at this process alone, as if there were no others")
        config = dataclasses.replace(config, strategy="auto")
    # A download would write.
    spec = check_data(dataclasses.replace(config, download=False))
    import_tensorflow_quietly()
    from r2d2_tf.training.experiment import Experiment
    from r2d2_tf.training.preview import preview

    experiment = Experiment(config, spec)
    terminal.say(experiment.plan_text(config.resolved_run_dir))
    terminal.say(f"\n{preview(experiment, began)}\nA dry run: no run was begun.")
    return 0


def _what_is_in_the_folder(config: Config) -> list[str]:
    try:
        if run_directory.finished_summary(config) is not None:
            return [f"this run is finished already, in {config.resolved_run_dir}; the times are those of another one"]
    except (ValueError, OSError) as error:
        return [f"the run itself would be refused: {one_line(error)}"]
    if run_directory.is_unfinished(config):
        return [f"the run would go on with what is in {config.resolved_run_dir}; the times are those of a whole run"]
    return []


def _changed_since(summary: dict[str, Any], config: Config) -> bool:
    """Whether images or labels of somebody's own set are no longer those of the finished run."""
    try:
        return (config.dataset in OWN_SETS or bool(config.labels)) and spec_of(config).content != summary.get("data_content")
    except (ValueError, OSError):
        return True


def _result(summary: dict[str, Any], config: Config) -> str:
    run_dir = str(config.resolved_run_dir)
    # What is to be pasted stays as it is.
    return f"{terminal.fitted(result_text(summary, run_dir), terminal.columns())}\n\n{next_text(summary, run_dir)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
