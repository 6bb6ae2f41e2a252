"""How long runs take, beside what is said of that before: in check_data and the plan, by --dry_run, and after an epoch."""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast
from unittest import mock

import numpy as np

from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.data import cache
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.data.photographs import Photographs
from tools.benchmark.measuring import Row, in_fresh_process
from tools.benchmark.settings import PHOTOGRAPHS, Settings

BRIEF, DRY, EPOCH, MEASURED = "plan, s", "dry run, s", "after an epoch, s", "measured, s"
_SHORT = ("--rounds=3:0.01,2:0.01", "--finetune_epochs=2", "--finetune_cosine_epochs=2", "--nostop_on_collapse")
_PRETRAINED = ("--backbone=efficientnet_lite0", "--weights=imagenet", "--supervised_cosine_epochs=0")
_SMALL = ("--image_size=96", "--translate=0", "--batch_size=16", "--finetune_batch_size=16", "--supervised_batch_size=10")
KINDS = {
    "digits": ("--flagfile=configs/mnist5k.cfg",),
    "folder, head": (*_SMALL, *_SHORT, *_PRETRAINED, "--trainable=head", "--supervised_epochs=20"),
    "folder, all": (*_SMALL, *_SHORT, "--backbone=resnet18", "--supervised_epochs=8", "--supervised_cosine_epochs=0"),
    "frozen epochs": (*_SMALL, *_SHORT, *_PRETRAINED, "--freeze_epochs=6", "--supervised_epochs=8"),
    "streaming": (
        *(*_SMALL, *_SHORT, f"--dataset={PHOTOGRAPHS}", "--num_labels=100", "--backbone=resnet18", "--max_steps=20"),
        *("--supervised_epochs=4", "--supervised_cosine_epochs=0"),
    ),
}
"""A kind of run -> its flags, beside those of its data."""
_QUICK = ("--rounds=1:0.01", "--finetune_epochs=1", "--max_steps=1")
_CLASSES = 5
_IMAGES, _QUICK_IMAGES = {"train": 20, "unlabeled": 60, "test": 20}, {"train": 4, "unlabeled": 6, "test": 2}
"""Photographs of each class in a folder."""


def part(settings: Settings) -> list[Row]:
    """A row a kind; each number comes of a process of its own, which finds nothing kept from before."""
    rows = []
    with tempfile.TemporaryDirectory(dir=settings.folder) as folder:
        photographs = Path(folder) / "photographs"
        _write_folder(photographs, settings)
        for kind in KINDS:
            numbers: dict[str, list[float]] = {}
            ranges = []
            for name, is_brief in ((BRIEF, True), (DRY, False)):
                low, high = in_fresh_process("estimates:estimated", settings, _arguments(kind, photographs, settings), is_brief)
                numbers[name] = [(low * high) ** 0.5]
                ranges.append(f"{low:.0f} to {high:.0f} s")
            after, measured = in_fresh_process("estimates:measured", settings, _arguments(kind, photographs, settings))
            numbers |= {EPOCH: [after], MEASURED: [measured]}
            ratios = {f"{name.removesuffix(', s')} / measured": (name, MEASURED) for name in (BRIEF, DRY, EPOCH)}
            note = f"{kind}: told as {ranges[0]} in the plan, as {ranges[1]} by the dry run."
            rows.append(Row(kind, numbers, ratios, note=note))
    return rows


def _arguments(kind: str, photographs: Path, settings: Settings) -> list[str]:
    data = [] if kind == "digits" else [f"--data_dir={settings.data_dir}"]
    if "folder" in kind or kind == "frozen epochs":
        data = ["--dataset=folder", f"--data_dir={photographs}"]
    return [*KINDS[kind], *data, *(_QUICK if settings.quick else ())]


def estimated(settings: Settings, arguments: list[str], is_brief: bool) -> tuple[float, float]:
    """From so many to so many seconds of a run by a few of its steps, from the start of its process on."""
    began = time.perf_counter()
    from r2d2_tf.training.experiment import Experiment
    from r2d2_tf.training.timing.trial import estimate

    with _nothing_kept(settings) as folder:
        config = from_command_line([*arguments, f"--run_dir={folder / 'run'}"])
        experiment = Experiment(config)
        low, high = estimate(experiment, time.perf_counter() - began, is_brief=is_brief).seconds()
        return low, high


def measured(settings: Settings, arguments: list[str]) -> tuple[float, float]:
    """Seconds that a run takes as its first epoch ends: those gone and what it says is left. And seconds that it took."""
    began = time.perf_counter()
    from r2d2_tf import train
    from r2d2_tf.training.callbacks.progress import ProgressReport

    told: list[float] = []

    def noting(original: Callable[..., None]) -> Callable[..., None]:
        def on_epoch_end(callback: Any, epoch: int, logs: Any) -> None:
            original(callback, epoch, logs)
            left = callback.progress.seconds_left()
            if not told and left is not None:
                told.append(time.perf_counter() - began + left.middle)

        return on_epoch_end

    patched = mock.patch.object(ProgressReport, "on_epoch_end", noting(ProgressReport.on_epoch_end))
    with _nothing_kept(settings) as folder, open(os.devnull, "w") as nowhere, mock.patch("sys.stdout", nowhere), patched:
        if code := train.main([*arguments, f"--run_dir={folder / 'run'}"]):
            raise OSError(f"the run ended with exit code {code}")
    return told[0], time.perf_counter() - began


@contextlib.contextmanager
def _nothing_kept(settings: Settings) -> Iterator[Path]:
    """A folder of its own, and no features from before."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=settings.folder)))
        stack.enter_context(mock.patch.dict(os.environ, {cache.FOLDER_VARIABLE: str(folder / "cache")}))
        yield folder


def _write_folder(folder: Path, settings: Settings) -> None:
    """Photographs of a few classes as somebody has them: a folder a class, and `unlabeled`."""
    data = DATASETS[PHOTOGRAPHS].load(Path(settings.data_dir))
    images = cast(Photographs, data.train_images)
    for number in range(_CLASSES):
        rows, first = np.flatnonzero(data.train_labels == number).tolist(), 0
        for name, count in (_QUICK_IMAGES if settings.quick else _IMAGES).items():
            place = folder / name if name == "unlabeled" else folder / name / data.class_names[number]
            place.mkdir(parents=True, exist_ok=True)
            for row in rows[first : first + count]:
                (place / f"{row}.jpg").write_bytes(images.read(row))
            first += count
