"""What was chosen for a run, and where that is kept: beside the run until it is begun, then in its folder, too."""

import dataclasses
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2d2_tf.config.config import Config
from r2d2_tf.recipes import proposed
from r2d2_tf.runs import run_directory
from r2d2_tf.system import files

RECIPE_FILE = "recipe.cfg"


@dataclass(frozen=True)
class Chosen:
    """What is to be trained.

    Attributes:
        config: of the run.
        words: what was chosen, why, and how sure that is, a line each.
        record: for programs: the recipe, why its stage in one line, the words, and what each recipe came to.
    """

    config: Config
    words: tuple[str, ...]
    record: dict[str, Any]


def folder_of(config: Config) -> Path:
    """Where the trials for a run are, and what was chosen by them: RUN-choice, beside it."""
    run_dir = config.resolved_run_dir
    return run_dir.parent / f"{run_dir.absolute().name}-choice"


def chosen_before(config: Config, named: Collection[str]) -> Config | None:
    """The config that this command trains by: that of its run, or that was chosen for it; None: nothing is chosen yet.

    What is named now must still be so, but for the share of test images, of which another one may have been taken.

    Args:
        config: as asked for, with the folder of the run in `run_dir`.
        named: the flags that are asked for.
    """
    run = config.resolved_run_dir / run_directory.CONFIG_FILE
    chosen = folder_of(config) / run_directory.CONFIG_FILE
    if config.new_run or not (run.is_file() or chosen.is_file()):
        return None
    before = run_directory.load_config(run.parent if run.is_file() else chosen.parent)
    kept = {name: getattr(config, name) for name in {*named, "run_dir"} - {"test_fraction"}}
    return dataclasses.replace(before, **kept)


def write(chosen: Chosen, choices: Sequence[proposed.Choice], title: str) -> None:
    """Writes what was chosen: as a flagfile with the reasons of a recipe's `choices`, for programs, and as a config.

    Raises:
        OSError: if it cannot be written.
    """
    config, folder = chosen.config, folder_of(chosen.config)
    folder.mkdir(parents=True, exist_ok=True)
    about = [
        proposed.Choice(name, f"{getattr(config, name)}", "", "the data")
        for name in ("dataset", "data_dir", "labels", "test_fraction", "held_out")
        if getattr(config, name)
    ]
    # As they are after the choice of a stage.
    flags = [choice._replace(value=_written(getattr(config, choice.flag))) for choice in choices]
    files.write_text(folder / RECIPE_FILE, proposed.flagfile([*about, *flags], title))
    files.write_text(folder / run_directory.CHOICE_FILE, json.dumps(chosen.record, indent=2) + "\n")
    # Last: it says that all is chosen.
    files.write_text(folder / run_directory.CONFIG_FILE, config.to_flagfile())


def copy_into_run(config: Config) -> None:
    """Copies what was chosen into the folder of the run that was begun for it.

    Raises:
        OSError: if it cannot be written.
    """
    source = folder_of(config) / run_directory.CHOICE_FILE
    if source.is_file():
        files.write_text(config.resolved_run_dir / run_directory.CHOICE_FILE, source.read_text(encoding="utf-8"))


def _written(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else f"{value}"
