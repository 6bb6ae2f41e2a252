"""Runs as their folders tell of them, finished or not. Needs no TensorFlow."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from r2d2_tf.config.config import Config
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.metrics_log import read_metrics
from r2d2_tf.runs.outcome.summary import result_error, result_stage
from r2d2_tf.system import arrays

EVALUATION_FOLDER = "evaluation"
PREDICTIONS_FILE = "predictions.npz"
"""Where tools.evaluate leaves what a model made of each image: EVALUATION_FOLDER/MODEL/PREDICTIONS_FILE."""


class Epoch(NamedTuple):
    """One line of metrics.csv: number over the whole run from 1, stage, test error in percent."""

    number: int
    stage: int
    error: float


@dataclass(frozen=True)
class RunRecord:
    """A run.

    Attributes:
        folder: of the run.
        config: that it was started with.
        summary: as in summary.json; None if it is not finished.
        epochs: that are done. Where stage 1 is another run's, they begin after it.
        damage: what is wrong with metrics.csv; "" if nothing is. There are no epochs then.
    """

    folder: Path
    config: Config
    summary: dict[str, Any] | None
    epochs: tuple[Epoch, ...]
    damage: str

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def errors(self) -> dict[str, float]:
        """Test error in percent after each stage, in order; {} unless the run is finished."""
        return self.summary["test_error_percent"] if self.summary else {}

    @property
    def last_error(self) -> float | None:
        """Test error in percent of a finished run's result."""
        return result_error(self.summary) if self.summary else None

    @property
    def last_top5_error(self) -> float | None:
        top5 = (self.summary or {}).get("test_top5_error_percent") or {}
        return top5.get(f"stage_{result_stage(self.summary)}") if self.summary else None

    @property
    def is_fake(self) -> bool:
        return bool((self.summary or {}).get("fake_data"))

    @property
    def test_images(self) -> tuple[str, int | None, bool]:
        """What it is tested on: data set, number of images, whether they are generated. Errors on others are no match."""
        return self.config.dataset, (self.summary or {}).get("num_test"), self.is_fake

    @property
    def stage_ends(self) -> tuple[int, int, int]:
        """The last epoch of each stage, counted as `epochs` are; a warm start has no stage 1."""
        first = 0 if self.config.warm_start else self.config.supervised_epochs
        second = first + sum(r.epochs for r in self.config.parsed_rounds)
        return first, second, second + self.config.finetune_epochs

    @property
    def state(self) -> str:
        """Finished, or how far it is."""
        if self.summary:
            return "finished"
        living = ", running" if run_directory.is_in_use(self.folder) else ""
        if self.damage or not self.epochs:
            return f"unfinished{living}"
        last = self.epochs[-1]
        return f"epoch {last.number} of {self.stage_ends[-1]}, {last.error:.2f} %{living}"

    def predictions(self) -> dict[str, np.ndarray] | None:
        """`labels` and `predicted` class of each test image, as tools.evaluate wrote them; None if it did not.

        Raises:
            ValueError: if the file is damaged.
        """
        path = self.folder / EVALUATION_FOLDER / run_directory.BACKBONE_FILE / PREDICTIONS_FILE
        return arrays.read(path, {"labels": "i images", "predicted": "i images"}) if path.is_file() else None


def read(folder: Path) -> RunRecord:
    """The run in `folder`.

    Raises:
        ValueError: if it is not the folder of a run, or its config or summary is damaged.
    """
    config = run_directory.load_config(folder)
    summary = run_directory.read_summary(folder) if (folder / run_directory.SUMMARY_FILE).is_file() else None
    try:
        return RunRecord(folder, config, summary, _epochs(folder / run_directory.METRICS_FILE, config), "")
    except ValueError as error:
        return RunRecord(folder, config, summary, (), str(error))


def _epochs(path: Path, config: Config) -> tuple[Epoch, ...]:
    if not path.is_file():
        return ()
    before = config.supervised_epochs if config.stage_1_from or (config.stage_2_from and not config.warm_start) else 0
    try:
        rows = read_metrics(path)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: its curve is left out") from error
    return tuple(Epoch(before + row["run_epoch"], row["stage"], row["test_error"]) for row in rows)


def differing_flags(configs: Sequence[Config]) -> list[str]:
    """The flags, but for the seed, that can change a result and have not the same value in all configs."""
    lasting = [f.name for f in dataclasses.fields(Config) if f.name != "seed" and not f.metadata.get("cosmetic")]
    return [name for name in lasting if len({getattr(config, name) for config in configs}) > 1]
