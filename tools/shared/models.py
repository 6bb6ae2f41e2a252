"""Any export, or the folder of a finished run, as a model that classifies images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export import inference
from r2d2_tf import backbones
from r2d2_tf.config.config import SHOWN, STORED, Config
from r2d2_tf.data.datasets import resize_for
from r2d2_tf.runs import finished, run_directory
from r2d2_tf.runs.dataset import has_photographs, spec_of
from r2d2_tf.system.messages import one_line
from r2d2_tf.system.startup import import_tensorflow_quietly

FILE_ENDINGS = (".tflite", ".onnx")


@dataclass(frozen=True)
class Model:
    """A model that is loaded.

    Attributes:
        class_names: in the order of the probabilities; None if they are not known.
        resize_shorter_side: see inference.Metadata.
        as_shown: see inference.Metadata.
    """

    path: Path
    predictor: inference.Predictor
    class_names: tuple[str, ...] | None
    resize_shorter_side: int | None
    as_shown: bool = True

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Class probabilities `[images, classes]` of `[images, *image_shape]` uint8 pixels.

        Raises:
            ValueError: in one line, if the model fails, or gives another number of classes than there are names.
        """
        try:
            probabilities = self.predictor.predict(images)
        # Whatever TensorFlow, LiteRT and ONNX Runtime raise, where memory runs out for instance.
        except Exception as error:
            raise ValueError(
                one_line(f"{self.path} failed on a batch of {len(images)} images: fewer a batch may do ({error})")
            ) from error
        if self.class_names is not None and probabilities.shape[1] != len(self.class_names):
            given, named = probabilities.shape[1], len(self.class_names)
            raise ValueError(f"{self.path} gives {given} classes, and {named} are named beside it: export the run again")
        return probabilities

    def labels(self, num_classes: int) -> tuple[str, ...]:
        """Names of the classes, or their numbers."""
        return self.class_names or tuple(f"class {number}" for number in range(num_classes))


class NetworkPredictor:
    """Runs the network that a run saved, in the precision that it was trained in."""

    def __init__(self, path: Path, backbone: str) -> None:
        import keras

        network = backbones.load(path, backbone)
        self._model = keras.Sequential([network, keras.layers.Softmax(dtype="float32")])
        height, width, channels = network.input_shape[1:]
        self.image_shape = (height, width, channels)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """See inference.Predictor."""
        inference.check_images(images, self.image_shape)
        return np.asarray(self._model.predict_on_batch(images))


def is_run(path: Path) -> bool:
    """Whether `path` is the folder of a run, finished or not."""
    return (path / run_directory.CONFIG_FILE).is_file()


def run_of(path: Path) -> Path | None:
    """The run that a model is, or in whose folder `export` it lies; None if there is none."""
    own = (path, path.absolute().parent.parent, path.absolute().parent.parent.parent)
    return next((folder for folder in own if is_run(folder)), None)


def check(path: Path, stage: int = 0) -> None:
    """Looks whether there is a model, without importing what runs it; of a run the network of a stage, 0 for its result.

    Raises:
        ValueError: in one line, if there is none, or its run is not finished.
    """
    if is_run(path):
        finished.network_of(path, run_directory.load_config(path), run_directory.read_summary(path), stage)
        return
    if stage:
        raise ValueError(f"stage ({stage}) is one of a run, and {path} is not the folder of a run: leave --stage out")
    if _is_export(path):
        return
    entries = sorted(path.iterdir()) if path.is_dir() else []
    if inside := [entry for entry in entries if _is_export(entry)]:
        raise ValueError(f"{path} holds several models: give one of {', '.join(map(str, inside))}")
    allowed = "a .tflite or .onnx file, the folder of a SavedModel, or that of a finished run"
    raise ValueError(f"there is no model at {path}: give {allowed}")


def _is_export(path: Path) -> bool:
    return (path.suffix in FILE_ENDINGS and path.is_file()) or inference.saved_model_folder(path) is not None


def view_of(path: Path) -> str:
    """How a model that `check` let pass sees photographs: `--image_view`."""
    if is_run(path):
        return run_directory.load_config(path).image_view
    return SHOWN if inference.metadata(path).as_shown else STORED


def load(path: Path, stage: int = 0) -> Model:
    """Loads a model that `check` let pass.

    Raises:
        ValueError: in one line, if it cannot be loaded.
    """
    if is_run(path):
        config = run_directory.load_config(path)
        file = finished.network_of(path, config, run_directory.read_summary(path), stage)
        import_tensorflow_quietly()
        network = NetworkPredictor(file, config.backbone)
        resize = resize_for(network.image_shape[0], whole=config.whole_images) if has_photographs(config) else None
        return Model(path, network, _class_names_of_run(path, config), resize, config.image_view == SHOWN)
    metadata = inference.metadata(path)
    if path.is_dir():
        import_tensorflow_quietly()
    try:
        predictor = inference.load(path)
    # Whatever the runtimes make of bytes that are not theirs; or a runtime that is not installed.
    except Exception as error:
        raise ValueError(one_line(f"the model {path} cannot be loaded: {error}")) from error
    names = tuple(metadata.class_names) if metadata.class_names else None
    return Model(path, predictor, names, metadata.resize_shorter_side, metadata.as_shown)


def _class_names_of_run(folder: Path, config: Config) -> tuple[str, ...] | None:
    """From the run's export, which is soon read, or from its data set; None where neither is at hand."""
    exported = inference.metadata(folder / "export" / run_directory.BACKBONE_FILE).class_names
    if known := exported or run_directory.read_summary(folder).get("class_names"):
        return tuple(known)
    try:
        return spec_of(config).load(config.data_path).class_names
    except (ValueError, OSError):
        return None


def short_names(paths: Sequence[Path], run_dir: Path | None, stage: int = 0) -> list[str]:
    """A name for each model that can be the name of a folder: its file's, with a number before it where two are alike.

    The network of `run_dir` alone is called as its file is, by the stage that is asked for: that of another run has the name
    of that run's folder.
    """
    names = [_short_name(path, run_dir, stage) for path in paths]
    return [f"{number}_{name}" if names.count(name) > 1 else name for number, name in enumerate(names, start=1)]


def _short_name(path: Path, run_dir: Path | None, stage: int) -> str:
    path = path.resolve()
    if run_dir is not None and path == run_dir.resolve():
        return run_directory.ALL_NETWORK_FILES[stage] if stage else run_directory.BACKBONE_FILE
    return path.parent.name if path.is_dir() and path.name.isdigit() else path.name
