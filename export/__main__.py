"""`python -m export --run_dir=RUN --format=tflite`: writes a finished run's network as a model to serve.

The model takes uint8 images and returns probabilities. It is checked against the network on the run's test images.
"""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from r2d2_tf import backbones, files, run_directory
from r2d2_tf.command_line import parse_flags
from r2d2_tf.config import Config
from r2d2_tf.datasets import DATASETS
from r2d2_tf.startup import import_tensorflow_quietly

if TYPE_CHECKING:
    from r2d2_tf.photographs import Photographs

FORMATS = ("saved_model", "tflite")
"""The keys of formats.EXPORTERS, which needs TensorFlow; a test holds the two together."""
NUM_EXAMPLES = 10
MAX_CHECKED, MAX_PHOTOGRAPHS_CHECKED = 10_000, 1000
"""Most test images that an export is checked on."""
TOLERANCE = 1e-4
"""Largest difference of a probability that rounding may cause in float32."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    flag_values = flags.FlagValues()
    flags.DEFINE_string("run_dir", "", "folder of a finished run", flag_values=flag_values)
    flags.DEFINE_list("format", "saved_model", f"formats, separated by commas: {', '.join(FORMATS)}", flag_values=flag_values)
    flags.DEFINE_string("output_dir", "", "where to write; by default RUN_DIR/export", flag_values=flag_values)
    if "--help" in arguments:
        print(f"{__doc__}\n{flag_values.get_help()}")
        return 0
    try:
        parse_flags(flag_values, arguments)
        formats = flag_values["format"].value
        wrong = [name for name in formats if name not in FORMATS]
        if wrong or not formats:
            raise ValueError(f"format ({', '.join(wrong)}) must be among {', '.join(FORMATS)}: change --format")
        if not flag_values["run_dir"].value:
            raise ValueError("say which run to export: --run_dir=runs/NAME")
        run_dir = Path(flag_values["run_dir"].value)
        config = run_directory.load_config(run_dir)
        summary = run_directory.read_summary(run_dir)
        folder = Path(flag_values["output_dir"].value or run_dir / "export")
        run_directory.check_writable(folder)
        return export(run_dir, config, formats, folder, summary)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def export(run_dir: Path, config: Config, formats: Sequence[str], folder: Path, summary: dict[str, Any]) -> int:
    """Writes `formats` into `folder`, checks each, and returns the exit code: 1 if one differs from the network."""
    import_tensorflow_quietly()
    from export import inference
    from export.formats import EXPORTERS, serving_model
    from r2d2_tf.photographs import Photographs
    from r2d2_tf.pipeline import plain_images

    spec = DATASETS[config.dataset]
    data = spec.load(config.data_path)
    model = serving_model(backbones.load(run_dir / run_directory.BACKBONE_FILE))
    most = MAX_PHOTOGRAPHS_CHECKED if spec.photographs else MAX_CHECKED
    rows = np.unique(np.linspace(0, len(data.test_labels) - 1, most).astype(np.int64))
    images, labels = np.asarray(plain_images(data.test_images)(rows)), data.test_labels[rows]
    expected = model.predict(images, batch_size=config.eval_batch_size, verbose=0)
    folder.mkdir(parents=True, exist_ok=True)
    metadata: dict[str, object] = {
        "class_names": data.class_names,
        "image_shape": spec.image_shape,
        "input": "uint8 pixels",
        "run": run_directory.title_of(summary),
    }
    if isinstance(data.test_images, Photographs):
        metadata["resize_shorter_side"] = data.test_images.resize
    with files.written_whole(folder / inference.METADATA_FILE) as path:
        path.write_text(json.dumps(metadata, indent=2) + "\n")
    _write_examples(folder / "examples", data.test_images, data.test_labels)
    agreed = True
    for name in formats:
        file_name, write = EXPORTERS[name]
        write(model, folder / file_name)
        predictor = inference.load(folder / file_name)
        # A batch at a time: what a network computes for thousands of images at once may not fit into memory.
        parts = np.array_split(images, -(-len(images) // config.eval_batch_size))
        actual = np.concatenate([predictor.predict(part) for part in parts])
        agreed &= _report(name, folder / file_name, expected, actual, labels, is_fake=bool(summary.get("fake_data")))
    first = folder / EXPORTERS[formats[0]][0]
    python = shlex.quote(run_directory.shown(sys.executable))
    model_path, examples = (shlex.quote(str(path)) for path in (first, folder / "examples"))
    print(f"\nNext:\n  {python} -m export.inference --model={model_path} --images={examples}")
    return 0 if agreed else 1


def _report(name: str, path: Path, expected: np.ndarray, actual: np.ndarray, labels: np.ndarray, *, is_fake: bool) -> bool:
    difference = float(np.abs(actual - expected).max())
    agreement = 100 * np.mean(actual.argmax(1) == expected.argmax(1))
    error = 100 * np.mean(actual.argmax(1) != labels)
    fake = " (FAKE DATA: it means nothing)" if is_fake else ""
    print(
        f"{name}: {path} ({_size(path) / 2**10:,.0f} KiB), on {len(labels):,} test images: largest difference to the "
        f"network {difference:.1e}, top-1 agreement {agreement:.2f} %, error {error:.2f} %{fake}"
    )
    agrees = difference <= TOLERANCE  # False for NaN.
    if not agrees:
        print(f"error: {name} differs from the network by more than rounding ({TOLERANCE:.0e}): do not use it", file=sys.stderr)
    return agrees


def _size(path: Path) -> int:
    return sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) if path.is_dir() else path.stat().st_size


def _write_examples(folder: Path, images: "np.ndarray | Photographs", labels: np.ndarray) -> None:
    """Writes one test image of each of the first classes, its true class in its name: a photograph as it is, else as PNG."""
    from PIL import Image

    folder.mkdir(exist_ok=True)
    for number in np.unique(labels)[:NUM_EXAMPLES]:
        index = int(np.flatnonzero(labels == number)[0])
        if not isinstance(images, np.ndarray):
            (folder / f"true_class_{number}.jpg").write_bytes(images.read(index))
            continue
        pixels = images[index]
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(folder / f"true_class_{number}.png")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
