"""Checkpoints: everything that a run needs to go on exactly where it was, one file each."""

import hashlib
import re
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from r2d2_tf.config.config import Config
from r2d2_tf.distributed.cluster import SECONDS_TO_SEE
from r2d2_tf.distributed.workers import Workers
from r2d2_tf.method.pseudo_labels import NotFinite, PseudoLabelTable
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.predictions import PredictionHistory
from r2d2_tf.runs.run_state import RunState
from r2d2_tf.system import arrays, files

KEPT = 2
"""Checkpoints that are kept."""
OPTIMIZER = "optimizer/"
"""How the names of an optimizer's variables begin, which are the same in all replicas."""
_CONFIG, _VARIABLES = "config.cfg", "variables/"


class CannotResume(ValueError):
    """There are checkpoints, and none of them can be gone on from; the message says why and what to do."""


def check_same_data(then: RunState, now: RunState, config: Config, folder: Path) -> None:
    """Raises CannotResume if what a run in `folder` is trained on is no longer what it was `then`, when it began."""
    for what, flag, name in (
        ("data set", "data_dir", "data_fingerprint"),
        ("given labels", "labels" if config.labels else "split_file", "split_fingerprint"),
        ("network to start from", "warm_start", "start_fingerprint"),
        ("network that gives the features", "weights", "body_fingerprint"),
    ):
        if getattr(now, name) and getattr(then, name) != getattr(now, name):
            raise CannotResume(
                f"the {what} changed since the run in {folder} began (fingerprint {getattr(then, name)}, now "
                f"{getattr(now, name)}): give it the --{flag} that it began with, or add --new_run to start afresh"
            )


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found whole."""

    path: Path
    state: RunState
    workers: Workers

    def restore(self, variables: Mapping[str, Any], table: PseudoLabelTable, history: PredictionHistory) -> None:
        """Puts the saved values into variables, table and history; all processes call it.

        Raises:
            CannotResume: if the checkpoint is of another network.
        """
        with zipfile.ZipFile(self.path) as archive:
            saved = {name for name in archive.namelist() if name.startswith(_VARIABLES)}
            if saved != {f"{_VARIABLES}{name}.npy" for name in variables}:
                raise CannotResume(self._other_network(f"it has {len(saved)} variables in place of {len(variables)}"))
            for name, variable in variables.items():
                saved_copies = self._read(archive, name)
                if saved_copies.shape[1:] != tuple(variable.shape):
                    raise CannotResume(
                        self._other_network(f"{name} has shape {saved_copies.shape[1:]} in place of {tuple(variable.shape)}")
                    )
                _assign_copies(variable, saved_copies, self.workers)
            try:
                table.read(archive)
                history.read(archive)
            except (ValueError, KeyError) as error:
                raise CannotResume(self._other_network(str(error))) from error

    def _read(self, archive: zipfile.ZipFile, name: str) -> np.ndarray:
        try:
            return arrays.read_array(archive, f"{_VARIABLES}{name}")
        except ValueError as error:
            raise CannotResume(self._other_network(str(error))) from error

    def _other_network(self, why: str) -> str:
        return (
            f"the checkpoint {self.path} is of another network, perhaps of another version of this program ({why}): add "
            "--new_run to start afresh"
        )


class Checkpoints:
    """The checkpoints in the folder of a run; the last two are kept.

    A checkpoint is a zip file of .npy arrays and two texts, the state and the config: NUMBER-DIGEST.npz. The digest, of
    all its bytes, is in its name, so that file and checksum appear together and a damaged one is known by its name.

    Args:
        folder: of the run.
        config_text: the run's flags, kept in each checkpoint.
        workers: the processes of the run, which all call each method; the chief writes, and all read. None: this one alone.
        within: where in `folder`.
    """

    def __init__(
        self, folder: Path, config_text: str, workers: Workers | None = None, within: str = run_directory.CHECKPOINTS
    ) -> None:
        self.folder = folder / within
        self._config_text = config_text
        self._workers = workers or Workers(tf.distribute.get_strategy())
        # Written or found whole, the newest last; of the chief alone.
        self.good: list[Path] = []

    def save(self, state: RunState, variables: Mapping[str, Any], table: PseudoLabelTable, history: PredictionHistory) -> None:
        """Writes a checkpoint of a consistent state, and then removes all but the last two.

        `variables` are name -> Keras variable, of network, metrics and optimizer.

        Raises:
            NotFinite: if a value to be saved is NaN or infinite.
            OSError: if the file cannot be written; earlier checkpoints are untouched.
        """
        own_copies = self._own_copies(variables)
        problem = None
        if self._workers.is_chief:
            try:
                self._write(state, variables, own_copies, table, history)
            except NotFinite as error:
                problem = error
        if self._workers.largest([problem is not None])[0]:
            raise problem or NotFinite("a value that worker 0 was to save")

    def _own_copies(self, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Of the variables whose copies may differ between replicas, the copies of all processes: `[replicas, *shape]`."""
        local = {
            name: np.array([copy.numpy() for copy in _copies(variable)])
            for name, variable in variables.items()
            if not variable.trainable and not name.startswith(OPTIMIZER)
        }
        packed = b"".join(values.tobytes() for values in local.values())
        lines = self._workers.exchange(np.frombuffer(packed + b"\0" * (-len(packed) % 4), np.int32))
        gathered, start = {}, 0
        for name, values in local.items():
            stretches = [line.tobytes()[start : start + values.nbytes] for line in lines]
            gathered[name] = np.frombuffer(b"".join(stretches), values.dtype).reshape(-1, *values.shape[1:])
            start += values.nbytes
        return gathered

    def _write(
        self,
        state: RunState,
        variables: Mapping[str, Any],
        own_copies: Mapping[str, np.ndarray],
        table: PseudoLabelTable,
        history: PredictionHistory,
    ) -> None:
        self.folder.mkdir(exist_ok=True)
        number = 1 + max(map(_number_of, self._files()), default=0)
        temporary = self.folder / f"{files.PARTIAL}{number:06d}.npz"
        try:
            with zipfile.ZipFile(temporary, "w") as archive:
                state.write(archive)
                archive.writestr(_CONFIG, self._config_text)
                for name, variable in variables.items():
                    value = _copies_to_save(variable, own_copies.get(name))
                    if not np.isfinite(value).all():
                        raise NotFinite(f"the value of {variable.path}")
                    arrays.write_array(archive, f"{_VARIABLES}{name}", value)
                table.write(archive)
                history.write(archive)
            path = self.folder / f"{number:06d}-{_digest(temporary)}.npz"
            files.move_into_place(temporary, path)
        except OSError as error:
            raise files.cannot_write(temporary, error) from error
        finally:
            temporary.unlink(missing_ok=True)
        self.good = [*self.good, path][-KEPT:]
        for other in self._files():
            if other not in self.good:
                other.unlink()

    def newest(self, warn: Callable[[str], None], before: tuple[int, int, int] | None = None) -> Checkpoint | None:
        """The newest checkpoint that is whole, or None if there is none; the chief chooses it for all.

        `warn` is told of each damaged one. With `before`, only one from before that place (stage, epoch, step) will do.

        Raises:
            CannotResume: if there are checkpoints, and all are damaged; or another process does not see the same ones.
        """
        chosen = self._newest(warn, before) if self._workers.is_chief else None
        number = self._workers.of_the_chief(_number_of(chosen.path) if chosen else 0)
        if number and chosen is None:
            deadline = time.monotonic() + SECONDS_TO_SEE
            while (path := self._whole(number)) is None and time.monotonic() < deadline:
                time.sleep(0.2)
            if path is None:
                raise CannotResume(
                    f"{self._workers.cluster.name} does not see the checkpoint {number:06d} in {self.folder} as worker 0 does: "
                    "all workers need the same --run_dir, on a file system that they share"
                )
            chosen = self._read(path)
        return chosen

    def numbered(self, number: int) -> Checkpoint | None:
        """The checkpoint of a number; None if there is none, or it is damaged."""
        path = self._whole(number)
        return None if path is None else self._read(path)

    def _whole(self, number: int) -> Path | None:
        return next((path for path in self._files() if _number_of(path) == number and not _damage_of(path)), None)

    def _newest(self, warn: Callable[[str], None], before: tuple[int, int, int] | None) -> Checkpoint | None:
        found = self._files()
        whole = 0
        for path in reversed(found):
            damage = _damage_of(path)
            if damage:
                warn(f"the checkpoint {path} is damaged and not used: {damage}")
                continue
            checkpoint = self._read(path)
            whole += 1
            if before is None or checkpoint.state.place < before:
                self.good = [path]
                return checkpoint
        if found and not whole:
            raise CannotResume(
                f"none of the {len(found)} checkpoints in {self.folder} is whole: put a good copy there, or add --new_run to "
                "start afresh (this folder is then moved aside)"
            )
        return None

    def _read(self, path: Path) -> Checkpoint:
        try:
            with zipfile.ZipFile(path) as archive:
                # None is, and what is compressed may be a thousand times as large as the file.
                if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                    raise ValueError("it is compressed")
                return Checkpoint(path, RunState.read(archive), self._workers)
        except (zipfile.BadZipFile, KeyError, TypeError, ValueError, RecursionError) as error:
            raise CannotResume(
                f"the checkpoint {path} was written by another version of this program ({error}): go on with that version, or "
                "add --new_run to start afresh"
            ) from error

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.npz") if _NAME.fullmatch(path.name))


