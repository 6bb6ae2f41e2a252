"""What the size of the table of pseudo-logits does to the time of a step and to the peak of memory."""

import os
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from tools.benchmark import networks
from tools.benchmark.measuring import PartFailed, Row, alternate, in_fresh_process
from tools.benchmark.settings import CASES, Settings

SMALLEST, MIDDLE = 1_000, 100_000
PHASES = ("create", "step", "repredict", "save", "restore")
_READY_BATCHES = 50
_PREDICTION_BATCH = 500
_STEPS = 3
_GIB = 2**30


def part(settings: Settings) -> list[Row]:
    """The rows of this part: step times first, then peaks of memory."""
    networks.prepare(settings)
    sizes = sorted({SMALLEST, min(MIDDLE, settings.rows), settings.rows})
    needed = sum(sizes) * settings.classes * 4
    if hasattr(os, "sysconf") and needed > 0.9 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"):
        raise PartFailed(f"tables of {needed / _GIB:.1f} GiB do not fit into the free memory: lower --rows")
    # The peaks first: while their processes work, this one holds no table yet.
    peaks = {rows: in_fresh_process("tables:peaks", settings, rows) for rows in sizes}
    return [*times(sizes, settings), *(memory(peaks, rows, settings.classes) for rows in sizes[1:])]


def times(sizes: list[int], settings: Settings) -> list[Row]:
    """Step times with tables of so many rows, which take turns."""
    config, classes = CASES["conv_small"], settings.classes
    images = networks.noise(DATASETS[config.dataset].image_shape, config.batch_size)
    arms = {}
    for rows in sizes:
        # Rows far from each other, and others in each step: of a large table they are in no cache.
        generator = np.random.default_rng(0)
        drawn = [generator.choice(rows, config.batch_size, replace=False) for _ in range(_READY_BATCHES)]
        order = tf.data.Dataset.from_tensor_slices(np.stack(drawn)).repeat()
        batches = networks.untuned(tf.data.Dataset.zip(tf.data.Dataset.from_tensors(images).repeat(), order))
        arms[_name(rows)] = networks.fitting(networks.build_model(config, _table(rows, classes)), batches)
    seconds, steps = alternate(arms, settings)
    smallest, own = f"{_name(SMALLEST)}: ms a step", "this table: ms a step"
    return [
        Row(
            f"conv_small, batch {config.batch_size}, table of {rows:,} x {classes:,}",
            {own: _ms(seconds[_name(rows)]), smallest: _ms(seconds[_name(SMALLEST)])},
            {"this / smallest table, time of a step": (own, smallest)},
            steps=steps,
        )
        for rows in sizes[1:]
    ]


def _name(rows: int) -> str:
    return f"{rows:,} rows"


def _ms(seconds: list[float]) -> list[float]:
    return [1000 * value for value in seconds]


def _table(rows: int, classes: int) -> PseudoLabelTable:
    return PseudoLabelTable(networks.some_labels(rows, classes, num_labeled=rows // 10), classes)


def peaks(settings: Settings, num_rows: int) -> dict[str, int]:
    """The peak of this process's memory, in bytes, after each phase; the process must be new."""
    networks.prepare(settings)
    config = CASES["lenet"]
    pool = tf.constant(networks.noise(DATASETS[config.dataset].image_shape, SMALLEST))
    measured = {}
    table = _table(num_rows, settings.classes)
    model = networks.build_model(config, table)
    measured["create"] = peak_memory()
    batch = tf.data.Dataset.range(num_rows).repeat().batch(config.batch_size, drop_remainder=True)
    networks.fitting(model, batch.map(lambda rows: (tf.gather(pool, rows % SMALLEST), rows)))(_STEPS)
    measured["step"] = peak_memory()
    every = tf.data.Dataset.range(num_rows).batch(_PREDICTION_BATCH)
    model.repredict(every.map(lambda rows: (tf.gather(pool, rows % SMALLEST), rows)))
    measured["repredict"] = peak_memory()
    with tempfile.TemporaryDirectory(dir=settings.folder) as folder:
        save, restore = networks.checkpointing(Path(folder), [*model.variables, *model.optimizer.variables], table)
        save()
        measured["save"] = peak_memory()
        restore()
    measured["restore"] = peak_memory()
    return measured


def memory(peaks_of: dict[int, dict[str, int]], rows: int, classes: int) -> Row:
    """Peaks of memory beyond those with the smallest table, which are TensorFlow's and the network's own."""
    size = (rows - SMALLEST) * classes * 4 / _GIB
    own = {phase: (peaks_of[rows][phase] - peaks_of[SMALLEST][phase]) / _GIB for phase in PHASES}
    numbers = {f"{phase}, GiB": [own[phase]] for phase in PHASES}
    without = "with the smallest table, GiB"
    return Row(
        f"peak of memory, table of {rows:,} x {classes:,}",
        {"table, GiB": [size], without: [peaks_of[SMALLEST]["restore"] / _GIB], **numbers},
        {f"{phase} / table, memory": (f"{phase}, GiB", "table, GiB") for phase in PHASES},
        note="Peaks of memory are those of a new process up to the end of each phase, less those with the smallest table.",
    )


def peak_memory() -> int:
    """Of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
