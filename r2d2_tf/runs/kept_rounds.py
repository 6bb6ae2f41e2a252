"""Ends of rounds of stage 2 that a run keeps (`--keep_rounds`), and from which others start (`--stage_2_from`).

Each is a copy of the checkpoint that was written there, numbered by its round. Looking for them needs no TensorFlow.
"""

import dataclasses
import itertools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2d2_tf.config.config import Config
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.other_runs import same_beginning
from r2d2_tf.runs.run_state import RunState
from r2d2_tf.system import files

if TYPE_CHECKING:
    from r2d2_tf.distributed.workers import Workers
    from r2d2_tf.runs.checkpoints import Checkpoint


def ends(config: Config, stage: int) -> dict[int, int]:
    """Epochs of a stage that are done at the end of each round that is to be kept -> its number, from 1."""
    if not config.keep_rounds or stage != 2:
        return {}
    epochs = itertools.accumulate(each.epochs for each in config.parsed_rounds)
    return {end: number for number, end in enumerate(epochs, start=1)}


def keep(config: Config, folder: Path, state: RunState, checkpoint: Path) -> None:
    """Keeps a copy of a run's newest checkpoint if it is of the end of a round, in place of another one, of before a roll-back.

    Raises:
        OSError: if it cannot be written.
    """
    number = ends(config, state.stage).get(state.epoch)
    if number is None or state.step:
        return
    path = folder / run_directory.ROUNDS / f"{number:06d}-{checkpoint.stem.split('-')[1]}.npz"
    if path.is_file():
        return
    path.parent.mkdir(exist_ok=True)
    with files.written_whole(path) as partial:
        shutil.copyfile(checkpoint, partial)
    for other in path.parent.glob(f"{number:06d}-*.npz"):
        if other != path:
            other.unlink()


def round_to_start_from(folder: Path, config: Config) -> tuple[dict[str, Any], int]:
    """The summary of the finished run of `--stage_2_from`, and the last round, from 1, that it kept and `config` shares.

    Raises:
        ValueError: if the run is missing or unfinished, began otherwise, or kept no such round.
    """
    theirs, summary = same_beginning(folder, config, stage=2)
    if not (shared := _shared_rounds(config, theirs)):
        raise ValueError(
            f"stage_2_from ({folder}) had another first round (--rounds: {theirs.rounds} -> {config.rounds}): begin with the "
            "same one, or leave --stage_2_from out"
        )
    kept = [int(path.name[:6]) for path in (folder / run_directory.ROUNDS).glob("*-*.npz")]
    if not (usable := [number for number in kept if number <= shared]):
        raise ValueError(f"stage_2_from ({folder}) kept no round that this run shares: train it with --keep_rounds")
    return summary, max(usable)


def _shared_rounds(ours: Config, theirs: Config) -> int:
    """With how many rounds both begin that do the same: before the first, both predict."""
    pairs = zip(ours.parsed_rounds, theirs.parsed_rounds, strict=False)
    alike = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    return alike if ours.repredict == theirs.repredict else min(alike, 1)


def taken_over(config: Config, own: RunState, workers: "Workers") -> "Checkpoint":
    """What the run of `--stage_2_from` kept, with a state as if this run had come there from another's stage 1.

    Raises:
        ValueError: if that run cannot be used, or had other images, labels or networks to start from than `own` says.
    """
    from r2d2_tf.runs.checkpoints import Checkpoints

    folder = Path(config.stage_2_from).expanduser()
    summary, number = round_to_start_from(folder, config)
    number = workers.of_the_chief(number)
    checkpoint = Checkpoints(folder, "", workers, within=run_directory.ROUNDS).numbered(number)
    if checkpoint is None:
        raise ValueError(f"stage_2_from ({folder}): the end of round {number} is damaged; leave --stage_2_from out")
    for name, what in (
        ("data_fingerprint", "images"),
        ("split_fingerprint", "labels"),
        ("start_fingerprint", "weights to start from"),
        ("body_fingerprint", "features"),
    ):
        if getattr(own, name) and getattr(checkpoint.state, name) != getattr(own, name):
            raise ValueError(f"stage_2_from ({folder}) was trained on other {what} than there are now: leave it out")
    return dataclasses.replace(checkpoint, state=_continued(checkpoint.state, summary))


def _continued(state: RunState, summary: dict[str, Any]) -> RunState:
    before = sum(row["stage"] == 1 for row in state.rows)
    return dataclasses.replace(
        state,
        rows=[row | {"run_epoch": row["run_epoch"] - before} for row in state.rows[before:]],
        borrowed=summary if before else state.borrowed,
        # Its own time is told in all, and that of the stage.
        seconds={"stage_2": state.seconds["stage_2"], "total": 0.0},
        resumes=0,
    )