_NAME = re.compile(r"(\d{6,})-([0-9a-f]{16})\.npz")


def _number_of(path: Path) -> int:
    return int(path.stem.split("-")[0])


def _copies(variable: Any) -> tuple[Any, ...]:
    """The copies of a Keras variable, one a replica of this process."""
    return getattr(variable.value, "values", (variable.value,))


def _is_summed(variable: Any) -> bool:
    """Whether the variable's value is the sum of what each replica has of its own, as in a metric."""
    return variable.value.synchronization == tf.VariableSynchronization.ON_READ


def _copies_to_save(variable: Any, copies: np.ndarray | None) -> np.ndarray:
    """`[copies, *shape]`. A weight's copies are saved as one where they are equal: those of running statistics are not.

    `copies` are those of all processes; None: all processes have the same.
    """
    if copies is None:
        copies = np.array([copy.numpy() for copy in _copies(variable)])
    return copies if _is_summed(variable) or (copies != copies[0]).any() else copies[:1]


def _assign_copies(variable: Any, saved: np.ndarray, workers: Workers) -> None:
    """Gives each replica its own saved copy; where their number has changed, all get the first, or the first the sum."""
    copies = _copies(variable)
    if _is_summed(variable) and len(saved) != len(copies) * workers.count:
        # Not assigned to the whole, which would part it in fractions: counts are whole numbers.
        for number, copy in enumerate(copies, workers.first_replica):
            copy.assign(saved.sum(0) if number == 0 else np.zeros_like(saved[0]))
        return
    for number, copy in enumerate(copies, workers.first_replica):
        copy.assign(saved[number if number < len(saved) else 0])


def _damage_of(path: Path) -> str | None:
    """What is wrong with a checkpoint's file, if anything is."""
    try:
        return None if _digest(path) == path.stem.split("-")[1] else "its content does not fit the checksum in its name"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
