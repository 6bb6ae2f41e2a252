"""`R2D2Classifier`: images and a few labels, in scikit-learn's manner."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from r2d2_tf.classifier import fitting, given_network, written_data
from r2d2_tf.classifier.child import run_command
from r2d2_tf.classifier.fitted import LOG_FILE, FittedFolder, classes_in, paths_below
from r2d2_tf.classifier.given_classes import known_in, names_of
from r2d2_tf.classifier.given_images import Pixels, files_in, folder_in, pixels_in
from r2d2_tf.classifier.quietness import kept_in, printed_into
from r2d2_tf.classifier.saved_state import SavedState
from r2d2_tf.system.messages import mistake

if TYPE_CHECKING:
    import keras


class R2D2Classifier(ClassifierMixin, BaseEstimator):
    """Classifies images, taught by few labels and many images without one.

    Does what `python -m r2d2_tf.train` does: trains on the labels, learns a pseudo-label for each unlabeled image (R2-D2), and
    trains on both. Where labels can be held out, they decide whether that helped.

        from r2d2_tf import R2D2Classifier

        classifier = R2D2Classifier().fit(images, labels)   # -1 in labels: the image has none
        classifier.predict(new_images)
        classifier.report("report.html")

    Args:
        backbone: the network. "auto": as the images are; else a name that `--backbone` takes, as "wrn_28_2" or
            "keras.applications:MobileNetV2", or a Keras model, which gives logits or features, sees images whose channels have
            mean 0 and deviation 1, and is not changed: a copy is trained.
        weights: what it begins with: "imagenet", "none" (at random), or a file; None: ImageNet's where they suit.
        flags: other flags of the command with their values, as `{"rounds": "20:0.03,20:0.01"}`. What they leave open is as a
            recipe for such images says.
        minutes: that recipes may be tried on held-out labels. None: 20 where images are files, and no trial of arrays, where
            they themselves decide. Of no effect where backbone, weights or flags say how to train.
        random_state: seed; the same data and seed give the same run. None: another each time.
        run_dir: a folder that keeps the run, which goes on there if it was interrupted. None: a temporary one, which is removed
            with the classifier.
        verbose: 0: nothing is printed; 1: what was chosen, and what it came to; 2: all that the command prints.

    Attributes:
        classes_: `[classes]`.
        history_: what was measured after each epoch of all stages, a list each: "stage", "loss", "test_error" and others.
        pseudo_labels_: what was learned of the images, `[images, classes]`, in the order of X; of a folder in that of `files_`.
            A given label is 1 for its class. Not there where the labels alone were trained on.
        files_: of a folder, the names of all images, in the order of `pseudo_labels_` and of predictions of that folder.
        run_dir_: folder of the run, for the commands of the project.
        summary_: what the run came to: errors on test images by stage, and more.
    """

    _fitted: FittedFolder
    _state: SavedState

    def __init__(
        self,
        *,
        backbone: "str | keras.Model" = fitting.AUTO,
        weights: str | None = None,
        flags: dict[str, Any] | None = None,
        minutes: float | None = None,
        random_state: int | np.random.RandomState | None = 0,
        run_dir: str | os.PathLike | None = None,
        verbose: int = 0,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.flags = flags
        self.minutes = minutes
        self.random_state = random_state
        self.run_dir = run_dir
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, *, X_test: Any = None, y_test: Any = None) -> "R2D2Classifier":
        """Trains; within one process, one classifier at a time.

        Args:
            X: images. An array `[images, height, width]` or `[images, height, width, 1 or 3]`: whole numbers of 0..255, or
                floats of 0..1 or 0..255. Or a list of files. Or a folder, with a folder a class in it and one named unlabeled.
            y: the class of each image, a number or a name; -1, None, NaN or "" where it has none. Of a folder None, or a file
                of labels as `--labels` takes.
            X_test: images on which the error is measured, as X. None: a fifth of the labels is set apart for that, and not
                trained on. Of a folder None: they are in it.
            y_test: their classes.

        Returns:
            itself.

        Raises:
            ValueError: in one line, for what does not fit together.
            RunStopped: if training diverges, or the predictions collapse into few classes.
        """
        wish = fitting.checked_wish(self.backbone, self.weights, self.flags, self.minutes, self.random_state)
        home = FittedFolder.at(self.run_dir)
        data = written_data.write(X, y, X_test, y_test, home.folder, afresh=bool(wish.flags.get("new_run")))
        with printed_into(None if self.verbose > 1 else home.folder / LOG_FILE), kept_in(home.folder if data.pixels else None):
            told = fitting.trained(data.flags, wish, home.run_dir)
        if self.verbose == 1:
            print("\n".join(told))
        if not home.summary["num_unlabeled"]:
            warnings.warn("y has no unlabeled image (-1): the network learned from the labels alone", UserWarning, stacklevel=2)
        self.classes_ = np.array(home.summary["class_names"]) if data.given is None else data.given.classes
        network = None if isinstance(self.backbone, str) else {"backbone": None}
        kept = {**self.get_params(deep=False), "random_state": wish.seed, "run_dir": None, **(network or {})}
        self._fitted, self._state = home, SavedState(kept, self.classes_, data.pixels, data.count)
        self._state.write(home.folder)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The class of each image, `[images]`; X as `fit` takes it."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of `classes_`, `[images, classes]` float32; X as `fit` takes it, of a folder in sorted order.

        Raises:
            ValueError: in one line, if X is of another kind or shape than what was fitted.
        """
        check_is_fitted(self)
        folder = folder_in(X)
        paths = files_in(X) if folder is None else paths_below(folder)
        if paths is not None:
            if self._state.pixels is not None:
                raise mistake("X is files, and fit had arrays of pixels: give an array of such images")
            return self._fitted.probabilities_of_files(paths)[:, self._columns]
        images, _ = pixels_in(X, self._state.pixels or Pixels(self._fitted.image_shape, None))
        return self._fitted.probabilities_of_pixels(images)[:, self._columns]

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Share of the images that are classified rightly; those without a label do not count.

        Args:
            X: images as `fit` takes them.
            y: their classes; None: the folder X says.
            sample_weight: of each image, `[images]`.

        Raises:
            ValueError: in one line, if no image has a label.
        """
        check_is_fitted(self)
        if y is None:
            if (folder := folder_in(X)) is None:
                raise mistake("y is None: give the class of each image; a folder alone says it itself")
            y = classes_in(folder)
        predicted = self.predict(X)
        values, has_class = known_in(y, len(predicted))
        if not has_class.any():
            raise mistake("y has no label, so that nothing can be right or wrong: label some images")
        check_consistent_length(predicted, sample_weight)
        weights = None if sample_weight is None else np.asarray(sample_weight)[has_class]
        return float(accuracy_score(values[has_class].tolist(), predicted[has_class].tolist(), sample_weight=weights))

    def report(self, path: str | os.PathLike) -> Path:
        """Writes a page on what was learned, to be opened in a browser: pseudo-labels, errors, doubtful images.

        Args:
            path: of the file.

        Returns:
            the path.

        Raises:
            ValueError: in one line, if the labels alone were trained on, or it cannot be written.
        """
        check_is_fitted(self)
        if not self._fitted.has_table:
            raise mistake("there is no report on pseudo-labels where the network learned from the labels alone")
        out = Path(path).expanduser().absolute()
        self._run_command("tools.report", f"--out={out}")
        return out

    def export(self, path: str | os.PathLike, format: str | Sequence[str] = "saved_model") -> Path:
        """Writes the network as models to serve, from uint8 images to probabilities.

        Args:
            path: of a folder for them, their metadata and a report.
            format: one or several of "saved_model", "tflite", "tflite_float16", "tflite_dynamic", "tflite_int8", "onnx".

        Returns:
            the path.

        Raises:
            ValueError: in one line, if there is no such format, or it cannot be written.
            RuntimeError: if a model does not compute what the network does.
        """
        check_is_fitted(self)
        out = Path(path).expanduser().absolute()
        formats = format if isinstance(format, str) else ",".join(format)
        self._run_command("export", f"--format={formats}", f"--output_dir={out}", "--latency_rounds=0")
        return out

    def save(self, path: str | os.PathLike) -> Path:
        """Writes the classifier, with its run and the arrays that it was fitted to, into a new folder for `load`.

        Of files and folders of images, only where they are is kept. Raises ValueError if there is something at the path.
        """
        check_is_fitted(self)
        folder = Path(path).expanduser().absolute()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise mistake(f"path ({folder}) is there already: give the name of a new folder")
        self._fitted.copy_to(folder)
        return folder

    @classmethod
    def load(cls, path: str | os.PathLike) -> "R2D2Classifier":
        """The classifier in a folder that `save` wrote, or that was its `run_dir`; the folder must stay there.

        Raises:
            ValueError: in one line, if there is none.
        """
        home = FittedFolder(Path(path).expanduser().absolute())
        state = SavedState.read(home.folder)
        classifier = cls(**state.parameters)
        if classifier.backbone is None:
            classifier.backbone = given_network.load(home.folder, home.config.backbone)
        classifier.classes_, classifier._fitted, classifier._state = state.classes, home, state
        return classifier

    @property
    def history_(self) -> dict[str, list[float]]:
        """What was measured after each epoch."""
        check_is_fitted(self)
        return self._fitted.history

    @property
    def summary_(self) -> dict[str, Any]:
        """What the run came to."""
        check_is_fitted(self)
        return self._fitted.summary

    @property
    def run_dir_(self) -> Path:
        """Folder of the run."""
        check_is_fitted(self)
        return self._fitted.run_dir

    @property
    def files_(self) -> list[str]:
        """Names of a folder's images, sorted."""
        check_is_fitted(self)
        if self._state.count is not None:
            raise AttributeError("files_ is of a classifier that was fitted to a folder: here X itself says the order")
        return self._fitted.names

    @property
    def pseudo_labels_(self) -> np.ndarray:
        """Probabilities that were learned, `[images, classes]` float32."""
        check_is_fitted(self)
        return self._fitted.pseudo_labels()[: self._state.count, self._columns]

    @property
    def _columns(self) -> list[int]:
        """Where the run has each of `classes_`."""
        names = self._fitted.summary["class_names"]
        return [names.index(name) for name in names_of(self.classes_)]

    def _run_command(self, module: str, *arguments: str) -> None:
        fitted = self._fitted
        where = f"--run_dir={fitted.run_dir}", f"--data_dir={fitted.config.data_dir}"
        run_command(module, [*where, *arguments], places=[fitted.folder], verbose=self.verbose > 1)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_fitted")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array, tags.input_tags.string = False, True, True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if (fitted := state.pop("_fitted", None)) is not None:
            state["_packed"] = fitted.packed()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        packed = state.pop("_packed", None)
        super().__setstate__(state)
        if packed is not None:
            self._fitted = FittedFolder.unpacked(packed)
