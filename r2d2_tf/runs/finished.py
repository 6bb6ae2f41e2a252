"""A finished run, as whoever looks at it finds it: folder, config, summary, and the images that it trained and tested on."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2d2_tf import backbones
from r2d2_tf.config.config import Config
from r2d2_tf.data.image_data import DatasetSpec, ImageData
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.runs.other_runs import stage_1_network
from r2d2_tf.runs.outcome.summary import result_stage
from r2d2_tf.system.startup import import_tensorflow_quietly

if TYPE_CHECKING:
    import keras


def load(path: str | Path) -> "keras.Model":
    """The network of a finished run: pixels 0..255, `[batch, height, width, channels]`, to logits, `[batch, classes]`.

        probabilities = keras.ops.softmax(r2d2_tf.load("runs/digits").predict(images))

    Args:
        path: folder of the run, for its result; or a file of Keras in it, such as `stage_1.keras`. No code in a file is run.
            Where the run's backbone is `module:function`, that module is imported.

    Raises:
        ValueError: in one line, if there is no network, the run is not finished, or the file is damaged or holds code.
    """
    path = Path(path).expanduser()
    import_tensorflow_quietly()
    if path.is_dir():
        folder, config, summary = named(str(path))
        return backbones.load(network_of(folder, config, summary), config.backbone)
    of_a_run = (path.parent / run_directory.CONFIG_FILE).is_file()
    return backbones.load(path, run_directory.load_config(path.parent).backbone if of_a_run else "")


def named(run_dir: str) -> tuple[Path, Config, dict[str, Any]]:
    """Folder, config and summary of the finished run that `--run_dir` names.

    Raises:
        ValueError: in one line, if it names none.
    """
    if not run_dir:
        raise ValueError("say which run: --run_dir=runs/NAME")
    folder = Path(run_dir).expanduser()
    return folder, run_directory.load_config(folder), run_directory.read_summary(folder)


def network_of(folder: Path, config: Config, summary: dict[str, Any], stage: int = 0) -> Path:
    """The file of the network that a finished run had after a stage; 0: of its result.

    Raises:
        ValueError: in one line, if the run has no such stage or its network is gone.
    """
    if stage in (0, result_stage(summary)):
        return folder / run_directory.BACKBONE_FILE
    if f"stage_{stage}" not in summary["test_error_percent"]:
        there = ", ".join(other.removeprefix("stage_") for other in summary["test_error_percent"])
        raise ValueError(f"stage ({stage}) is none of the run in {folder}, which has {there}: change --stage")
    path = stage_1_network(folder, config) if stage == 1 else folder / run_directory.ALL_NETWORK_FILES[stage]
    if not path.is_file():
        raise ValueError(f"the network after stage {stage} is gone, there is no {path}: leave --stage out, for the result")
    return path


def images_of(
    folder: Path, config: Config, summary: dict[str, Any], *, data_dir: str = "", as_evaluated: bool = False
) -> tuple[DatasetSpec, ImageData]:
    """The images of a finished run, without those that it left out, and what is known of them. Imports TensorFlow.

    Args:
        folder: of the run.
        config: of the run.
        summary: of the run.
        data_dir: where the data set lies, if not where the config says.
        as_evaluated: with what the run's `--evaluate_on` names in the place of the test images, which stay unseen then.

    Raises:
        ValueError: in one line, if they are no longer there, or are of other classes.
    """
    # Before the data: what reads TFDS sets imports TensorFlow.
    import_tensorflow_quietly()
    from r2d2_tf.data import health
    from r2d2_tf.runs import run_labels

    # What was learned is looked at, and classes of given labels; not their probabilities, which may be as large as the table.
    config = dataclasses.replace(config, data_dir=data_dir or config.data_dir, soft_labels=False)
    own_labels = folder / run_directory.LABELS_FILE
    if config.labels and not Path(config.labels).expanduser().exists() and own_labels.is_file():
        # It often lies beside photographs, which have moved; the run's own copy has all labels that it trained on.
        config = dataclasses.replace(config, labels=str(own_labels))
    spec = spec_of(config)
    data = run_labels.loaded(config, spec) if as_evaluated else spec.load(config.data_path)
    if list(data.class_names) != summary.get("class_names", list(data.class_names)):
        raise ValueError(
            f"the data set has the classes {', '.join(data.class_names)}, and the run in {folder} learned "
            f"{', '.join(summary['class_names'])}: give it the data that it was trained on"
        )
    skipped = run_labels.read_left_out(folder / run_directory.LEFT_OUT_FILE)
    return spec, health.checked(data, spec, skipped=skipped)[0]
