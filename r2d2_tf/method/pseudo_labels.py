"""The table of pseudo-logits: one row an image, learned by gradient descent, replaced by predictions."""

import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import tensorflow as tf

from r2d2_tf.data.image_data import UNLABELED
from r2d2_tf.method.row_measures import RowMeasures
from r2d2_tf.system import arrays

REFERENCE_BATCH = 512
"""The batch for which lambda is quoted: the authors average the loss over 512 images."""

_HOST = "/CPU:0"
_CHUNK_BYTES = 2**22
"""Of what is read or written at once: few, so that it stays in caches and that copies of it cost no memory worth mention."""
_IN_CHECKPOINT = "table"
_MARKED_MEMBER = f"{_IN_CHECKPOINT}/marked_classes"


class NotFinite(ArithmeticError):
    """A value that was to be saved is NaN or infinite; the message names it."""


class PseudoLabelTable:
    """Pseudo-logits of every training image, `[rows, classes]` float32, in host memory.

    A row with a given label holds `label_logit` * onehot and, unless `labeled_step` says otherwise, never moves. A soft label
    holds max(0, log p - log max p + `label_logit`), which of a onehot p is the same. The other rows start at zero, are
    written by `repredict` and learned by `descend`.

    The variable is a plain `tf.Variable`, to be made *outside* a strategy's scope: one copy a process
    serves every replica. All access goes through in-place resource operations; `tf.gather(variable)` or
    `variable.assign` would copy the whole table at each step.

    Args:
        labels: given class of each row, `[rows]`, `UNLABELED` (-1) where there is none.
        num_classes: width of a row.
        label_logit: K, the logit of the given class.
        probabilities: of soft labels, `[rows, classes]` float32; of the rows with a given label alone. None: labels are hard.

    Attributes:
        has_soft_labels: whether rows with a given label hold probabilities.
        labeled_step: share of eq. 7's step that a row with a given label takes in `descend`; 0: it is clamped. Set it before
            a step is traced.

    Raises:
        ValueError: if labels are not `[rows]` whole numbers, each -1 or in `[0, num_classes)`; or inside a strategy's scope.

    >>> table = PseudoLabelTable(np.array([2, UNLABELED]), num_classes=3)
    >>> rows = tf.constant([0, 1], tf.int64)
    >>> table.repredict(rows, tf.constant([[5.0, 0.0, 0.0], [0.0, 1.0, -1.0]]))  # The first is clamped.
    >>> table.gather(rows).numpy().tolist()
    [[0.0, 0.0, 10.0], [0.0, 1.0, -1.0]]
    """

    def __init__(
        self, labels: np.ndarray, num_classes: int, *, label_logit: float = 10.0, probabilities: np.ndarray | None = None
    ) -> None:
        if tf.distribute.has_strategy():
            raise ValueError(
                "a table of pseudo-labels is made outside the strategy's scope: one in a process serves all replicas"
            )
        self.labeled_step = 0.0
        self.has_soft_labels = probabilities is not None
        labels = _class_numbers(labels)
        wrong = (labels < UNLABELED) | (labels >= num_classes)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(f"row {row} has label {labels[row]}; labels run from 0 to {num_classes - 1}, or -1 for none")
        self.labels = labels
        self.num_rows = len(labels)
        self.num_classes = num_classes
        self.labeled_rows = np.flatnonzero(labels != UNLABELED)
        self.unlabeled_rows = np.flatnonzero(labels == UNLABELED)
        with tf.init_scope(), tf.device(_HOST):
            self.variable = tf.Variable(tf.zeros([self.num_rows, num_classes]), trainable=False, name="pseudo_logits")
            self._predicted_sums = tf.Variable(tf.zeros([self.num_rows]), trainable=False, name="predicted_sums")
            self._notes = tf.Variable(tf.zeros([self.num_rows, len(RowMeasures._fields)]), trainable=False, name="notes")
            self._given_labels = tf.constant(labels)
        self._marked: np.ndarray | None = None
        for rows in _chunks(self.labeled_rows, num_classes):
            if probabilities is not None:
                given = _clamped_logits(probabilities[rows], label_logit)
            else:
                given = np.zeros((len(rows), num_classes), np.float32)
                given[np.arange(len(rows)), labels[rows]] = label_logit
            _scatter_update(self.variable, tf.constant(rows), tf.constant(given))

    @property
    def nbytes(self) -> int:
        """Size of the table in bytes."""
        return self.num_rows * self.num_classes * 4

    def gather(self, rows: tf.Tensor) -> tf.Tensor:
        """The pseudo-logits of `rows` (`[batch]` int64), `[batch, classes]`."""
        with tf.device(_HOST):
            return tf.raw_ops.ResourceGather(resource=self.variable.handle, indices=rows, dtype=tf.float32)

    def given_labels(self, rows: tf.Tensor) -> tf.Tensor:
        """Given class of each of `rows`, `[batch]` int64; UNLABELED where there is none."""
        with tf.device(_HOST):
            return tf.gather(self._given_labels, rows)

    def is_labeled(self, rows: tf.Tensor) -> tf.Tensor:
        """Which of `rows` have a given label, `[batch]` bool."""
        with tf.device(_HOST):
            return self.given_labels(rows) != UNLABELED

    def descend(self, rows: tf.Tensor, gradient: tf.Tensor, pseudo_label_lr: float) -> None:
        """One step of gradient descent on the unlabeled ones of `rows` (eq. 7), and on the others if they are learned.

        row <- row - pseudo_label_lr / REFERENCE_BATCH * gradient

        Eq. 7 is printed without the 1 / 512 that the authors' averaged loss puts there. The gradient here
        is that of a row's own loss, not averaged, so the step depends neither on the batch nor on replicas.

        Args:
            rows: `[batch]` int64; no unlabeled row may come twice. A learned labeled row may: its steps add up.
            gradient: dL/d(pseudo-logits) of each row's own loss, `[batch, classes]`.
            pseudo_label_lr: the paper's lambda, quoted for a batch of 512.
        """
        step = pseudo_label_lr / REFERENCE_BATCH * gradient
        with tf.device(_HOST):
            # Subtracting an exact zero leaves a clamped row bit for bit; masking keeps the shapes static.
            of_labeled = self.labeled_step * step if self.labeled_step else tf.zeros_like(step)
            step = tf.where(self.is_labeled(rows)[:, None], of_labeled, step)
            tf.raw_ops.ResourceScatterSub(resource=self.variable.handle, indices=rows, updates=step)

    def argmax_changes(self, rows: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Of how many of `rows` a reprediction with `logits` will change the largest class, an int64 scalar."""
        with tf.device(_HOST):
            changes = tf.argmax(self.gather(rows), -1) != tf.argmax(logits, -1)
            return tf.math.count_nonzero(changes & ~self.is_labeled(rows))

    def repredict(self, rows: tf.Tensor, logits: tf.Tensor) -> None:
        """Replaces the unlabeled ones of `rows` by the network's logits.

        Args:
            rows: `[batch]` int64.
            logits: the network's, `[batch, classes]`, in evaluation mode on unaugmented images.
        """
        with tf.device(_HOST):
            new = tf.where(self.is_labeled(rows)[:, None], self.gather(rows), tf.cast(logits, tf.float32))
            _scatter_update(self.variable, rows, new)
            _scatter_update(self._predicted_sums, rows, tf.reduce_sum(new, -1))

    def note(self, rows: tf.Tensor, measures: tf.Tensor) -> None:
        """Keeps the RowMeasures of `rows`, stacked, until they are measured again."""
        with tf.device(_HOST):
            _scatter_update(self._notes, rows, measures)

    def notes(self, rows: np.ndarray) -> RowMeasures:
        """What was last measured of `rows`."""
        return RowMeasures.from_stacked(
            tf.raw_ops.ResourceGather(resource=self._notes.handle, indices=rows, dtype=tf.float32).numpy()
        )

    def predicted_sums(self, rows: np.ndarray) -> np.ndarray:
        """Sum of each of `rows` when it was last predicted, `[rows]`: eq. 12-13 say that learning keeps it."""
        return tf.raw_ops.ResourceGather(resource=self._predicted_sums.handle, indices=rows, dtype=tf.float32).numpy()

    def largest_classes(self, rows: np.ndarray) -> np.ndarray:
        """Largest class of each of `rows`, `[rows]` int32."""
        return np.concatenate([np.zeros(0, np.int32), *(logits.argmax(1).astype(np.int32) for _, logits in self.walk(rows))])

    def mark_classes(self) -> None:
        """Remembers, in checkpoints too, the largest class that each unlabeled row has now."""
        self._marked = self.largest_classes(self.unlabeled_rows)

    def share_changed(self) -> float | None:
        """Share (0..1) of the unlabeled rows whose largest class changed since `mark_classes`; None: it was never called."""
        if self._marked is None:
            return None
        changed = np.count_nonzero(self.largest_classes(self.unlabeled_rows) != self._marked)
        return changed / max(1, len(self.unlabeled_rows))

    def walk(self, rows: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields `(rows, pseudo_logits)` in chunks: reading the variable at once would copy all of it."""
        for chunk in _chunks(np.arange(self.num_rows) if rows is None else rows, self.num_classes):
            yield chunk, self.gather(tf.constant(chunk)).numpy()

    def save(self, path: Path, ids: Sequence[str]) -> None:
        """Writes `ids` `[rows]`, `given_labels` `[rows]` (-1: none) and `pseudo_logits` `[rows, classes]` as .npz.

        Chunk by chunk, as the table may be larger than what memory is left; `numpy.load` reads it.
        """
        with zipfile.ZipFile(path, "w") as archive:
            arrays.write_array(archive, "ids", np.array(ids, str))
            arrays.write_array(archive, "given_labels", self.labels)
            self._write_logits(archive, "pseudo_logits")

    def write(self, archive: zipfile.ZipFile) -> None:
        """Writes what `read` needs into a checkpoint.

        Raises:
            NotFinite: if a pseudo-logit is NaN or infinite.
        """
        self._write_logits(archive, f"{_IN_CHECKPOINT}/pseudo_logits")
        arrays.write_array(archive, f"{_IN_CHECKPOINT}/predicted_sums", self.predicted_sums(np.arange(self.num_rows)))
        if self._marked is not None:
            arrays.write_array(archive, _MARKED_MEMBER, self._marked)

    def read(self, archive: zipfile.ZipFile) -> None:
        """Takes over, chunk by chunk, what `write` wrote of a table of the same shape."""
        for name, variable in (("pseudo_logits", self.variable), ("predicted_sums", self._predicted_sums)):
            with archive.open(f"{_IN_CHECKPOINT}/{name}.npy") as file:
                shape = _read_header(file)
                if shape != tuple(variable.shape):
                    raise ValueError(f"the checkpoint holds {name} of shape {shape}, and this run's is {tuple(variable.shape)}")
                width = math.prod(shape[1:])
                for rows in _chunks(np.arange(self.num_rows), width):
                    values = np.frombuffer(file.read(4 * len(rows) * width), "<f4")
                    with tf.device(_HOST):
                        _scatter_update(variable, tf.constant(rows), tf.constant(values.reshape(len(rows), *shape[1:])))
        is_marked = f"{_MARKED_MEMBER}.npy" in archive.namelist()
        self._marked = arrays.read_array(archive, _MARKED_MEMBER) if is_marked else None

    def _write_logits(self, archive: zipfile.ZipFile, name: str) -> None:
        header = {"descr": "<f4", "fortran_order": False, "shape": (self.num_rows, self.num_classes)}
        with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for rows, logits in self.walk():
                if not np.isfinite(logits).all():
                    row = int(rows[~np.isfinite(logits).all(1)][0])
                    raise NotFinite(f"the row {row} of pseudo-logits")
                file.write(logits.astype("<f4", copy=False).data)


def _clamped_logits(probabilities: np.ndarray, label_logit: float) -> np.ndarray:
    """The rows of soft labels, `[rows, classes]` float32: no class is further below the likeliest than in a hard label."""
    log_p = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny, dtype=np.float32))
    return np.maximum(0, log_p - log_p.max(1, keepdims=True) + np.float32(label_logit))


def _read_header(file: IO[bytes]) -> tuple[int, ...]:
    np.lib.format.read_magic(file)
    return np.lib.format.read_array_header_1_0(file)[0]


def _scatter_update(variable: tf.Variable, rows: tf.Tensor, values: tf.Tensor) -> None:
    tf.raw_ops.ResourceScatterUpdate(resource=variable.handle, indices=rows, updates=values)


def _class_numbers(labels: object) -> np.ndarray:
    """Labels as int64."""
    given = np.asarray(labels)
    are_whole = given.dtype.kind in "biu" or (given.dtype.kind == "f" and not (given % 1).any())
    if given.ndim != 1 or not are_whole:
        raise ValueError(
            f"labels ({given.dtype}, {list(given.shape)}) must be numbers of classes, [rows], -1 for none: "
            "np.unique(names, return_inverse=True)[1] makes them of names, onehot.argmax(1) of rows with a column a class"
        )
    return given.astype(np.int64)


def _chunks(rows: np.ndarray, width: int) -> Iterator[np.ndarray]:
    """Parts of `rows` whose `width` float32 each make at most _CHUNK_BYTES."""
    size = max(1, _CHUNK_BYTES // (4 * width))
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
