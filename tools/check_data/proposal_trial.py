"""`python -m tools.check_data.proposal_trial --dataset=cifar10 --data_dir=DIR --num_labels=200`: do proposals gain?

For each seed, images of a named set are written as files, a folder a class and `unlabeled`, as a user would have them;
tools.check_data proposes a config, and a run is made with it as it stands. Prints a Markdown table of errors in percent after
each stage, which stands in OUTPUT_DIR/table.md too.

All of them, those that are tested on as well, are training images of the set, drawn by the seed: no test image is looked at, so
that rules may be changed by what is found here, with seeds that are then used up.

Each seed has folders of its own in --output_dir: the same command goes on where it was interrupted.
"""

import dataclasses
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from r2d2_tf.config.command_line import parse_flags, run_with_flags
from r2d2_tf.config.path_flags import define_path
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.data.image_data import ImageData
from r2d2_tf.data.splits import labeled_split
from r2d2_tf.runs import run_directory
from r2d2_tf.system import files
from r2d2_tf.system.startup import import_tensorflow_quietly
from tools.check_data.data_check import check, define_flags
from tools.shared.arguments import parse_seeds
from tools.shared.runner import RunFailed, train
from tools.shared.seed_table import Column, seed_table

TABLE_FILE = "table.md"
_TRIAL_FILE = "trial.json"
_STAGES = ("stage_1", "stage_2", "stage_3")


@dataclass(frozen=True)
class Trial:
    """What is to be tried: the flags of this program; `folder` is --output_dir."""

    dataset: str
    data_dir: Path | None
    num_labels: int
    num_unlabeled: int
    num_test: int
    hours: float
    folder: Path


def drawn(labels: np.ndarray, num_classes: int, trial: Trial, seed: int) -> dict[str, np.ndarray]:
    """Rows of training images by what they are to be: `train`, `unlabeled` and `test`.

    Raises:
        ValueError: if there are not so many.
    """
    wanted = trial.num_labels + trial.num_unlabeled + trial.num_test
    if wanted > len(labels):
        raise ValueError(f"{trial.dataset} has {len(labels):,} training images, and {wanted:,} are asked for: ask for fewer")
    order = np.random.default_rng([seed, 7]).permutation(len(labels))
    test, rest = order[: trial.num_test], order[trial.num_test :]
    is_labeled = np.zeros(len(rest), bool)
    is_labeled[labeled_split(labels[rest], trial.num_labels, num_classes, seed=seed)] = True
    return {"train": rest[is_labeled], "unlabeled": rest[~is_labeled][: trial.num_unlabeled], "test": test}


