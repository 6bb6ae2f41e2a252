"""`python -m tools.check_data.proposal_trial --dataset=cifar10 --data_dir=DIR --num_labels=200`: does the one command gain?

For each seed, images of a named set are written as files, a folder a class and `unlabeled`, as a user would have them, and
`r2d2_tf.train --dataset=folder --data_dir=...` is left to choose by itself. Prints a Markdown table of errors in percent: of
the labels alone, of the result, and, with --compare, of scikit-learn's methods on the same features. It stands in
OUTPUT_DIR/table.md too.

All images, those that are tested on as well, are training images of the set, drawn by the seed: no test image is looked at, so
that rules may be changed by what is found here, with seeds that are then used up. --tested_on=test tests on the set's own test
images: for results, once the rules stand. --dataset=folder takes images of your own, a folder a class in --data_dir: would
the one command gain on their kind? They are drawn and tested on in the same way.

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

from r2d2_tf.config.command_line import run_with_flags
from r2d2_tf.config.config import Config
from r2d2_tf.config.path_flags import define_path
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.data.image_data import UNLABELED, DatasetSpec, ImageData
from r2d2_tf.data.splits import labeled_split
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.runs.outcome.summary import result_error, result_stage
from r2d2_tf.system import files
from r2d2_tf.system.startup import import_tensorflow_quietly
from tools.check_data import feature_baselines
from tools.shared.arguments import parse_seeds
from tools.shared.runner import RunFailed, train
from tools.shared.seed_table import Column, seed_table

TABLE_FILE = "table.md"
_TRIAL_FILE = "trial.json"
_TRAIN, _TEST = "train", "test"
_FOLDER = "folder"


@dataclass(frozen=True)
class Trial:
    """What is to be tried: the flags of this program; `folder` is --output_dir."""

    dataset: str
    data_dir: Path | None
    num_labels: int
    num_unlabeled: int
    num_test: int
    tested_on: str
    minutes: float
    weights: bool
    folder: Path


def drawn(labels: np.ndarray, num_classes: int, trial: Trial, seed: int) -> dict[str, np.ndarray]:
    """Rows of training images by what they are to be: `train`, `unlabeled` and, if they are tested on, `test`.

    Raises:
        ValueError: if there are not so many.
    """
    num_test = trial.num_test if trial.tested_on == _TRAIN else 0
    wanted = trial.num_labels + trial.num_unlabeled + num_test
    if wanted > len(labels):
        raise ValueError(f"{trial.dataset} has {len(labels):,} training images, and {wanted:,} are asked for: ask for fewer")
    order = np.random.default_rng([seed, 7]).permutation(len(labels))
    test, rest = order[:num_test], order[num_test:]
    is_labeled = np.zeros(len(rest), bool)
    is_labeled[labeled_split(labels[rest], trial.num_labels, num_classes, seed=seed)] = True
    parts = {"train": rest[is_labeled], "unlabeled": rest[~is_labeled][: trial.num_unlabeled]}
    return parts | ({_TEST: test} if num_test else {})


def write_folder(folder: Path, data: ImageData, rows: Mapping[str, np.ndarray], test_rows: np.ndarray | None = None) -> None:
    """Writes images as a user would have them: files as they are, or pixels as PNG; whole, or not at all.

    `test_rows` are those of the set's own test images that are to be tested on.
    """
    partial = folder.with_name(f"{files.PARTIAL}{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    parts = [(part, own, data.train_images, data.train_labels) for part, own in rows.items()]
    if test_rows is not None:
        parts.append((_TEST, test_rows, data.test_images, data.test_labels))
    for part, own, images, labels in parts:
        for row in own.tolist():
            place = Path(part) if part == "unlabeled" else Path(part, data.class_names[labels[row]])
            (partial / place).mkdir(parents=True, exist_ok=True)
            encoded, ending = _encoded(images, row)
            (partial / place / f"{row:07d}.{ending}").write_bytes(encoded)
    partial.rename(folder)


def _encoded(images: Any, row: int) -> tuple[bytes, str]:
    import tensorflow as tf

    if isinstance(images, np.ndarray):
        return tf.io.encode_png(images[row]).numpy(), "png"
    file = images.files[images.file_of_row[row]]
    # A record file holds JPEGs; a file that is the image itself keeps its ending.
    return images.read(row), file.suffix.removeprefix(".") if images.length[row] == file.stat().st_size else "jpg"


def summary_of(trial: Trial, seed: int) -> dict[str, Any]:
    """The summary of a seed's run, which is made now if need be, with the seconds that the command took.

    Raises:
        ValueError: if the images do not suffice, or the run does not finish.
    """
    photos, run_dir = (trial.folder / f"seed{seed}-{name}" for name in ("images", "run"))
    if not (run_dir / run_directory.SUMMARY_FILE).is_file():
        if not photos.is_dir():
            import_tensorflow_quietly()
            spec, data = loaded(trial)
            tested = None
            if trial.tested_on == _TEST:
                count = min(trial.num_test, len(data.test_labels))
                tested = np.sort(np.random.default_rng([seed, 8]).permutation(len(data.test_labels))[:count])
            write_folder(photos, data, drawn(data.train_labels, spec.num_classes, trial, seed), tested)
        try:
            asked = ["--dataset=folder", f"--data_dir={photos}", f"--minutes={trial.minutes:g}", f"--name={trial.dataset}"]
            without = [] if trial.weights else ["--weights=none"]
            train([*asked, *without, f"--seed={seed}", f"--run_dir={run_dir}"])
        except RunFailed as error:
            raise ValueError(error) from error
    return run_directory.read_summary(run_dir)


def table_text(trial: Trial, summaries: Mapping[int, dict[str, Any]], others: Mapping[str, Sequence[float]]) -> str:
    """The table in Markdown; `others` are errors of other methods, a name -> one a seed."""
    columns = [
        Column("labels alone", [own["test_error_percent"]["stage_1"] for own in summaries.values()], decimals=1),
        Column("result", [result_error(own) for own in summaries.values()], decimals=1),
        *(Column(name, errors, decimals=1) for name, errors in others.items()),
        Column("seconds", [own["seconds"]["total"] for own in summaries.values()], decimals=0, summarized=False),
    ]
    whence = [" / ".join(sorted({str(own.get(name)) for own in summaries.values()})) for name in ("git_commit", "machine")]
    chosen = [f"{seed}: {_network_of(trial.folder / f'seed{seed}-run')}" for seed in summaries]
    images = "other training" if trial.tested_on == _TRAIN else "test"
    return (
        f"{seed_table(list(summaries), columns)}\n\n"
        f"Errors in percent on {trial.num_test:,} {images} images of {trial.dataset}: {trial.num_labels:,} "
        f"labeled, {trial.num_unlabeled:,} unlabeled. Chosen, by seed: {'; '.join(chosen)}. Commit {whence[0]}; {whence[1]}.\n"
    )


def loaded(trial: Trial) -> tuple[DatasetSpec, ImageData]:
    """The set from which images are drawn, with the true class of each.

    Raises:
        ValueError: if the folder's images cannot be used, or not all have a class.
    """
    if trial.dataset != _FOLDER:
        spec = DATASETS[trial.dataset]
        return spec, spec.load(trial.data_dir)
    spec = spec_of(Config(dataset=_FOLDER, data_dir=str(trial.data_dir)), needs_test=False)
    data = spec.load(None)
    if unlabeled := int((data.train_labels == UNLABELED).sum()):
        raise ValueError(f"{trial.data_dir} has {unlabeled:,} images without a class: a trial needs the class of each")
    return spec, data


def _true_classes(trial: Trial) -> list[str]:
    """Of each training image of the set."""
    _, data = loaded(trial)
    return [data.class_names[label] for label in data.train_labels]


def _network_of(run_dir: Path) -> str:
    config, summary = run_directory.load_config(run_dir), run_directory.read_summary(run_dir)
    trained = "head of " if config.trainable != "all" else ""
    return f"{trained}{config.backbone} at {config.image_size} pixels, stage {result_stage(summary)}"


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    flag_values = flags.FlagValues()
    flags.DEFINE_enum(
        "dataset", "mnist5k", [*sorted(DATASETS), _FOLDER], "whose training images are used", flag_values=flag_values
    )
    define_path(
        "data_dir",
        "",
        "folder of prepared TFDS data sets; of --dataset=folder the images, a folder a class",
        flag_values=flag_values,
    )
    flags.DEFINE_integer("num_labels", 100, "images with a label", lower_bound=2, flag_values=flag_values)
    flags.DEFINE_integer("num_unlabeled", 2000, "images without", lower_bound=0, flag_values=flag_values)
    flags.DEFINE_integer("num_test", 500, "images to test on", lower_bound=1, flag_values=flag_values)
    flags.DEFINE_enum("tested_on", _TRAIN, [_TRAIN, _TEST], "whose images are tested on", flag_values=flag_values)
    flags.DEFINE_float("minutes", 20.0, "that a run may take", 0.01, flag_values=flag_values)
    flags.DEFINE_bool("weights", True, "networks that come with weights may be chosen", flag_values=flag_values)
    flags.DEFINE_bool("compare", False, "scikit-learn's methods on the features of such a run, too", flag_values=flag_values)
    flags.DEFINE_list("seeds", "0", "what images are drawn, and the run's seed", flag_values=flag_values)
    define_path("output_dir", "runs/proposal_trial", "folder of images and runs", flag_values=flag_values)
    return run_with_flags(arguments, __doc__, flag_values, _run)


def _claim(trial: Trial) -> None:
    """Notes in the folder which trial it is; raises ValueError if it holds another one."""
    # Prepared sets are the same wherever they lie; a folder of images is itself what is tried.
    aside = {"folder"} if trial.dataset == _FOLDER else {"folder", "data_dir"}
    asked = {name: str(value) for name, value in dataclasses.asdict(trial).items() if name not in aside}
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
    counts = {
        name: flag_values[name].value
        for name in ("dataset", "num_labels", "num_unlabeled", "num_test", "tested_on", "minutes", "weights")
    }
    folder = Path(flag_values["output_dir"].value)
    if counts["dataset"] == _FOLDER and (not data_dir or counts["tested_on"] == _TEST):
        raise ValueError("--dataset=folder needs --data_dir=FOLDER, a folder a class, and --tested_on=train")
    trial = Trial(data_dir=Path(data_dir).expanduser().resolve() if data_dir else None, folder=folder, **counts)
    run_directory.check_writable(folder)
    _claim(trial)
    summaries: dict[int, dict[str, Any]] = {}
    others: dict[str, list[float]] = {}
    text = ""
    for seed in seeds:
        summaries[seed] = summary_of(trial, seed)
        if flag_values["compare"].value:
            for name, error in feature_baselines.errors_of(folder / f"seed{seed}-run", _true_classes(trial)).items():
                others.setdefault(name, []).append(error)
        text = table_text(trial, summaries, others)
        files.write_text(folder / TABLE_FILE, text)
    print(f"\n{text}\nThis stands in {folder / TABLE_FILE} too.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
