"""Are two finished runs the same, bit for bit?"""

import csv
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from r2d2_tf.runs import run_directory
from r2d2_tf.system.startup import import_tensorflow_quietly

_SCALARS = ("loss", "test_error", "table_largest_probability")


def differences(one: Path, other: Path) -> list[str]:
    """Names of what differs between two finished runs in their folders, but for times; [] if they are the same."""
    ours, theirs = results_of(one), results_of(other)
    return sorted(name for name in ours | theirs if ours.get(name) != theirs.get(name))


def results_of(folder: Path) -> dict[str, Any]:
    """Everything that a finished run measured and learned, but for times: name -> exact value."""
    names = (
        run_directory.METRICS_FILE,
        run_directory.TABLE_FILE,
        run_directory.HISTORY_FILE,
        run_directory.TEST_PREDICTIONS_FILE,
        *run_directory.NETWORK_FILES.values(),
        run_directory.BACKBONE_FILE,
    )
    return {name: content_of(folder / name) for name in names if (folder / name).exists()} | {
        f"TensorBoard: {name}": events_of(folder, name) for name in _SCALARS
    }


def content_of(path: Path) -> Any:
    """What a run's file of rows (.csv, without seconds), arrays (.npz) or weights (.keras) holds, exactly."""
    if path.suffix == ".csv":
        with path.open() as file:
            return [{name: cell for name, cell in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name].tobytes() for name in archive.files}
    return _weights(path)


def _weights(path: Path) -> dict[str, bytes]:
    # Keras' loading would import TensorFlow, and the project's layers.
    import h5py

    weights = {}

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            weights[name] = item[()].tobytes()

    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as file, h5py.File(file) as tree:
        tree.visititems(add)
    return weights


def events_of(folder: Path, name: str) -> list[tuple[int, float]]:
    """The steps and values of a scalar in a run's TensorBoard events."""
    # TensorBoard imports TensorFlow.
    import_tensorflow_quietly()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, float(make_ndarray(event.tensor_proto))) for event in events.Tensors(name)]
