"""Mistakes that train on rubbish without a word, told in a line: of what a model is made of, and of batches."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from r2d2_tf.data.image_data import UNLABELED
from r2d2_tf.method.losses import CLASS_LOSSES, ClassLoss
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from r2d2_tf.system.messages import mistake

CHECKED_STEPS = 50
"""After an optimizer is new, in which batches are looked at: later ones cost nothing."""
_IMAGES_A_CLASS = 4
"""That must have been seen before rows are taken for classes: a few views of the first images are none."""
_FEWEST_PREDICTIONS = 8
HOW_TO_SAVE = (
    "an R2D2Model is not saved in one file: save its network and its pseudo-labels, by model.backbone.save('network.keras') "
    "and model.table.save('pseudo_labels.npz', ids)"
)
_PROBABILITIES = ("softmax", "sigmoid")
_CLASS = "not a class:"
Model: TypeAlias = Any
"""An R2D2Model, whose module imports this one."""


def class_loss_of(class_loss: ClassLoss | str) -> ClassLoss:
    """The class loss itself; ValueError for a name that is none."""
    if callable(class_loss):
        return class_loss
    if not isinstance(class_loss, str) or class_loss not in CLASS_LOSSES:
        names = ", ".join(CLASS_LOSSES)
        raise mistake(f"class_loss ({class_loss!r}) must be {names}, or a function of (log_p, log_pseudo_p)")
    return CLASS_LOSSES[class_loss]


def one_an_image(class_loss: tf.Tensor) -> tf.Tensor:
    """What a class loss has given, `[batch]`; ValueError for another shape, such as the mean that a Keras loss gives."""
    if tf.convert_to_tensor(class_loss).shape.rank not in (1, None):
        raise mistake(
            f"class_loss gives the shape {class_loss.shape}: it must give one number an image, [batch], of (log_p, "
            "log_pseudo_p), [batch, classes] each"
        )
    return class_loss


def check_parts(backbone: keras.Model, table: PseudoLabelTable) -> None:
    """Raises ValueError, in one line, if network and table do not make a model."""
    if not isinstance(table, PseudoLabelTable):
        raise mistake(f"table is of type {type(table).__name__}: make one of the labels, PseudoLabelTable(labels, num_classes)")
    if not backbone.built:
        raise mistake(
            f"the network {backbone.name!r} has no weights yet: begin it with keras.Input, or call it on a batch of images"
        )
    try:
        shape = backbone.output_shape
    except AttributeError:
        # Of a class of one's own: told when the first batch comes.
        return
    check_logits(shape, table.num_classes)
    if activation := _last_activation(backbone):
        raise mistake(
            f"the network {backbone.name!r} ends in a {activation}, so it gives probabilities: leave the activation out of its "
            "last layer, as the model takes logits"
        )


def check_compiled(loss: Any, metrics: Any, jit_compile: bool | str) -> None:
    """Raises ValueError for what R2D2Model's `compile` does not take."""
    if loss is not None or metrics is not None:
        raise ValueError("compile takes an optimizer alone: the model has its own loss, class_loss, and measures by itself")
    if jit_compile is True:
        raise ValueError("jit_compile=True would put the table's operations, which run on the host, into XLA: leave it out")


def check_logits(shape: Any, num_classes: int) -> None:
    """Raises ValueError unless `shape` is `[batch, num_classes]`, as far as it is known."""
    if isinstance(shape, tf.TensorShape):
        shape = tuple(shape) if shape.rank is not None else (None, num_classes)
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[1] not in (None, num_classes):
        raise mistake(
            f"the network's output is {shape}, and the table's rows have {num_classes} classes: make it (None, {num_classes})"
        )


def _last_activation(network: keras.Model) -> str:
    """The activation at a network's end, if it makes probabilities, else ""."""
    for layer in reversed(network.layers):
        if isinstance(layer, keras.Model):
            return _last_activation(layer)
        name = (
            "softmax"
            if isinstance(layer, keras.layers.Softmax)
            else getattr(getattr(layer, "activation", None), "__name__", "")
        )
        if name in _PROBABILITIES:
            return name
        if name != "linear" or layer.weights:
            return ""
    return ""


