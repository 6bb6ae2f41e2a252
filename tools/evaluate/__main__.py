"""`python -m tools.evaluate --run_dir=RUN [--model=EXPORT,...] [--split=test | --images=SORTED]`: how wrong, does it know?

Judges the network of a finished run, or the models that `--model` names (.tflite, .onnx, the folder of a SavedModel, the folder
of another run), on the data set of the run: its test images; with `--split=labeled` and `--split=unlabeled` what it was
trained on; with `--images=SORTED` on images that were sorted later, a folder a class, seen as the run saw its own.
Without a run the data set is that of the training flags: `--model=EXPORT --dataset=cifar10 --data_dir=DIR`, or a
`--flagfile`. Images go through the models a batch at a time (`--eval_batch_size`).

Prints error (95 % interval by Wilson), top-5 error, balanced error, negative log-likelihood, Brier score, calibration error,
and errors by class. Writes for each model, into RUN/evaluation/MODEL or OUTPUT_DIR/MODEL: evaluation.json, confusion.csv (true
classes down, predicted ones across), evaluation.png, and predictions.npz, by which tools.compare holds two runs against each
other.
"""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

from r2d2_tf.config.command_line import define_flags, from_flags, parse_flags, run_program
from r2d2_tf.config.config import Config
from r2d2_tf.config.flag_help import flags_text
from r2d2_tf.config.path_flags import define_path, define_paths
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.outcome.summary import result_stage, words_of_summary
from r2d2_tf.system import files, provenance, spreadsheets
from r2d2_tf.system.c_messages import without_warnings_about_images
from r2d2_tf.system.commands import command_of
from r2d2_tf.system.messages import warn
from tools.evaluate import evaluation_images, evaluation_picture, evaluation_text
from tools.evaluate.evaluation_images import SPLITS, EvaluationImages
from tools.evaluate.evaluation_text import Subject
from tools.shared import classification_metrics, models
from tools.shared.arguments import define_stage
from tools.shared.classification_metrics import ClassificationMetrics, MetricsAccumulator
from tools.shared.models import Model
from tools.shared.run_records import EVALUATION_FOLDER, PREDICTIONS_FILE

REPORT_FILE, CONFUSION_FILE, PICTURE_FILE = "evaluation.json", "confusion.csv", "evaluation.png"

OTHER_ERROR = 0.1
"""Percentage points by which a network's error may differ from what its run measured: an image at a tie, another machine."""


@dataclasses.dataclass(frozen=True)
class Task:
    """What is to be judged on what; `run_dir` is None where flags alone name the data set, `images` where a split is meant."""

    config: Config
    run_dir: Path | None
    summary: dict[str, Any]
    model_paths: tuple[Path, ...]
    split: str
    folder: Path
    stage: int
    images: Path | None

    @property
    def where(self) -> str:
        """The images in a word, for names of files: of the test images none."""
        return self.images.resolve().name if self.images else "" if self.split == "test" else self.split


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    own, flag_values = flags.FlagValues(), flags.FlagValues()
    for values in (own, flag_values):
        define_paths("model", "", "models, separated by commas; by default the run's network", flag_values=values)
        flags.DEFINE_string("split", "test", f"images to judge on: {', '.join(SPLITS)}", flag_values=values)
        define_path("images", "", "a folder of sorted images to judge a run on, a folder a class", flag_values=values)
        define_path("output_dir", "", "where to write; by default RUN_DIR/evaluation", flag_values=values)
        define_stage(values)
    define_flags(flag_values)
    help_text = (
        f"{__doc__}\n\n{flags_text(own)}\n\nAnd the flags of r2d2_tf.train: --run_dir, --data_dir, --dataset, --seed ..."
    )
    return run_program(arguments, help_text, lambda: _run(flag_values, arguments))


@without_warnings_about_images()
def _run(flag_values: flags.FlagValues, arguments: Sequence[str]) -> int:
    parse_flags(flag_values, arguments)
    task = _task(flag_values)
    if task.images is not None:
        images = evaluation_images.of_folder(task.config, task.images, task.summary["class_names"])
    else:
        images = evaluation_images.load(task.config, task.split, task.run_dir)
    all_metrics = measure(_loaded(task, images), images, task.config.eval_batch_size)
    _tell(task, images, all_metrics)
    return 0


