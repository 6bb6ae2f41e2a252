"""The folder of a run: who may use it, and how files get into it."""

import contextlib
import dataclasses
import fcntl
import os
import platform
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.config.config import Config
from r2d2_tf.config.identity import OF_BEFORE
from r2d2_tf.runs.outcome import schema
from r2d2_tf.system import files
from r2d2_tf.system.commands import shown

CONFIG_FILE = "config.cfg"
SPLIT_FILE = "labeled.txt"
LABELS_FILE = "labeled.csv"
LEFT_OUT_FILE = "left_out.txt"
METRICS_FILE = "metrics.csv"
PICTURE_FILE = "curves.png"
STAGE_1_FILE = "stage_1.keras"
STAGE_2_FILE = "stage_2.keras"
STAGE_3_FILE = "stage_3.keras"
TEST_PREDICTIONS_FILE = "test_predictions.npz"
HELD_OUT_FILE = "held_out_predictions.npz"
HISTORY_FILE = "predictions.npz"
TABLE_FILE = "pseudo_labels.npz"
BACKBONE_FILE = "backbone.keras"
SUMMARY_FILE = "summary.json"
CHOICE_FILE = "choice.json"
LOCK_FILE = ".lock"
CHECKPOINTS = "checkpoints"
ROUNDS = "rounds"

FILES = {
    SUMMARY_FILE: "this table, with versions, commit, seed and devices",
    CONFIG_FILE: "all flags: repeats the run",
    CHOICE_FILE: "the recipes that were tried on held-out labels, and why this one was taken",
    SPLIT_FILE: "the labeled images; --split_file reads it",
    LABELS_FILE: "the labels that were given, and the test images; --labels reads it",
    LEFT_OUT_FILE: "images that could not be read, with --skip_bad_images",
    METRICS_FILE: "what was measured, a row an epoch",
    PICTURE_FILE: "errors and confidence over the epochs",
    TABLE_FILE: "the learned pseudo-labels, a row an image",
    STAGE_1_FILE: "the network after stage 1; --stage_1_from starts another run from it",
    ROUNDS: "where each round of stage 2 ended; --stage_2_from starts another run there",
    STAGE_2_FILE: "the network after stage 2",
    STAGE_3_FILE: "the network after stage 3, where another is the result",
    HISTORY_FILE: "each prediction of the pseudo-labels beside the rows that it replaced",
    BACKBONE_FILE: "the result, pixels to logits; --warm_start starts another run from it",
    TEST_PREDICTIONS_FILE: "the predicted class of each test image after each stage",
    HELD_OUT_FILE: "the same of the held-out labels, and which images they are of",
    "tensorboard/": "the same measurements for TensorBoard",
}
"""What a finished run leaves, for people."""

NETWORK_FILES = {1: STAGE_1_FILE, 2: STAGE_2_FILE}
"""Where the network after a stage is kept while a run goes on."""
ALL_NETWORK_FILES = {**NETWORK_FILES, 3: STAGE_3_FILE}
"""Where it is in the end, unless it is the result."""

TABLE_LAYOUT = {"ids": "U rows", "given_labels": "i rows", "pseudo_logits": "f rows classes"}
HISTORY_LAYOUT = {
    "rows": "i rows",
    "stage": "i comparisons",
    "epoch": "i comparisons",
    "replaced": "b comparisons",
    "pseudo_label_class": "i comparisons rows",
    "predicted_class": "i comparisons rows",
    "pseudo_label_probability": "f comparisons rows",
    "predicted_probability": "f comparisons rows",
    "class_loss": "f comparisons rows",
    "entropy": "f comparisons rows",
}
"""What the arrays of TABLE_FILE and HISTORY_FILE are, as `system.arrays` has it."""


def finished_summary(config: Config, *, claims: bool = True) -> dict[str, Any] | None:
    """The summary of the run that already finished in the config's folder, or None if there is something to train.

    Writes nothing. `claims`: this process will claim the folder; else another one may hold it already.

    Raises:
        ValueError: if the folder holds another run, a run that a living process trains, or files that are no run.
    """
    folder = config.resolved_run_dir
    check_writable(folder)
    if _is_free(folder):
        return None
    if claims and is_in_use(folder):
        raise ValueError(_in_use(folder))
    return _finished_summary(config)


def _finished_summary(config: Config) -> dict[str, Any] | None:
    folder = config.resolved_run_dir
    if not (folder / CONFIG_FILE).is_file():
        raise ValueError(f"run_dir ({folder}) exists and is not the folder of a run: choose another --run_dir")
    if config.new_run:
        return None
    is_finished = (folder / SUMMARY_FILE).is_file()
    differences = as_begun(config).differences(load_config(folder), unfinished=not is_finished)
    if differences:
        raise ValueError(
            f"run_dir ({folder}) holds another run, with other flags ({'; '.join(differences)}): choose another "
            "--run_dir, or add --new_run to move that run aside"
        )
    return read_summary(folder) if is_finished else None


def as_begun(config: Config) -> Config:
    """The config; where a run of before is in its folder, as that run was: it keeps its pictures and its labels."""
    path = config.resolved_run_dir / CONFIG_FILE
    if config.new_run or not path.is_file():
        return config
    text = path.read_text(encoding="utf-8", errors="replace")
    before: dict[str, Any] = {name: value for name, value in OF_BEFORE.items() if f"--{name}=" not in text}
    return dataclasses.replace(config, **before)


def is_unfinished(config: Config) -> bool:
    """Whether the config's folder, which `finished_summary` let pass, holds a run to be continued."""
    return not config.new_run and not _is_free(config.resolved_run_dir)


