"""`run(config)`: what the command does, for who writes Python."""

import dataclasses
import time
from pathlib import Path
from typing import Any

from r2d2_tf.config.config import Config
from r2d2_tf.runs.preflight import begin
from r2d2_tf.system.commands import shown
from r2d2_tf.system.interrupts import RunInterrupted, StopSignals, signals_of_a_call
from r2d2_tf.system.startup import import_tensorflow_quietly, warnings_held_back


def run(config: Config, *, run_dir: str | Path = "") -> dict[str, Any]:
    """Trains as `config` says, as `python -m r2d2_tf.train` does with the same flags, and returns what summary.json holds.

    A run that was interrupted goes on; of one that is finished the summary is returned. Ctrl-C, in the main thread, has
    the run saved first, and once more stops it at once. Recipes for own images are not tried here: the config says it all.

        summary = r2d2_tf.run(r2d2_tf.Config(dataset="mnist5k"), run_dir="runs/digits")
        summary["test_error_percent"]["stage_3"]

    Args:
        config: of the run.
        run_dir: its folder, if not the config's own, which by default is runs/NAME-HASH.

    Raises:
        ValueError: in one line, if the config does not fit the data or the devices, or its folder is taken; nothing is written.
        RunStopped: if the loss is no longer finite or the predictions collapse.
        KeyboardInterrupt: after Ctrl-C; the same call goes on from the last checkpoint.
        OSError: if a file cannot be written.
    """
    began = time.perf_counter()
    if run_dir:
        config = dataclasses.replace(config, run_dir=str(run_dir))
    if config.dry_run:
        raise ValueError(f"dry_run (True) is for the command: {shown('r2d2_tf.train', '--dry_run')} says what a run would take")
    with signals_of_a_call() as signals:
        try:
            return _trained(config, signals, began)
        except RunInterrupted as interrupted:
            how_to_go_on = "the same call, without new_run, goes on from the last checkpoint, if there is one"
            raise KeyboardInterrupt(f"{interrupted}; {how_to_go_on}") from None


def _trained(config: Config, signals: StopSignals, began: float) -> dict[str, Any]:
    begun = begin(config)
    if begun.finished is not None:
        return begun.finished
    import_tensorflow_quietly(others_may_end=len(begun.cluster.addresses) > 1)
    from r2d2_tf.training.experiment import Experiment

    experiment = Experiment(begun.config, begun.spec, begun.cluster, signals)
    with experiment.claimed() as folder, warnings_held_back():
        signals.defer()
        return experiment.run(folder, began)