def images_and_rows(batch: Any, num_rows: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The images and rows, `[batch]` int32 or int64, of what `fit` has taken from its data.

    Raises:
        ValueError: if that is something else, as far as shapes and types show.
    """
    # train_on_batch has a None for weights of images.
    batch = tuple(part for part in batch if part is not None) if isinstance(batch, tuple) else batch
    if not isinstance(batch, tuple) or len(batch) != 2:
        parts = batch if isinstance(batch, tuple) else (batch,)
        found = " and ".join(str(getattr(part, "shape", type(part).__name__)) for part in parts)
        raise mistake(f"fit takes batches of images and the number of each one's row, (images, rows); it was given {found}")
    images, rows = batch[0], tf.convert_to_tensor(batch[1])
    if not rows.dtype.is_integer or (rows.shape.rank is not None and rows.shape.rank != 1) or rows.dtype.max < num_rows - 1:
        raise mistake(
            f"rows are {rows.dtype.name} of shape {rows.shape}, and must be int64 of shape [batch], 0 to {num_rows - 1}: the "
            "number of each image's row in the table, not its class"
        )
    return images, rows if rows.dtype in (tf.int32, tf.int64) else tf.cast(rows, tf.int64)


def classes_in_range(classes: tf.Tensor, num_classes: int) -> tf.Tensor:
    """The true classes of an evaluation, `[batch]`; what uses them stops if one is none."""
    with tf.device("/CPU:0"):
        least, largest = tf.reduce_min(classes), tf.reduce_max(classes)
        wrong = tf.where(least < UNLABELED, least, largest)
        is_right = (least >= UNLABELED) & (largest < num_classes)
        check = tf.debugging.Assert(is_right, [tf.strings.join([_CLASS, tf.strings.as_string(wrong)], " ")])
        with tf.control_dependencies([check]):
            return tf.identity(classes)


class FirstBatches:
    """Looks at the numbers of a `fit`'s first batches, for what shapes do not show.

    Args:
        table: of the model.
        rows_descend: whether rows are updated as the model's own update does; what a subclass makes of them is its own.
    """

    def __init__(self, table: PseudoLabelTable, *, rows_descend: bool) -> None:
        self._table, self._rows_descend = table, rows_descend
        self.begin({}, has_stage=True)

    def begin(self, options: dict[str, Any], *, has_stage: bool) -> None:
        """Forgets what was seen, as another `fit` begins, with these options; ValueError if one would train on rubbish."""
        if not has_stage:
            raise ValueError("no stage is set: model.set_stage(use_unlabeled=..., learn_pseudo_labels=..., optimizer=...)")
        if options.get("validation_split"):
            raise ValueError("validation_split would take row numbers for classes: give validation_data=(images, classes)")
        self._mistake = ""
        self._images = self._like_probabilities = 0
        self._largest, self._repeats, self._all_labeled = -1, False, True

    def look(self, model: Model, logits: tf.Tensor, rows: tf.Tensor, pseudo_logits: tf.Tensor) -> tf.Tensor:
        """The logits of a batch; what uses them stops if they, or the batch's rows, are found to be something else.

        Args:
            model: whose step it is.
            logits: `[batch, classes]`.
            rows: `[batch]`.
            pseudo_logits: of the rows, `[batch, classes]`.
        """
        # With both switches off an empty row would be a label, of class 0.
        are_labels = self._rows_descend and not (model.use_unlabeled or model.learn_pseudo_labels)
        empty = tf.reduce_all(pseudo_logits == 0, -1) if are_labels else tf.zeros_like(rows, tf.bool)
        values = tf.stop_gradient(logits), rows, empty

        def looked() -> tf.Tensor:
            return tf.numpy_function(self._look, values, tf.bool)

        check = tf.cond(model.optimizer.iterations < CHECKED_STEPS, looked, lambda: tf.constant(True))
        with tf.control_dependencies([check]):
            return tf.identity(logits)

    def _look(self, logits: np.ndarray, rows: np.ndarray, empty: np.ndarray) -> np.bool_:
        self._mistake = self._mistake or self._found(logits, rows) or self._untaught(rows[empty])
        if self._mistake:
            raise ValueError(self._mistake)
        return np.True_

    def _found(self, logits: np.ndarray, rows: np.ndarray) -> str:
        if not len(rows):
            return ""
        table = self._table
        if (outside := rows[(rows < 0) | (rows >= table.num_rows)]).size:
            # The step's own error may come first, or after this.
            return self._no_row(outside[0])
        self._images += len(rows)
        self._like_probabilities += int(((logits >= 0).all(1) & (np.abs(logits.sum(1) - 1) < 1e-3)).sum())
        self._largest = max(self._largest, int(rows.max()))
        self._repeats |= len(np.unique(rows)) < len(rows)
        self._all_labeled &= bool((table.labels[rows] >= 0).all())
        if self._like_probabilities == self._images >= _FEWEST_PREDICTIONS and table.num_classes > 1:
            return "the network's outputs are probabilities, they add up to 1: leave out its softmax, as the model takes logits"
        # A label a class, and the labeled images come first.
        only_labeled = self._all_labeled and table.labeled_rows.max(initial=-1) < table.num_classes
        enough = self._images >= _IMAGES_A_CLASS * table.num_classes
        if self._largest < table.num_classes < table.num_rows and self._repeats and enough and not only_labeled:
            return (
                f"the first {self._images} images have rows 0 to {self._largest} alone, again and again, as classes would be: "
                "give fit the number of each image's row in the table, as in fit(images, np.arange(len(images))); if it is "
                "that, shuffle them, or set model.checks_batches = False"
            )
        return ""

    @staticmethod
    def _untaught(rows: np.ndarray) -> str:
        if not rows.size:
            return ""
        return (
            f"row {rows[0]} has no label and no prediction yet, and would be learned as class 0: give fit "
            "table.labeled_rows and their images alone, or begin stage 2, as by model.set_stage(use_unlabeled=True, ...)"
        )

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """What the block's steps found wrong with rows, classes or logits is a ValueError, in one line."""
        try:
            yield
        except tf.errors.OpError as error:
            why, self._mistake = self._mistake or self._out_of_range(str(error)), ""
            if why:
                raise mistake(why) from None
            raise

    def _out_of_range(self, text: str) -> str:
        num_rows, num_classes = self._table.num_rows, self._table.num_classes
        if found := re.search(rf"{_CLASS} (-?\d+)", text):
            return f"an image's class is {found[1]}: classes run from 0 to {num_classes - 1}, or -1 where it is not known"
        if found := re.search(rf"indices\S* = (-?\d+) is not in \[0, {num_rows}\)", text):
            return self._no_row(found[1])
        return ""

    def _no_row(self, row: object) -> str:
        last = self._table.num_rows - 1
        return (
            f"row {row} is none of the table's, 0 to {last}: give the number of each image's row, whether it has a label or not"
        )