def _task(flag_values: flags.FlagValues) -> Task:
    """What the flags ask for, checked as far as that needs neither data nor TensorFlow."""
    config, split = from_flags(flag_values), flag_values["split"].value
    if split not in SPLITS:
        raise ValueError(f"split ({split}) must be among {', '.join(SPLITS)}: change --split")
    run_dir = Path(config.run_dir).expanduser() if config.run_dir else None
    sorted_later = Path(flag_values["images"].value) if flag_values["images"].value else None
    if sorted_later is not None and (run_dir is None or flag_values["split"].present):
        raise ValueError("images are judged as a run sees its own, in place of a split: give --run_dir, and leave --split out")
    model_paths = tuple(Path(name) for name in flag_values["model"].value) or ((run_dir,) if run_dir else ())
    if not model_paths:
        raise ValueError("say what to judge: --run_dir=RUN, or --model=EXPORT and --dataset=NAME")
    summary: dict[str, Any] = {}
    if run_dir is not None:
        of_run, summary = run_directory.load_config(run_dir), run_directory.read_summary(run_dir)
        if flag_values["dataset"].present and config.dataset != of_run.dataset:
            raise ValueError(
                f"dataset ({config.dataset}) is not that of the run, {of_run.dataset}: leave --dataset or --run_dir out"
            )
        given = {name: getattr(config, name) for name in ("data_dir", "eval_batch_size") if flag_values[name].present}
        config = dataclasses.replace(of_run, **given)
    stage = flag_values["stage"].value
    for path in model_paths:
        models.check(path, stage)
    if run_dir is None and config.may_have_photographs and not flag_values["image_view"].present:
        views = sorted({models.view_of(path) for path in model_paths})
        if len(views) > 1:
            raise ValueError(f"the models see photographs in different ways ({', '.join(views)}): judge them one by one")
        config = dataclasses.replace(config, image_view=views[0])
    folder = Path(flag_values["output_dir"].value or ((run_dir or Path()) / EVALUATION_FOLDER))
    run_directory.check_writable(folder)
    return Task(config, run_dir, summary, model_paths, split, folder, stage, sorted_later)


def _loaded(task: Task, images: EvaluationImages) -> list[Model]:
    """The models.

    Raises:
        ValueError: if one cannot be loaded, or takes other images or names other classes than the data set.
    """
    loaded = [models.load(path, task.stage) for path in task.model_paths]
    for model in loaded:
        if model.predictor.image_shape != images.image_shape:
            raise ValueError(
                f"{model.path} takes images of shape {model.predictor.image_shape}, and those of {task.config.dataset} have "
                f"{images.image_shape}: it is of another data set"
            )
        if model.class_names is not None and model.class_names != images.class_names:
            raise ValueError(f"{model.path} has other classes than {task.config.dataset}: it is of another data set")
    return loaded


def measure(loaded: Sequence[Model], images: EvaluationImages, batch_size: int) -> list[ClassificationMetrics]:
    """Shows all images to each model, a batch at a time, so that they are decoded once.

    Raises:
        ValueError: if a model fails, or gives another number of classes or numbers that are no probabilities.
    """
    accumulators = [MetricsAccumulator(len(images.class_names)) for _ in loaded]
    with tqdm(total=len(images.rows), unit="image", leave=False, disable=None) as bar:
        for pixels, labels in images.batches(batch_size):
            for model, accumulator in zip(loaded, accumulators, strict=True):
                probabilities = model.probabilities(pixels)
                if probabilities.shape[1] != accumulator.num_classes:
                    raise ValueError(
                        f"{model.path} gives {probabilities.shape[1]} classes in place of {accumulator.num_classes}"
                    )
                try:
                    accumulator.add(probabilities, labels)
                except ValueError as error:
                    raise ValueError(f"{model.path} cannot be evaluated: {error}") from error
            bar.update(len(labels))
    return [accumulator.result() for accumulator in accumulators]


