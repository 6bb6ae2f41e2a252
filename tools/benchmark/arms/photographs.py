"""`python -m tools.photograph_speed --data_dir=DIR`: how fast are photographs read, decoded and cropped?

On Imagenette, in alternating rounds: training batches and reprediction's, as a run makes them, and as the least that could
be done a random-resized crop of images whose bytes lie in memory, each decoded whole by a parallel map. Prints images a
second, and milliseconds of processor time an image, which say more on a busy machine.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from absl import flags

from r2d2_tf.config.command_line import parse_flags, run_program
from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.system.startup import import_tensorflow_quietly

if TYPE_CHECKING:
    import tensorflow as tf

    from r2d2_tf.data.photographs import Photographs

BATCH = 32
CROP_SCALE = 0.25
Speeds = dict[str, list[tuple[float, float]]]
"""Images a second, and milliseconds of processor time an image, of each round."""


def measure(photographs: "Photographs", *, rounds: int, images: int) -> Speeds:
    """Speeds of each way to have `images` images."""
    from r2d2_tf.training import pipeline
    from r2d2_tf.training.stages import plan

    config = Config(
        dataset="imagenette",
        backbone="resnet18",
        batch_size=BATCH,
        crop_scale=CROP_SCALE,
        translate=0,
        flip=True,
        rounds="999:0.1",
    )
    rows = np.arange(len(photographs))
    labeled, unlabeled = rows[::10], rows[rows % 10 > 0]

    def training() -> "tf.data.Dataset":
        return pipeline.training_batches(photographs, labeled, unlabeled, plan(config)[1], seed=0)

    def prediction() -> "tf.data.Dataset":
        return pipeline.prediction_batches(photographs, np.resize(rows, images + BATCH), BATCH)

    ways = {"training": training, "prediction": prediction, "the least": lambda: _least(photographs)}
    speeds: Speeds = {name: [] for name in ways}
    for _ in range(rounds):
        for name, make in ways.items():
            speeds[name].append(_speed(make, images))
    return speeds


def _least(photographs: "Photographs") -> "tf.data.Dataset":
    import tensorflow as tf

    from r2d2_tf.data.decoding import decode, random_crop

    def crop(encoded: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        seed = tf.random.fold_in(tf.constant([0, 0]), tf.cast(number, tf.int32))
        return random_crop(decode(encoded), CROP_SCALE, photographs.size, seed), number

    encoded = [photographs.read(row) for row in range(min(len(photographs), 1000))]
    images = tf.data.Dataset.from_tensor_slices(encoded).repeat().enumerate().map(lambda number, one: (one, number))
    return images.map(crop, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(tf.data.AUTOTUNE)


def _speed(make: Callable[[], "tf.data.Dataset"], images: int) -> tuple[float, float]:
    batches = iter(make())
    next(batches)
    began, used = time.perf_counter(), time.process_time()
    for _ in range(images // BATCH):
        next(batches)
    count = images // BATCH * BATCH
    return count / (time.perf_counter() - began), 1000 * (time.process_time() - used) / count


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    flag_values = flags.FlagValues()
    flags.DEFINE_string("data_dir", None, "folder of prepared TFDS sets, one of them imagenette", flag_values=flag_values)
    flags.DEFINE_integer("rounds", 5, "alternating rounds", lower_bound=1, flag_values=flag_values)
    flags.DEFINE_integer("images", 3000, "images a round", lower_bound=BATCH, flag_values=flag_values)
    return run_program(arguments, f"{__doc__}\n{flag_values.get_help()}", lambda: _run(flag_values, arguments))


def _run(flag_values: flags.FlagValues, arguments: Sequence[str]) -> int:
    """The program's own work; see command_line.run_program."""
    parse_flags(flag_values, arguments)
    import_tensorflow_quietly()
    data_dir = flag_values["data_dir"].value
    data = DATASETS["imagenette"].load(Path(data_dir).expanduser() if data_dir else None)
    print("| | images/s | processor time an image, ms |\n|---|---|---|")
    sizes = {name: flag_values[name].value for name in ("rounds", "images")}
    for name, speeds in measure(cast("Photographs", data.train_images), **sizes).items():
        second, cost = (sorted(values) for values in zip(*speeds, strict=True))
        print(f"| {name} | {statistics.median(second):,.0f} ({second[0]:,.0f} to {second[-1]:,.0f}) | "
              f"{statistics.median(cost):.2f} ({cost[0]:.2f} to {cost[-1]:.2f}) |")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
