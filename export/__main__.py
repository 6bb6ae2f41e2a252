"""`python -m export --run_dir=RUN --format=tflite,onnx`: writes a finished run's network as models to serve.

A model takes uint8 images and returns probabilities. Each is held against the network on the run's test images; how large, how
near, how wrong and how fast it is stands in the table that is printed, and in report.md beside the models.
"""

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from r2d2_tf import backbones
from r2d2_tf.config import command_line
from r2d2_tf.config.command_line import described
from r2d2_tf.config.config import SHOWN, Config
from r2d2_tf.config.path_flags import define_data_dir, define_path
from r2d2_tf.data.image_data import ImageData
from r2d2_tf.runs import finished, run_directory
from r2d2_tf.runs.outcome.model_card import model_card
from r2d2_tf.runs.outcome.summary import result_stage
from r2d2_tf.system import files, provenance
from r2d2_tf.system.c_messages import without_warnings_about_images
from r2d2_tf.system.commands import command_of
from r2d2_tf.system.startup import import_tensorflow_quietly, output_held_back

if TYPE_CHECKING:
    from export.checking import Row
    from export.serving_model import ServingModel

FORMATS = ("saved_model", "tflite", "tflite_float16", "tflite_dynamic", "tflite_int8", "onnx")
"""The keys of formats.EXPORTERS, which needs TensorFlow; a test holds the two together."""
REPORT_FILE, CARD_FILE = "report.md", "MODEL_CARD.md"
MAX_CHECKED, MAX_PHOTOGRAPHS_CHECKED = 10_000, 1000
"""Most test images that an export is checked on."""
NUM_REPRESENTATIVE = 300
"""Training images by which 8-bit activations are scaled."""


@dataclass(frozen=True)
class Options:
    """What is asked for, beside the run. What is described is a flag."""

    formats: Sequence[str]
    folder: Path
    data_dir: str = ""
    model_version: int = described(1, "folder of the SavedModel; servers take the highest", lower_bound=1)
    threads: int = described(2, "threads that compute while models are timed", lower_bound=1)
    stage: int = described(
        0, "stage whose network is exported, into RUN_DIR/export_stage_N; 0: the result", lower_bound=0, upper_bound=3
    )
    latency_rounds: int = described(10, "turns in which each model is timed; 0: none is", lower_bound=0)


def define_flags() -> flags.FlagValues:
    flag_values = flags.FlagValues()
    define_path("run_dir", "", "folder of a finished run", flag_values=flag_values)
    define_data_dir(flag_values)
    flags.DEFINE_list("format", "saved_model", f"formats, separated by commas: {', '.join(FORMATS)}", flag_values=flag_values)
    define_path("output_dir", "", "where to write; by default RUN_DIR/export", flag_values=flag_values)
    command_line.define_flags(flag_values, Options)
    return flag_values


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    return command_line.run_with_flags(arguments, __doc__, define_flags(), _run)


@without_warnings_about_images()
def _run(flag_values: flags.FlagValues) -> int:
    formats = list(dict.fromkeys(flag_values["format"].value))
    wrong = [name for name in formats if name not in FORMATS]
    if wrong or not formats:
        raise ValueError(f"format ({', '.join(wrong)}) must be among {', '.join(FORMATS)}: change --format")
    run_dir, config, summary = finished.named(flag_values["run_dir"].value)
    stage = flag_values["stage"].value
    finished.network_of(run_dir, config, summary, stage)
    is_result = stage in (0, result_stage(summary))
    folder = Path(flag_values["output_dir"].value or run_dir / ("export" if is_result else f"export_stage_{stage}"))
    run_directory.check_writable(folder)
    others = {name: flag_values[name].value for name in ("data_dir", "model_version", "threads", "stage", "latency_rounds")}
    return export(run_dir, config, summary, Options(formats, folder, **others))


def export(run_dir: Path, config: Config, summary: dict[str, Any], options: Options) -> int:
    """Writes the formats, checks each, and returns the exit code: 1 if one differs from the network by more than it may."""
    import_tensorflow_quietly()
    from export import formats
    from export.metadata import write_beside

    _use_threads(options.threads)
    _, data = finished.images_of(run_dir, config, summary, data_dir=options.data_dir)
    network = finished.network_of(run_dir, config, summary, options.stage)
    model = _serving_model(network, config, data)
    metadata = write_beside(model, data, summary, options.folder)
    images, labels = _test_images(data)
    with formats.staging(options.folder) as unchecked:
        rows = _checked(model, network, Path(unchecked), images, labels, options)
        bad = [row for row in rows[1:] if not formats.EXPORTERS[row.name].allows(row.difference, row.agreement, row.worse)]
        for row in rows[1:]:
            if row not in bad:
                formats.place(row.name, Path(unchecked), options.folder, options.model_version)
    report = _report(rows, summary, labels, options)
    files.write_text(options.folder / REPORT_FILE, report)
    written = [
        (str(Path(row.where).relative_to(options.folder)), row.beside_the_network()) for row in rows[1:] if row not in bad
    ]
    files.write_text(options.folder / CARD_FILE, model_card(summary, config, metadata, written, options.stage))
    beside = f"This stands in {options.folder / REPORT_FILE} too; {CARD_FILE} beside it is for whoever is given a model."
    print(f"\n{report}\n{beside}\n{_next_steps(options)}")
    for row in bad:
        print(f"error: {row.name} differs from the network by more than it may: {row.where} was not written", file=sys.stderr)
    return 1 if bad else 0


