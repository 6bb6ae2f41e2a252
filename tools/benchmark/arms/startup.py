"""How long it takes to start: processes of their own, from the start of Python on."""

import os
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

from tools.benchmark.measuring import Row, in_fresh_process, in_turns
from tools.benchmark.settings import Settings

LIBRARIES, PROJECT, STEP = "TensorFlow and Keras imported, s", "r2d2_tf imported, s", "first step done, s"


def part(settings: Settings) -> list[Row]:
    """The row of this part; what is timed happens in processes of their own."""
    functions = {"Python, s": "nothing", LIBRARIES: "import_libraries", PROJECT: "import_project", STEP: "first_step"}
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for name in in_turns(functions, settings.rounds):
        began = time.time()
        seconds[name].append(in_fresh_process(f"startup:{functions[name]}", settings) - began)
    ratios = {"r2d2_tf / TensorFlow and Keras, imported": (PROJECT, LIBRARIES), "first step / imported": (STEP, PROJECT)}
    return [Row("configs/mnist5k.cfg, from the start of the process", seconds, ratios, steps=1)]


def nothing(settings: Settings) -> float:
    """The time of day in a process that has imported nothing."""
    return time.time()


def import_libraries(settings: Settings) -> float:
    """The same with TensorFlow and Keras."""
    from r2d2_tf.system.startup import import_tensorflow_quietly

    import_tensorflow_quietly()
    return time.time()


def import_project(settings: Settings) -> float:
    """The same with all that a run imports."""
    import_libraries(settings)
    from r2d2_tf.training import experiment  # noqa: F401

    return time.time()


class _FirstStep(BaseException):
    """The first step of a run is done; no handler of a run's errors takes this for one of them."""


def first_step(settings: Settings) -> float:
    """The same when a run of configs/mnist5k.cfg, begun in the usual way, has done its first step."""
    from r2d2_tf import train

    import_project(settings)
    from r2d2_tf.training.callbacks.checkpointing import RunCheckpoint

    ended: list[float] = []

    def stop(callback: Any, batch: int, logs: Any = None) -> None:
        ended.append(time.time())
        raise _FirstStep

    with tempfile.TemporaryDirectory(dir=settings.folder) as folder, open(os.devnull, "w") as nowhere:
        arguments = ["--flagfile=configs/mnist5k.cfg", f"--run_dir={Path(folder) / 'run'}"]
        with mock.patch.object(RunCheckpoint, "on_train_batch_end", stop), mock.patch("sys.stdout", nowhere):
            try:
                train.main(arguments)
            except _FirstStep:
                return ended[0]
    raise OSError("the run ended before its first step")
