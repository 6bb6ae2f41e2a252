"""`python -m tools.benchmark`: what checkpoints cost, as shares of a run's time.

A run of configs/mnist5k.cfg, whole; and a checkpoint of ImageNet's size (--rows x --classes pseudo-logits and a ResNet-18 with
its momentum), written and restored --rounds times, against --checkpoint_minutes. Prints a table, and writes it as JSON with
--json=FILE. Files go to --folder, which must have room for three checkpoints.
"""

import contextlib
import io
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from absl import flags

from r2d2_tf import files, provenance, run_directory
from r2d2_tf.command_line import from_command_line, parse_flags
from r2d2_tf.config import Config
from r2d2_tf.startup import import_tensorflow_quietly

_GIB = 2**30
Measured = dict[str, Any]


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    flag_values = flags.FlagValues()
    flags.DEFINE_integer("rows", 1_281_167, "rows of the large table", lower_bound=1, flag_values=flag_values)
    flags.DEFINE_integer("classes", 1000, "its classes", lower_bound=2, flag_values=flag_values)
    flags.DEFINE_integer("rounds", 3, "checkpoints that are written and restored", lower_bound=1, flag_values=flag_values)
    flags.DEFINE_string("folder", tempfile.gettempdir(), "where checkpoints are written", flag_values=flag_values)
    flags.DEFINE_string("json", "", "file for the numbers", flag_values=flag_values)
    if "--help" in arguments:
        print(f"{__doc__}\n{flag_values.main_module_help()}")
        return 0
    try:
        parse_flags(flag_values, arguments)
        place = Path(flag_values["folder"].value)
        run_directory.check_writable(place)
        if flag_values["json"].value:
            run_directory.check_writable(Path(flag_values["json"].value).absolute().parent)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    import_tensorflow_quietly()
    try:
        with tempfile.TemporaryDirectory(dir=place) as folder:
            measured = {
                # The large one first: a process's peak of memory never falls.
                "large": large_checkpoint(
                    Path(folder) / "large", *(flag_values[name].value for name in ("rows", "classes", "rounds"))
                ),
                "run": checkpoints_of_a_run(Path(folder) / "run"),
            }
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report(measured))
    if flag_values["json"].value:
        with files.written_whole(Path(flag_values["json"].value)) as path:
            path.write_text(json.dumps(measured | {"machine": provenance.machine()}, indent=2) + "\n")
    return 0


def large_checkpoint(folder: Path, num_rows: int, num_classes: int, rounds: int) -> Measured:
    """Writes and restores checkpoints of a ResNet-18 and a table of pseudo-logits."""
    import keras

    from r2d2_tf import backbones
    from r2d2_tf.checkpoints import Checkpoints
    from r2d2_tf.history import PredictionHistory
    from r2d2_tf.pseudo_labels import UNLABELED, PseudoLabelTable
    from r2d2_tf.run_state import RunState

    labels = np.full(num_rows, UNLABELED)
    labels[: num_rows // 10] = np.arange(num_rows // 10) % num_classes
    table = PseudoLabelTable(labels, num_classes)
    network = backbones.build("resnet18", (224, 224, 3), num_classes, mean=(0.5,) * 3, std=(0.25,) * 3)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)
    optimizer.build(network.trainable_variables)
    variables = {f"{number:04d}": variable for number, variable in enumerate([*network.variables, *optimizer.variables])}
    history = PredictionHistory(table.unlabeled_rows)
    folder.mkdir()
    checkpoints = Checkpoints(folder, "")
    before = _peak_memory()
    saved = [_seconds(lambda: checkpoints.save(RunState(2), variables, table, history)) for _ in range(rounds)]
    after_saving = _peak_memory()
    restored = [_seconds(lambda: _restore(checkpoints, variables, table, history)) for _ in range(rounds)]
    size = max(path.stat().st_size for path in (folder / run_directory.CHECKPOINTS).iterdir())
    run_directory.remove_checkpoints(folder)
    return {
        "rows": num_rows,
        "classes": num_classes,
        "bytes": size,
        "save_seconds": saved,
        "restore_seconds": restored,
        "save_memory_bytes": after_saving - before,
        "restore_memory_bytes": _peak_memory() - after_saving,
        "minutes": Config().checkpoint_minutes,
        "share": statistics.median(saved) / (60 * Config().checkpoint_minutes),
    }


def _restore(checkpoints: Any, variables: dict[str, Any], table: Any, history: Any) -> None:
    checkpoints.newest(print).restore(variables, table, history)


def checkpoints_of_a_run(folder: Path) -> Measured:
    """Trains configs/mnist5k.cfg and times its checkpoints."""
    from r2d2_tf import experiment
    from r2d2_tf.checkpoints import Checkpoints

    taken: list[float] = []
    save = Checkpoints.save

    def timed(*arguments: Any) -> None:
        taken.append(_seconds(lambda: save(*arguments)))

    config = from_command_line(["--flagfile=configs/mnist5k.cfg", f"--run_dir={folder}"])
    with mock.patch.object(Checkpoints, "save", timed), contextlib.redirect_stdout(io.StringIO()):
        total = _seconds(lambda: experiment.run(config))
    return {"seconds": total, "checkpoints": len(taken), "checkpoint_seconds": sum(taken), "share": sum(taken) / total}


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _peak_memory() -> int:
    """Of this process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def report(measured: dict[str, Measured]) -> str:
    """The numbers as a Markdown table, shares first."""
    large, run = measured["large"], measured["run"]
    return "\n".join(
        [
            f"Checkpoints on {provenance.machine()}, commit {provenance.git_commit()}; seconds: median (range)",
            "",
            "| what | share of the time | how |",
            "|---|---|---|",
            f"| mnist5k, a whole run | {100 * run['share']:.1f} % | {run['checkpoints']} checkpoints in "
            f"{run['checkpoint_seconds']:.2f} of {run['seconds']:.0f} s |",
            f"| {large['rows']:,} x {large['classes']:,} and a ResNet-18, every {large['minutes']:.0f} minutes | "
            f"{100 * large['share']:.1f} % | {large['bytes'] / _GIB:.2f} GiB written in {_spread(large['save_seconds'])} s |",
            "",
            f"Restored in {_spread(large['restore_seconds'])} s, its checksum included. Memory beyond table and network: "
            f"{large['save_memory_bytes'] / _GIB:.2f} GiB to save, {large['restore_memory_bytes'] / _GIB:.2f} GiB to restore.",
        ]
    )


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