def _tell(task: Task, images: EvaluationImages, all_metrics: Sequence[ClassificationMetrics]) -> None:
    """Writes the files and prints what was found."""
    fake = images.is_fake or bool(task.summary.get("fake_data"))
    where = run_directory.title_of(task.summary) if task.summary else task.config.dataset
    what = f"images of {task.images}" if task.images else SPLITS[task.split]
    subject = Subject(where, f"{len(images.rows):,} {what}", images.class_names, fake)
    names = models.short_names(task.model_paths, task.run_dir, task.stage)
    folders = [task.folder / (f"{name}_{task.where}" if task.where else name) for name in names]
    for folder, name, path, metrics in zip(folders, names, task.model_paths, all_metrics, strict=True):
        _write(folder, _as_json(task, path, subject, metrics), metrics, subject, name)
    print(evaluation_text.report(subject, dict(zip(names, all_metrics, strict=True))))
    for path, metrics in zip(task.model_paths, all_metrics, strict=True):
        if task.run_dir and path.resolve() == task.run_dir.resolve() and not task.where:
            print("\n" + "\n".join(words_of_summary(task.summary)))
            _hold_against_the_run(task, metrics)
    print()
    for folder in folders:
        print(f"written to {folder}: {REPORT_FILE}, {CONFUSION_FILE}, {PICTURE_FILE}, {PREDICTIONS_FILE}")
    if task.run_dir is not None:
        command = command_of("tools.compare", str(task.run_dir), "OTHER_RUN", "...")
        print(f"\nNext, beside other runs:\n  {command}")


def _hold_against_the_run(task: Task, metrics: ClassificationMetrics) -> None:
    """Warns if the network is not as wrong as its run found it: other images, or another network."""
    stage, count = task.stage or result_stage(task.summary), task.summary.get("num_test")
    measured = task.summary["test_error_percent"][f"stage_{stage}"]
    if count is not None and count != len(metrics.labels):
        warn(f"the run was tested on {count:,} images, and these are {len(metrics.labels):,}: another copy of the data set")
    elif abs(measured - metrics.error) > OTHER_ERROR:
        warn(f"the run measured an error of {measured:.2f} %, and here it is {metrics.error:.2f} %: are the images the same?")


def _as_json(task: Task, path: Path, subject: Subject, metrics: ClassificationMetrics) -> dict[str, Any]:
    errors, found = metrics.class_errors, metrics.reliability
    classes = zip(subject.class_names, metrics.confusion.sum(1), errors, strict=True)
    return {
        "model": str(path),
        "run": run_directory.title_of(task.summary) if task.summary else None,
        "dataset": task.config.dataset,
        "split": task.where or task.split,
        "fake_data": subject.is_fake,
        "images": len(metrics.labels),
        "error_percent": metrics.error,
        "error_percent_95_interval": metrics.error_interval,
        "top5_error_percent": metrics.top5_error,
        "balanced_error_percent": metrics.balanced_error,
        "negative_log_likelihood_nats": metrics.nll,
        "images_given_no_probability": metrics.impossible,
        "brier_score_0_to_2": metrics.brier,
        "expected_calibration_error_percent": metrics.calibration_error,
        "calibration_bins": classification_metrics.NUM_BINS,
        "reliability": {
            "upper_edges": found.edges[1:].tolist(),
            "images": found.counts.tolist(),
            "mean_confidence": [None if np.isnan(value) else float(value) for value in found.confidence],
            "accuracy": [None if np.isnan(value) else float(value) for value in found.accuracy],
        },
        "classes": [
            {"name": name, "images": int(count), "error_percent": None if np.isnan(error) else float(error)}
            for name, count, error in classes
        ],
        "git_commit": provenance.git_commit(),
        "versions": provenance.versions(),
    }


def _write(folder: Path, report: dict[str, Any], metrics: ClassificationMetrics, subject: Subject, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / REPORT_FILE, json.dumps(report, indent=2, allow_nan=False) + "\n")
    counts = zip(subject.class_names, metrics.confusion.tolist(), strict=True)
    spreadsheets.write(folder / CONFUSION_FILE, [["true class", *subject.class_names], *([own, *row] for own, row in counts)])
    with files.written_whole(folder / PREDICTIONS_FILE) as path:
        arrays = {"labels": metrics.labels, "predicted": metrics.predicted, "confidence": metrics.confidence}
        np.savez(path, allow_pickle=False, **arrays)
    title = f"{subject.title}: {name}, {subject.images}"
    evaluation_picture.draw(metrics, subject.class_names, title, folder / PICTURE_FILE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