def write_folder(folder: Path, data: ImageData, rows: Mapping[str, np.ndarray]) -> None:
    """Writes images as a user would have them: files as they are, or pixels as PNG; whole, or not at all."""
    partial = folder.with_name(f"{files.PARTIAL}{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    for part, own in rows.items():
        for row in own.tolist():
            place = Path(part) if part == "unlabeled" else Path(part, data.class_names[data.train_labels[row]])
            (partial / place).mkdir(parents=True, exist_ok=True)
            encoded, ending = _encoded(data.train_images, row)
            (partial / place / f"{row:07d}.{ending}").write_bytes(encoded)
    partial.rename(folder)


def _encoded(images: Any, row: int) -> tuple[bytes, str]:
    import tensorflow as tf

    if isinstance(images, np.ndarray):
        return tf.io.encode_png(images[row]).numpy(), "png"
    return images.read(row), "jpg"


def summary_of(trial: Trial, seed: int) -> dict[str, Any]:
    """The summary of a seed's run, which is made now if need be.

    Raises:
        ValueError: if the images do not suffice, or the run does not finish.
    """
    photos, run_dir = (trial.folder / f"seed{seed}-{name}" for name in ("images", "run"))
    flagfile = trial.folder / f"seed{seed}.cfg"
    if not (run_dir / run_directory.SUMMARY_FILE).is_file():
        if not photos.is_dir():
            import_tensorflow_quietly()
            spec = DATASETS[trial.dataset]
            data = spec.load(trial.data_dir)
            write_folder(photos, data, drawn(data.train_labels, spec.num_classes, trial, seed))
        if not flagfile.is_file():
            asked = define_flags()
            parse_flags(asked, [f"--data_dir={photos}", "--sheet=", f"--hours={trial.hours}", f"--config_out={flagfile}"])
            if check(asked):
                raise ValueError(f"nothing is proposed for {photos}, as said above")
        try:
            return train([f"--flagfile={flagfile}", f"--seed={seed}", f"--run_dir={run_dir}"])
        except RunFailed as error:
            raise ValueError(error) from error
    return run_directory.read_summary(run_dir)


def table_text(trial: Trial, summaries: Mapping[int, Mapping[str, Any]], configs: Sequence[str]) -> str:
    """The table in Markdown."""
    errors = [summary["test_error_percent"] for summary in summaries.values()]
    stages = [stage for stage in _STAGES if any(stage in own for own in errors)]
    columns = [Column(stage.replace("_", " "), [own.get(stage) for own in errors], decimals=1) for stage in stages]
    seconds = [summary["seconds"]["total"] for summary in summaries.values()]
    columns.append(Column("seconds", seconds, decimals=0, summarized=False))
    whence = [" / ".join(sorted({str(own.get(name)) for own in summaries.values()})) for name in ("git_commit", "machine")]
    return (
        f"{seed_table(list(summaries), columns)}\n\n"
        f"Errors in percent on {trial.num_test:,} other training images of {trial.dataset}: {trial.num_labels:,} "
        f"labeled, {trial.num_unlabeled:,} unlabeled, {' / '.join(sorted(set(configs)))}. Commit {whence[0]}; "
        f"{whence[1]}.\n"
    )


def _network_of(run_dir: Path) -> str:
    config = run_directory.load_config(run_dir)
    return f"{config.backbone} at {config.image_size} pixels"


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    flag_values = flags.FlagValues()
    flags.DEFINE_enum("dataset", "mnist5k", sorted(DATASETS), "whose training images are used", flag_values=flag_values)
    define_path("data_dir", "", "folder of prepared TFDS data sets", flag_values=flag_values)
    flags.DEFINE_integer("num_labels", 100, "images with a label", lower_bound=2, flag_values=flag_values)
    flags.DEFINE_integer("num_unlabeled", 2000, "images without", lower_bound=0, flag_values=flag_values)
    flags.DEFINE_integer("num_test", 500, "images to test on", lower_bound=1, flag_values=flag_values)
    flags.DEFINE_float("hours", 2.0, "that a run may take, for the proposal", 0.01, flag_values=flag_values)
    flags.DEFINE_list("seeds", "0", "what images are drawn, and the run's seed", flag_values=flag_values)
    define_path("output_dir", "runs/proposal_trial", "folder of images and runs", flag_values=flag_values)
    return run_with_flags(arguments, __doc__, flag_values, _run)


def _claim(trial: Trial) -> None:
    """Notes in the folder which trial it is; raises ValueError if it holds another one."""
    asked = {name: str(value) for name, value in dataclasses.asdict(trial).items() if name not in ("folder", "data_dir")}
    path = trial.folder / _TRIAL_FILE
    if path.is_file():
        held = json.loads(path.read_text())
        differ = "; ".join(f"--{name}: {held.get(name)} -> {value}" for name, value in asked.items() if held.get(name) != value)
        if differ:
            raise ValueError(f"output_dir ({trial.folder}) holds another trial ({differ}): choose another --output_dir")
    trial.folder.mkdir(parents=True, exist_ok=True)
    files.write_text(path, json.dumps(asked, indent=2) + "\n")


def _run(flag_values: flags.FlagValues) -> int:
    seeds = parse_seeds(flag_values["seeds"].value)
    data_dir = flag_values["data_dir"].value
    counts = {name: flag_values[name].value for name in ("dataset", "num_labels", "num_unlabeled", "num_test", "hours")}
    folder = Path(flag_values["output_dir"].value)
    trial = Trial(data_dir=Path(data_dir).expanduser() if data_dir else None, folder=folder, **counts)
    run_directory.check_writable(folder)
    _claim(trial)
    summaries, text = {}, ""
    for seed in seeds:
        summaries[seed] = summary_of(trial, seed)
        text = table_text(trial, summaries, [_network_of(folder / f"seed{seed}-run") for seed in summaries])
        files.write_text(folder / TABLE_FILE, text)
    print(f"\n{text}\nThis stands in {folder / TABLE_FILE} too.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