def _checked(
    model: "ServingModel",
    network: Path,
    unchecked: Path,
    images: np.ndarray,
    labels: np.ndarray,
    options: Options,
) -> "list[Row]":
    """Writes all formats into the folder `unchecked`; the row of the network, and those of its exports beside it."""
    from export import checking, formats, inference

    expected = checking.in_batches(model.predict, images)
    size = checking.size_kib(network)
    rows = [checking.compared("network", network, size, actual=expected, expected=expected, labels=labels)]
    models: dict[str, checking.Predict] = {"network": model.predict}
    for name in options.formats:
        print(f"{name}: writing and checking it on {len(labels):,} test images", flush=True)
        path = formats.stage(name, model, unchecked)
        # LiteRT tells how it computes.
        with output_held_back():
            models[name] = inference.load(path, num_threads=options.threads).predict
        actual = checking.in_batches(models[name], images)
        where, size = formats.final_path(name, options.folder, options.model_version), checking.size_kib(path)
        rows.append(checking.compared(name, where, size, actual=actual, expected=expected, labels=labels))
    if options.latency_rounds:
        print("timing them in turn", flush=True)
        for count in sorted({1, min(checking.LARGE_BATCH, len(images))}):
            latency = checking.latencies(models, images[:count], options.latency_rounds)
            for row in rows:
                row.latency[count] = latency[row.name]
    return rows


def _use_threads(threads: int) -> None:
    import tensorflow as tf

    # Where it has started already, as within a test, it keeps the threads that it has.
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)


def _serving_model(network: Path, config: Config, data: ImageData) -> "ServingModel":
    from export.formats import representative_rows
    from export.serving_model import ServingModel, in_float32
    from r2d2_tf.data.photographs import Photographs
    from r2d2_tf.training.pipeline import plain_images

    chosen = representative_rows(len(data.train_images), count=NUM_REPRESENTATIVE, seed=config.seed)
    return ServingModel(
        in_float32(backbones.load(network, config.backbone)),
        data.class_names,
        np.asarray(plain_images(data.train_images)(chosen)),
        data.test_images.resize if isinstance(data.test_images, Photographs) else None,
        as_shown=config.image_view == SHOWN,
    )


def _test_images(data: ImageData) -> tuple[np.ndarray, np.ndarray]:
    """Images that are checked, as a network sees them, and their labels: all, or evenly spread ones."""
    from r2d2_tf.data.photographs import Photographs
    from r2d2_tf.training.pipeline import plain_images

    most = MAX_PHOTOGRAPHS_CHECKED if isinstance(data.test_images, Photographs) else MAX_CHECKED
    rows = np.unique(np.linspace(0, len(data.test_labels) - 1, most).astype(np.int64))
    return np.asarray(plain_images(data.test_images)(rows)), data.test_labels[rows]


def _report(rows: "list[Row]", summary: dict[str, Any], labels: np.ndarray, options: Options) -> str:
    """What is printed and written: Markdown."""
    from export import checking

    fake = "The images are FAKE DATA: the errors mean nothing.\n" if summary.get("fake_data") else ""
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions().items())
    sizes = sorted({size for row in rows for size in row.latency})
    timed = (
        f"Milliseconds: median (95th percentile) of a call with so many images, {options.threads} threads, the models in turn, "
        f"{options.latency_rounds} rounds.\n"
        if sizes
        else ""
    )
    is_quantized = any(row.name == "tflite_int8" for row in rows)
    words = "".join(f"{row}\n" for row in rows[1:] if row.agreement < 100)
    scales = f"8-bit scales come from {NUM_REPRESENTATIVE} training images at most.\n" * is_quantized
    stage = f", stage {options.stage}" * bool(options.stage)
    return (
        f"# Exports of {run_directory.title_of(summary)}{stage}\n\n{fake}{checking.table(rows, sizes)}\n\n"
        f"On {len(labels):,} test images. Difference: of a probability, to the network's. Agreement: images with the network's "
        f"most probable class.\n{words}{timed}{scales}"
        f"Run of {provenance.told_commit(summary['git_commit'])}; {provenance.machine()}; {versions}.\n"
    )


def _next_steps(options: Options) -> str:
    from export.formats import EXPORTERS

    model = options.folder / EXPORTERS[options.formats[0]].file_name
    commands = [command_of("export.inference", f"--model={model}", f"--images={options.folder / 'examples'}")]
    if "saved_model" in options.formats:
        folder = options.folder / EXPORTERS["saved_model"].file_name
        commands.append(command_of("export.serve", f"--model={folder}"))
    return "\n  ".join(["\nNext:", *commands])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
