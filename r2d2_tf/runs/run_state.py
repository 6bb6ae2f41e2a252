"""Where a run stands and what it has measured: all that a checkpoint holds beside weights and table."""

import dataclasses
import json
import zipfile
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from r2d2_tf.system import arrays

TEST, HELD_OUT = "test", "held_out"
"""Names of the images whose predicted classes are kept: test images, and those whose labels are kept out of training."""
_STATE, _PREDICTED = "state.json", "predicted/"


@dataclass
class RunState:
    """The place of a run, kept true by the callbacks, and what is known so far.

    Attributes:
        stage: number of the stage.
        epoch: epochs of the stage that are done, their evaluation included.
        step: steps of the next epoch that are done.
        argmax_changes: of the prediction that the epoch began with, once steps of it are done; None: it began with none.
        consistent: whether weights and table belong to this place: not while a prediction replaces the rows, until the
            first step after it. A checkpoint can be written only then.
        rows: of metrics.csv, one an epoch over the whole run.
        seconds: worked so far, by part of the run, and in `total`.
        learning_rate_scale: what the stages' rates are multiplied by, since roll-backs.
        rollbacks: one a roll-back: where the run stood, why, and the scale since then.
        resumes: how many times the run was continued after an interruption.
        borrowed: summary of the run whose stage 1 was taken over, or None.
        data_fingerprint: of the images and their true labels.
        split_fingerprint: of the labels that training may see.
        start_fingerprint: of the network that `--warm_start` gave; "": it gave none, or is gone since.
        predicted: class of each image, `[images]` int32, by the network at the last evaluation of a stage; of a kind of
            images and stage N it is called `KIND/stage_N`.
        body_fingerprint: of the weights that stay as they are, where a head alone is trained.
    """

    stage: int
    epoch: int = 0
    step: int = 0
    argmax_changes: int | None = None
    consistent: bool = True
    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    learning_rate_scale: float = 1.0
    rollbacks: list[dict[str, Any]] = field(default_factory=list)
    resumes: int = 0
    borrowed: dict[str, Any] | None = None
    data_fingerprint: str = ""
    split_fingerprint: str = ""
    start_fingerprint: str = ""
    predicted: dict[str, np.ndarray] = field(default_factory=dict)
    body_fingerprint: str = ""

    @property
    def place(self) -> tuple[int, int, int]:
        """Stage, epoch and step."""
        return self.stage, self.epoch, self.step

    def begin_stage(self, number: int) -> None:
        """Moves to the start of a stage."""
        self.stage, self.epoch, self.step = number, 0, 0

    def begin_epoch(self) -> None:
        """Moves past the end of an epoch."""
        self.epoch, self.step = self.epoch + 1, 0

    def spend(self, part: str, seconds: float) -> None:
        """Adds to the time that the run has taken."""
        for name in (part, "total"):
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def remember(self, kind: str, stage: int, predicted: np.ndarray) -> None:
        """Keeps the predicted classes of a kind of images, `[images]`, in place of earlier ones of that stage."""
        self.predicted[f"{kind}/stage_{stage}"] = predicted.astype(np.int32)

    def predictions(self, kind: str) -> dict[str, np.ndarray]:
        """What is kept of a kind of images: `stage_N`, in order -> classes `[images]` int32."""
        found = {name.removeprefix(f"{kind}/"): value for name, value in self.predicted.items() if name.startswith(f"{kind}/")}
        return dict(sorted(found.items()))

    def write(self, archive: zipfile.ZipFile) -> None:
        """Writes all of it into a checkpoint."""
        archive.writestr(_STATE, self.to_json())
        for name, classes in self.predicted.items():
            arrays.write_array(archive, f"{_PREDICTED}{name}", classes)

    @classmethod
    def read(cls, archive: zipfile.ZipFile) -> "RunState":
        """What `write` wrote; KeyError, TypeError or ValueError if it was another version that wrote."""
        state = cls.from_json(archive.read(_STATE))
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.startswith(_PREDICTED)]
        state.predicted = {name.removeprefix(_PREDICTED): arrays.read_array(archive, name) for name in names}
        return state

    def to_json(self) -> str:
        """All of it but the predicted classes as text; numbers come back exactly."""
        return json.dumps(dataclasses.asdict(dataclasses.replace(self, predicted={})))

    @classmethod
    def from_json(cls, text: str | bytes) -> "RunState":
        """What `to_json` wrote."""
        return cls(**json.loads(text))
