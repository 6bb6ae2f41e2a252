"""A folder in which a classifier was fitted: the images that it was given, the run, and what is known of both.

classifier.json   what of the classifier is not in the run
images.npz        the images that came as arrays; or
images/           links to the files that came as a list, and labels.csv
run/              the run, as `python -m r2d2_tf.train` leaves it
run-choice/       what was chosen for it, and why
log.txt           what was printed
"""

import dataclasses
import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax

from r2d2_tf.classifier.given_network import findable
from r2d2_tf.config.config import SHOWN, Config
from r2d2_tf.data.readers.file_search import FilesBelow, find_images
from r2d2_tf.data.readers.folder import own_images
from r2d2_tf.data.readers.npz import row_of
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.metrics_log import COLUMNS, read_metrics
from r2d2_tf.system import arrays, files, spreadsheets
from r2d2_tf.system.messages import mistake
from r2d2_tf.system.startup import import_tensorflow_quietly

if TYPE_CHECKING:
    import keras

ARRAYS_FILE, LINKS, LABELS_FILE = "images.npz", "images", "labels.csv"
RUN, LOG_FILE = "run", "log.txt"


class FittedFolder:
    """Such a folder.

    Args:
        folder: of it.
        temporary: remove it with this object.
    """

    def __init__(self, folder: Path, *, temporary: bool = False) -> None:
        self.folder = folder
        if temporary:
            weakref.finalize(self, _remove, folder, os.getpid())

    @classmethod
    def temporary(cls) -> "FittedFolder":
        """A new one, which is removed with the object."""
        return cls(Path(tempfile.mkdtemp(prefix="r2d2_tf-")), temporary=True)

    @classmethod
    def at(cls, run_dir: str | os.PathLike | None) -> "FittedFolder":
        """The one that a parameter names, made if need be; a temporary one of None.

        Raises:
            ValueError: if it is a file, or a folder of other things, some of which might be called as what is written there.
        """
        if run_dir is None:
            return cls.temporary()
        folder = Path(run_dir).expanduser().absolute()
        if folder.exists() and not folder.is_dir():
            raise mistake(f"run_dir ({folder}) is a file: give a folder")
        folder.mkdir(parents=True, exist_ok=True)
        is_own = any((folder / name).exists() for name in (LOG_FILE, RUN))
        if not is_own and any(not path.name.startswith(".") for path in folder.iterdir()):
            raise mistake(f"run_dir ({folder}) holds other files, and no classifier: give a new or an empty folder")
        (folder / LOG_FILE).touch()
        return cls(folder)

    @property
    def run_dir(self) -> Path:
        """Folder of the run."""
        return self.folder / RUN

    @cached_property
    def config(self) -> Config:
        """Of the run; its data are where they are now."""
        config = run_directory.load_config(self.run_dir)
        own = {"npz": self.folder / ARRAYS_FILE, "folder": self.folder / LINKS}[config.dataset]
        return dataclasses.replace(config, data_dir=str(own)) if own.exists() else config

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Of the run."""
        return run_directory.read_summary(self.run_dir)

    @cached_property
    def history(self) -> dict[str, list[float]]:
        """What was measured, a list of one number an epoch of all stages each; NaN where nothing was."""
        rows = read_metrics(self.run_dir / run_directory.METRICS_FILE)
        return {name: [row.get(name, np.nan) for row in rows] for name in COLUMNS if any(name in row for row in rows)}

    @cached_property
    def names(self) -> list[str]:
        """Of all files, relative to the folder of the images, sorted."""
        return find_images(Path(self.config.data_dir)).names

    @cached_property
    def _model(self) -> "keras.Model":
        import_tensorflow_quietly()
        import keras

        from r2d2_tf import backbones

        with findable(self.folder):
            network = backbones.load(self.run_dir / run_directory.BACKBONE_FILE, self.config.backbone)
        return keras.Sequential([network, keras.layers.Softmax(dtype="float32")])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of what the network sees."""
        height, width, channels = self._model.input_shape[1:]
        return height, width, channels

    def probabilities_of_pixels(self, images: np.ndarray) -> np.ndarray:
        """Of `[images, height, width, channels]` uint8: `[images, classes]` float32, the classes as the run has them."""
        return self._in_batches(self._model, images, len(images))

    def probabilities_of_files(self, paths: list[Path]) -> np.ndarray:
        """The same of files, each decoded and resized as in training.

        Raises:
            ValueError: for the first that cannot be decoded.
        """
        model, config = self._model, self.config
        from tensorflow.errors import OpError

        from r2d2_tf.data.datasets import resize_for
        from r2d2_tf.data.photographs import Photographs

        sizes = np.array([path.stat().st_size for path in paths], np.int64)
        images = Photographs(
            paths,
            np.arange(len(paths)),
            np.zeros(len(paths), np.int64),
            sizes,
            size=config.image_size,
            resize=resize_for(config.image_size, whole=config.whole_images),
            as_shown=config.image_view == SHOWN,
        )
        try:
            return self._in_batches(model, images, len(paths))
        except OpError as error:
            for row, path in enumerate(paths):
                try:
                    images.central(np.array([row]))
                except OpError:
                    raise mistake(f"{path} cannot be decoded: leave it out, or save it anew") from error
            raise mistake(f"the images cannot be predicted: {error}") from error

    def _in_batches(self, model: "keras.Model", images: Any, count: int) -> np.ndarray:
        from r2d2_tf.training.pipeline import prediction_batches

        batches = prediction_batches(images, np.arange(count), self.config.eval_batch_size)
        return np.concatenate([np.asarray(model.predict_on_batch(pixels)) for pixels, _ in batches])

    @property
    def has_table(self) -> bool:
        """Whether pseudo-labels were learned."""
        return (self.run_dir / run_directory.TABLE_FILE).is_file()

    def pseudo_labels(self) -> np.ndarray:
        """Probabilities of the learned table, `[images, classes]` float32, classes as the run has them.

        A given label is 1 for its class, but where rows of labeled images were learned, too, or labels were soft.

        Raises:
            AttributeError: if no table was learned.
        """
        if not self.has_table:
            raise AttributeError("there are no pseudo-labels: the network was trained on the labels alone")
        given = self._given_labels()
        table = arrays.read(self.run_dir / run_directory.TABLE_FILE, run_directory.TABLE_LAYOUT)
        ids, labels, logits = table["ids"], table["given_labels"], table["pseudo_logits"]
        probabilities = np.full((len(given), logits.shape[1]), np.nan, np.float32)
        probabilities[given >= 0] = np.eye(logits.shape[1], dtype=np.float32)[given[given >= 0]]
        moved = np.ones(len(ids), bool) if self.config.learn_labeled_rows or self.config.soft_labels else labels < 0
        probabilities[self._rows_of(ids)[moved]] = softmax(logits[moved], axis=1)
        return probabilities

    def _rows_of(self, ids: np.ndarray) -> np.ndarray:
        """The place of each id among the images."""
        if self.config.dataset == "npz":
            return np.array([row_of(name) for name in ids.tolist()], np.int64)
        place_of = {name: place for place, name in enumerate(self.names)}
        return np.array([place_of[name] for name in ids.tolist()], np.int64)

    def _given_labels(self) -> np.ndarray:
        """Of each image, `[images]`, -1 for none; test images that have names are among them."""
        if self.config.dataset == "npz":
            return arrays.read(self.folder / ARRAYS_FILE, {"labels": "i images"})["labels"]
        numbers = {name: number for number, name in enumerate(self.summary["class_names"])}
        lines = spreadsheets.read_columns(self.run_dir / run_directory.LABELS_FILE)
        label_of = {line["file"]: numbers[line["label"]] for line in lines}
        return np.array([label_of.get(name, -1) for name in self.names], np.int64)

    def copy_to(self, folder: Path) -> None:
        """Copies it, trials of recipes excepted."""
        for place in self._places():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.folder / place, folder / place, follow_symlinks=False)
        FittedFolder(folder)._settle()

    def packed(self) -> dict[str, bytes | str]:
        """The same as a value: name of a file in the folder -> its bytes, or where it leads to if it is a link."""
        paths = {place.as_posix(): self.folder / place for place in self._places()}
        return {name: os.readlink(path) if path.is_symlink() else path.read_bytes() for name, path in paths.items()}

    def _places(self) -> list[Path]:
        """Of all files and links, relative to the folder, but for trials of recipes."""
        found = (path for path in sorted(self.folder.rglob("*")) if path.is_symlink() or path.is_file())
        return [place for place in (path.relative_to(self.folder) for path in found) if not _is_trial(place)]

    @classmethod
    def unpacked(cls, packed: Mapping[str, bytes | str]) -> "FittedFolder":
        """What `packed` gave, in a temporary folder."""
        home = cls.temporary()
        for name, content in packed.items():
            path = home.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                path.symlink_to(content)
            else:
                path.write_bytes(content)
        home._settle()
        return home

    def _settle(self) -> None:
        """Writes where its images are now into the run's config, for commands that are typed."""
        if (self.run_dir / run_directory.CONFIG_FILE).is_file():
            files.write_text(self.run_dir / run_directory.CONFIG_FILE, self.config.to_flagfile())


def paths_below(folder: Path) -> list[Path]:
    """The images in a folder, sorted."""
    found = find_images(folder)
    return list(FilesBelow(found.root, found.names))


def classes_in(folder: Path) -> np.ndarray:
    """The class of each image that `paths_below` finds, by its folder, `[images]` of names, "" for none.

    Raises:
        ValueError: if the folders are no classes.
    """
    images = own_images(folder, None, 0.0, needs_test=False)
    return np.array([*images.class_names, ""])[images.labels]


def _is_trial(path: Path) -> bool:
    return path.parts[:1] == (f"{RUN}-choice",) and len(path.parts) > 2


def _remove(folder: Path, owner: int) -> None:
    # A process that was forked has the object, too.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
