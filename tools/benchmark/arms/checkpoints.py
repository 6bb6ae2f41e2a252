"""What checkpoints cost, as shares of a run's time.

A run of configs/mnist5k.cfg, whole; and a checkpoint of ImageNet's size (--rows x --classes pseudo-logits and a ResNet-18
with its momentum), written and restored, against --checkpoint_minutes.
"""

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import keras

from r2d2_tf import backbones
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.config.config import Config
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.checkpoints import Checkpoints
from r2d2_tf.training.run import run
from tools.benchmark import networks
from tools.benchmark.measuring import Row, seconds_of
from tools.benchmark.settings import Settings

MOST_ROUNDS = 3
SHARE, CHECKPOINTS, TOTAL = "checkpoints / time", "checkpoints, s", "of a time of, s"
_QUICK = ["--supervised_epochs=2", "--rounds=1:0.01", "--finetune_epochs=1", "--nostop_on_collapse"]
_GIB = 2**30


def part(settings: Settings) -> list[Row]:
    networks.prepare(settings)
    with tempfile.TemporaryDirectory(dir=settings.folder) as folder:
        return [large(Path(folder) / "large", settings), of_a_run(Path(folder) / "run", settings)]


def large(folder: Path, settings: Settings) -> Row:
    """Writes and restores checkpoints of a ResNet-18 and a table of pseudo-logits."""
    num_rows, classes = settings.rows, settings.classes
    table = PseudoLabelTable(networks.some_labels(num_rows, classes, num_labeled=num_rows // 10), classes)
    network = backbones.build("resnet18", (224, 224, 3), classes, mean=(0.5,) * 3, std=(0.25,) * 3)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)
    optimizer.build(network.trainable_variables)
    folder.mkdir()
    save, restore = networks.checkpointing(folder, [*network.variables, *optimizer.variables], table)
    rounds = min(settings.rounds, MOST_ROUNDS)
    saved = [seconds_of(save) for _ in range(rounds)]
    restored = [seconds_of(restore) for _ in range(rounds)]
    size = max(path.stat().st_size for path in (folder / run_directory.CHECKPOINTS).iterdir())
    run_directory.remove_checkpoints(folder)
    minutes = Config().checkpoint_minutes
    return Row(
        f"{num_rows:,} x {classes:,} and a ResNet-18, every {minutes:.0f} minutes",
        {CHECKPOINTS: saved, TOTAL: [60 * minutes], "restored, s": restored, "written, GiB": [size / _GIB]},
        {SHARE: (CHECKPOINTS, TOTAL)},
        steps=1,
    )


def of_a_run(folder: Path, settings: Settings) -> Row:
    """Trains configs/mnist5k.cfg and times its checkpoints."""
    taken: list[float] = []
    save = Checkpoints.save

    def timed(*arguments: Any) -> None:
        taken.append(seconds_of(lambda: save(*arguments)))

    shorter = _QUICK if settings.quick else []
    config = from_command_line(["--flagfile=configs/mnist5k.cfg", *shorter, f"--run_dir={folder}"])
    with mock.patch.object(Checkpoints, "save", timed), contextlib.redirect_stdout(io.StringIO()):
        total = seconds_of(lambda: run(config))
    return Row(
        f"mnist5k, {'a shortened' if shorter else 'a whole'} run",
        {CHECKPOINTS: [sum(taken)], TOTAL: [total], "written": [float(len(taken))]},
        {SHARE: (CHECKPOINTS, TOTAL)},
        steps=1,
    )
