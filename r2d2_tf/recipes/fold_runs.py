"""Runs of a recipe in which a part of the labels is held out: what would come of it? They are ordinary runs, made in turn."""

import contextlib
import dataclasses
import hashlib
import re
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from r2d2_tf.config.config import Config
from r2d2_tf.data.image_data import DatasetSpec, ImageData
from r2d2_tf.recipes.recipe import Recipe
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.runs.outcome import stage_predictions
from r2d2_tf.runs.run_state import HELD_OUT
from r2d2_tf.system.interrupts import StopSignals

_LOG_FILE = "log.txt"
"""What the runs print, one after the other, beside their folders."""
_KEPT = {
    run_directory.CONFIG_FILE,
    run_directory.SUMMARY_FILE,
    run_directory.METRICS_FILE,
    run_directory.HELD_OUT_FILE,
    run_directory.LOCK_FILE,
}
"""Files that stay of such a run."""


@dataclass(frozen=True)
class Fold:
    """What the networks of one such run say of the labels that were held out.

    Attributes:
        part: which, counted from 1.
        labels: of the images, `[images]`.
        predictions: number of a stage -> classes `[images]`.
        seconds: that the run took.
    """

    part: int
    labels: np.ndarray
    predictions: dict[int, np.ndarray]
    seconds: float

    def wrong(self, stage: int) -> int:
        """Labels that the network after a stage gets wrong."""
        return int((self.predictions[stage] != self.labels).sum())


class FoldRuns:
    """Makes such runs in a folder, each once: what was made before is read.

    Args:
        config: of the data alone.
        content: of the data: see DatasetSpec. Runs on what it was before are not read.
        folder: of the runs.
        signals: may ask for a stop; what is unfinished goes on the next time.
        left_out: images that cannot be read, as `health.checked` names them.
    """

    def __init__(self, config: Config, content: str, folder: Path, signals: StopSignals, left_out: Collection[str]) -> None:
        self.config, self.content, self.folder, self.signals, self.left_out = config, content, folder, signals, left_out

    def fold(self, recipe: Recipe, part: int, parts: int, *, stage_1_alone: bool = False) -> Fold:
        """The run in which one of the parts is held out.

        Raises:
            RunStopped: if it has to stop.
            RunInterrupted: if a signal asked for it.
            ValueError, OSError: as any run.
        """
        applied = recipe.applied(self.config)
        if stage_1_alone:
            applied = dataclasses.replace(applied, rounds="", finetune_epochs=0)
        digest = hashlib.sha256(f"{applied.digest} {self.content}".encode()).hexdigest()[:6]
        name = f"{re.sub('[^a-z0-9]+', '-', recipe.name)}-{part}-of-{parts}{'-stage-1' * stage_1_alone}-{digest}"
        config = dataclasses.replace(
            applied,
            name=name,
            run_dir=str(self.folder / name),
            new_run=False,
            held_out=f"{part}/{parts}",
            # What collapsed is told by its errors; a trial is to end with some.
            stop_on_collapse=False,
        )
        summary = run_directory.finished_summary(config) or self._run(config)
        stages = (int(name.removeprefix("stage_")) for name in summary["test_error_percent"])
        predictions, labels = stage_predictions.by_stage(Path(config.run_dir), HELD_OUT, stages)
        return Fold(part, labels, predictions, summary["seconds"]["total"])

    def _run(self, config: Config) -> dict[str, Any]:
        """The summary of a run that is made now; of its folder only what tells of it is kept."""
        from r2d2_tf.training.experiment import Experiment

        began, folder = time.perf_counter(), Path(config.run_dir)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            log = stack.enter_context((self.folder / _LOG_FILE).open("a", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(log))
            experiment = Experiment(config, self._spec_of(config), signals=self.signals)
            stack.enter_context(experiment.claimed())
            summary = experiment.run(folder, began)
        for path in folder.iterdir():
            if path.name not in _KEPT:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return summary

    def _spec_of(self, config: Config) -> DatasetSpec:
        """The config's own, which sees images in its size, but with one test image: nothing is chosen by those."""
        spec = spec_of(config)

        def load(data_dir: Path | None) -> ImageData:
            data = spec.load(data_dir)
            names = data.test_ids or [str(row) for row in range(len(data.test_labels))]
            row = next(row for row, name in enumerate(names) if f"test {name}" not in self.left_out)
            one = slice(row, row + 1)
            ids = None if data.test_ids is None else data.test_ids[one]
            return dataclasses.replace(data, test_images=data.test_images[one], test_labels=data.test_labels[one], test_ids=ids)

        return dataclasses.replace(spec, load=load)
