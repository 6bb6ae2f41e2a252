"""The folder of a run: who may use it, and how files get into it."""

import contextlib
import fcntl
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from r2d2_tf.command_line import from_command_line
from r2d2_tf.config import Config

CONFIG_FILE = "config.cfg"
SPLIT_FILE = "labeled.txt"
METRICS_FILE = "metrics.csv"
PICTURE_FILE = "curves.png"
STAGE_1_FILE = "stage_1.keras"
STAGE_2_FILE = "stage_2.keras"
HISTORY_FILE = "predictions.npz"
TABLE_FILE = "pseudo_labels.npz"
BACKBONE_FILE = "backbone.keras"
SUMMARY_FILE = "summary.json"
LOCK_FILE = ".lock"

FILES = {
    SUMMARY_FILE: "this table, with versions, commit, seed and devices",
    CONFIG_FILE: "all flags: repeats the run",
    SPLIT_FILE: "the labeled images; --split_file reads it",
    METRICS_FILE: "what was measured, a row an epoch",
    PICTURE_FILE: "errors and confidence over the epochs",
    TABLE_FILE: "the learned pseudo-labels, a row an image",
    STAGE_1_FILE: "the network after stage 1; --stage_1_from starts another run from it",
    STAGE_2_FILE: "the network after stage 2",
    HISTORY_FILE: "each prediction of the pseudo-labels beside the rows that it replaced",
    BACKBONE_FILE: "the trained network, pixels to logits",
    "tensorboard/": "the same measurements for TensorBoard",
}
"""What a finished run leaves, for people."""

NETWORK_FILES = {1: STAGE_1_FILE, 2: STAGE_2_FILE}
"""Where the network after a stage is kept."""


def finished_summary(config: Config) -> dict[str, Any] | None:
    """The summary of the run that already finished in the config's folder, or None if the folder is free to use.

    Writes nothing.

    Raises:
        ValueError: if the folder holds another run, an unfinished one, or files that are no run.
    """
    folder = config.resolved_run_dir
    check_writable(folder)
    if not folder.exists() or not any(folder.iterdir()):
        return None
    if not (folder / CONFIG_FILE).is_file():
        raise ValueError(f"run_dir ({folder}) exists and is not the folder of a run: choose another --run_dir")
    if is_in_use(folder):
        raise ValueError(f"run_dir ({folder}) is in use: a living process trains in it; wait for it, or change --run_dir")
    if config.new_run:
        return None
    differences = config.differences(load_config(folder))
    if differences:
        raise ValueError(
            f"run_dir ({folder}) holds another run, with other flags ({'; '.join(differences)}): choose another "
            "--run_dir, or add --new_run to move that run aside"
        )
    if not (folder / SUMMARY_FILE).is_file():
        raise ValueError(
            f"run_dir ({folder}) holds a run of this config that did not finish, and resuming is not built yet: "
            "add --new_run to move it aside and start afresh"
        )
    return read_summary(folder)


def create(config: Config) -> Path:
    """Makes the config's folder, moves a run that is there aside (`--new_run`), and writes the config into it.

    Raises:
        ValueError: if something was put there since `finished_summary` was asked.
    """
    folder = config.resolved_run_dir
    if folder.exists() and any(folder.iterdir()):
        if not config.new_run or is_in_use(folder):
            raise ValueError(f"run_dir ({folder}) was taken while this run was starting: is the same command running twice?")
        number = 1
        while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
            number += 1
        folder.rename(aside)
        print(f"moved the earlier run to {aside}")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # "x": of two commands that start at once, one gets the folder.
        with (folder / CONFIG_FILE).open("x") as file:
            file.write(config.to_flagfile())
    except FileExistsError:
        raise ValueError(
            f"run_dir ({folder}) was taken while this run was starting: is the same command running twice?"
        ) from None
    return folder


@contextlib.contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Marks `folder` as in use until the end of the block or of the process, however that ends."""
    with (folder / LOCK_FILE).open("a") as file:
        # Waits for those who only ask whether the folder is in use.
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
        (folder / LOCK_FILE).unlink(missing_ok=True)


def is_in_use(folder: Path) -> bool:
    """Whether a living process trains in `folder`."""
    if not (folder / LOCK_FILE).is_file():
        return False
    with (folder / LOCK_FILE).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def files_in(folder: Path) -> dict[str, str]:
    """What there is in the folder of a run that is about to finish: name -> what it is."""
    return {name: what for name, what in FILES.items() if name == SUMMARY_FILE or (folder / name).exists()}


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
        ValueError: if the folder is not that of a run.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ValueError(f"{folder} is not the folder of a run: there is no {CONFIG_FILE} in it")
    return from_command_line([f"--flagfile={path}"])


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of a finished run.

    Raises:
        ValueError: if there is none.
    """
    path = folder / SUMMARY_FILE
    if not path.is_file():
        raise ValueError(f"the run in {folder} is not finished: there is no {SUMMARY_FILE} in it")
    try:
        summary = json.loads(path.read_text())
        summary["test_error_percent"], summary["seconds"]["total"], summary["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: remove the folder, or add --new_run to move it aside") from error
    return summary


def title_of(summary: dict[str, Any]) -> str:
    """A finished run in a few words, for titles; a run on generated data is called so."""
    return f"{summary['name']}, seed {summary['seed']}{' (FAKE DATA)' if summary.get('fake_data') else ''}"


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` to write to; on success it becomes `path`, whole or not at all."""
    # The ending is kept: Keras, NumPy and Matplotlib choose a format by it.
    temporary = path.with_name(f".partial-{path.name}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def shown(path: str | Path) -> str:
    """`path` as a person would type it: relative to the working directory where it lies below it."""
    path = Path(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def machine() -> str:
    """What kind of machine this is, as in `Linux x86_64, 2 CPUs`."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    names = ("keras", "numpy", "tensorflow", "tensorflow-cpu")
    return {name: version for name in names if (version := _version(name))}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """The commit of the source, `-dirty` if it was changed since; None outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return None
    folder = Path(__file__).parent
    command = [git, "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None
