"""The command that trains with labels which somebody has given, or mended."""

import itertools
import re
from pathlib import Path

from r2d2_tf.config.config import Config
from r2d2_tf.runs import run_directory
from r2d2_tf.system.commands import command_of


def next_command(
    run_dir: Path, config: Config, filled: Path, *, num_left: int, data_dir: str = "", goes_on: bool = True
) -> str:
    """The command that trains as a run did, with the labels of a file that was filled in.

    Args:
        run_dir: folder of the run.
        config: of the run.
        filled: the file of labels.
        num_left: images that are unlabeled then. Where they fill no batch of stage 2, it is made smaller.
        data_dir: where the data set lies, if not where the config says.
        goes_on: train on from the run's network; else as that run began.
    """
    # The file says which images are labeled, and of a folder which are test images; its labels are no longer to be made wrong.
    replaced = {"stage_1_from": "", "stage_2_from": "", "split_file": "", "num_labels": 0, "label_noise": 0.0}
    replaced |= {"soft_labels": False}
    if config.dataset == "folder":
        replaced["test_fraction"] = 0.0
    replaced |= {"data_dir": data_dir or config.data_dir}
    if goes_on:
        replaced |= _batch_that_fits(config, num_left)
    replaced |= {"labels": str(filled)}
    if goes_on:
        replaced |= {"warm_start": str(run_dir)} if num_left else {"rounds": "", "finetune_epochs": 0, "warm_start": ""}
    changed = {name: value for name, value in replaced.items() if getattr(config, name) != value}
    more = [f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in changed.items()]
    flagfile = f"--flagfile={run_dir / run_directory.CONFIG_FILE}"
    return command_of("r2d2_tf.train", flagfile, *more, f"--run_dir={_free_beside(run_dir)}")


def _free_beside(run_dir: Path) -> Path:
    """The folder for the run after one: photos, photos-2, photos-3, ..., the first that is not there."""
    name = re.sub(r"-[1-9][0-9]?$", "", run_dir.name)
    return next(path for path in (run_dir.with_name(f"{name}-{number}") for number in itertools.count(2)) if not path.exists())


def _batch_that_fits(config: Config, num_left: int) -> dict[str, int | str]:
    """The flags of a batch of stage 2 that so many unlabeled images fill: those of the run, if they do."""
    labeled, unlabeled = (int(part) for part in config.labeled_to_unlabeled.split(":"))
    if not config.rounds or not num_left or config.batch_size - config.labeled_per_batch <= num_left:
        return {}
    if unlabeled > num_left:
        return {"labeled_to_unlabeled": f"1:{num_left}", "batch_size": 1 + num_left}
    return {"batch_size": num_left // unlabeled * (labeled + unlabeled)}