def has_checkpoint(config: Config) -> bool:
    """Whether the config's folder holds a checkpoint, good or not, from which the run is to be continued."""
    return is_unfinished(config) and any((config.resolved_run_dir / CHECKPOINTS).glob("*.npz"))


def how_to_go_on(config: Config) -> str:
    """What the same command does now, after a run of `config` ended before its end, for people."""
    folder = config.resolved_run_dir
    if not (folder / CONFIG_FILE).is_file():
        return f"the same command begins anew: {folder} is gone, and what was saved in it"
    if not any((folder / CHECKPOINTS).glob("*.npz")):
        return "the same command begins anew, as nothing was saved yet"
    return f"the same command{', without --new_run,' if config.new_run else ''} goes on from the last checkpoint"


def bytes_of_checkpoints(config: Config) -> int:
    """Size of the checkpoints from which the config's run is to be continued."""
    paths = (config.resolved_run_dir / CHECKPOINTS).glob("*.npz") if is_unfinished(config) else ()
    return sum(path.stat().st_size for path in paths)


def remove_checkpoints(folder: Path) -> None:
    """Removes the checkpoints of a finished run: they serve nothing."""
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


@contextlib.contextmanager
def claimed(config: Config) -> Iterator[Path]:
    """Gives the config's folder, with the config in it, and holds it to the end of the block or of the process.

    A new run's folder is made; one that `--new_run` replaces is moved aside first; what a killed process left half
    written is removed. The lock is the operating system's, on a file that stays: it ends with the process, however
    that ends.

    Raises:
        ValueError: if a living process holds the folder, or has finished the run since `finished_summary` was asked.
    """
    folder = config.resolved_run_dir
    with contextlib.ExitStack() as stack:
        folder.mkdir(parents=True, exist_ok=True)
        stack.enter_context(_locked(folder))
        if not _is_free(folder):
            if _finished_summary(config) is not None:
                raise ValueError(f"run_dir ({folder}) was finished by another process while this one was starting")
            if config.new_run:
                print(f"moved the earlier run to {_move_aside(folder)}")
                folder.resolve().mkdir(exist_ok=True)
                stack.enter_context(_locked(folder))
        for path in folder.rglob(f"{files.PARTIAL}*"):
            path.unlink()
        if not (folder / CONFIG_FILE).is_file():
            files.write_text(folder / CONFIG_FILE, config.to_flagfile())
        yield folder


def _is_free(folder: Path) -> bool:
    """Whether there is nothing in `folder` but what a process leaves that is killed before it wrote anything."""
    left = () if not folder.exists() else (path.name for path in folder.iterdir())
    return all(name == LOCK_FILE or name.startswith(files.PARTIAL) for name in left)


def _move_aside(folder: Path) -> Path:
    # The folder itself, not a link to it.
    folder, number = folder.resolve(), 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    return folder.rename(aside)


def _locked(folder: Path) -> IO[str]:
    """The locked file, which is never removed: who removes one can pull it from under a process that has just opened it."""
    path = folder / LOCK_FILE
    # `is_in_use` holds the lock too, for a moment.
    for patience in (0.1, 0.1, 0.0):
        file = path.open("a+")
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between opening and locking, another process may have moved the folder aside (--new_run).
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                file.truncate(0)
                file.write(f"{platform.node()}, process {os.getpid()}\n")
                file.flush()
                return file
        file.close()
        time.sleep(patience)
    raise ValueError(_in_use(folder))


def is_in_use(folder: Path) -> bool:
    """Whether a living process trains in `folder`."""
    try:
        with (folder / LOCK_FILE).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _in_use(folder: Path) -> str:
    owner = (folder / LOCK_FILE).read_text().strip()
    return f"run_dir ({folder}) is in use: a living process trains in it ({owner}); wait for it, or change --run_dir"


def files_in(folder: Path) -> dict[str, str]:
    """What there is in the folder of a run that is about to finish: name -> what it is."""

    def is_there(name: str) -> bool:
        # An empty list tells a run that goes on that nothing was left out, and a person nothing.
        return (folder / name).exists() and (name != LEFT_OUT_FILE or (folder / name).stat().st_size > 0)

    return {name: what for name, what in FILES.items() if name == SUMMARY_FILE or is_there(name)}


def check_writable(folder: Path) -> None:
    """Raises ValueError unless `folder` is a folder that can be written to, or can be made."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise ValueError(f"{folder} cannot be a folder: {existing} is a file; choose another place")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"{folder} cannot be written: no permission in {existing}; choose another place")


def load_config(folder: Path) -> Config:
    """The config that a run's folder was made with.

    Raises:
        ValueError: if the folder is not that of a run, or its config is damaged.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ValueError(f"{folder} is not the folder of a run: there is no {CONFIG_FILE} in it")
    try:
        return from_command_line([f"--flagfile={path}"])
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): mend it, or add --new_run to move its folder aside") from error


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of a finished run.

    Raises:
        ValueError: if there is none, or it does not fit `schema.Summary`.
    """
    path = folder / SUMMARY_FILE
    if not path.is_file():
        how = f"go on with it by {shown('r2d2_tf.train', f'--flagfile={folder / CONFIG_FILE}', f'--run_dir={folder}')}"
        raise ValueError(f"the run in {folder} is not finished: {'wait, it is training' if is_in_use(folder) else how}")
    return schema.summary_in(path)


def title_of(summary: dict[str, Any]) -> str:
    """A finished run in a few words, for titles; a run on generated data is called so."""
    return f"{summary['name']}, seed {summary['seed']}{' (FAKE DATA)' if summary.get('fake_data') else ''}"
