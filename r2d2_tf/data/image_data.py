"""The images of a data set, and what is known of them before they are read."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from r2d2_tf.data.labels.label_file import LabelsFile
    from r2d2_tf.data.photographs import Photographs


SHOWN, STORED = "shown", "stored"
"""How photographs are looked at (see decoding.decode). Runs that were begun before the flag look at them as they are stored."""
NO_COPY, AUTO, MEMORY, FILE = "none", "auto", "memory", "file"
COPIES = (NO_COPY, AUTO, MEMORY, FILE)
"""Where a copy of photographs is kept: auto is a file where there is room for it, else memory."""
SYMMETRIC, REFLECT = "symmetric", "reflect"
BORDERS = (SYMMETRIC, REFLECT)
"""What enters at the border of an image a b c that is moved, by NumPy's names: c b a | a b c, as in tensorflow-addons, or
c b | a b c, as in the authors' code. Runs that were begun before the flag have the first."""


@dataclass(frozen=True)
class ImageData:
    """The images of a data set: in memory, or as photographs that are read when they are needed.

    Attributes:
        train_images: `[rows, height, width, channels]` uint8, or Photographs; pipeline.sharing_images makes tensors of arrays.
        train_labels: `[rows]` int64, the true classes, -1 where they are not known; only the labeled part may reach training.
        train_ids: one name a row, the same on every machine.
        test_images: like `train_images`.
        test_labels: `[images]` int64.
        class_names: in the order of the labels.
        given_labels: that training may see, `[rows]` int64, -1 for none, of a set that brings its own; there true classes are
            -1 where they are not known. None: they are drawn.
        given_probabilities: of all classes, where given labels are soft, `[rows, classes]` float32; those of labeled rows alone
            are meant.
        test_ids: one name a test image, where they have any.
        held_out: labeled images that are kept out of training, which the rows no longer hold; None: there are none.
    """

    train_images: "np.ndarray | Photographs"
    train_labels: np.ndarray
    train_ids: list[str]
    test_images: "np.ndarray | Photographs"
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    given_labels: np.ndarray | None = None
    given_probabilities: np.ndarray | None = None
    test_ids: list[str] | None = None
    held_out: "HeldOut | None" = None

    def of_rows(self, rows: np.ndarray) -> "ImageData":
        """The same with these training images alone."""
        return replace(
            self,
            train_images=self.train_images[rows],
            train_labels=self.train_labels[rows],
            train_ids=[self.train_ids[row] for row in rows.tolist()],
            given_labels=None if self.given_labels is None else self.given_labels[rows],
            given_probabilities=None if self.given_probabilities is None else self.given_probabilities[rows],
        )


@dataclass(frozen=True)
class HeldOut:
    """Labeled images that are kept out of training: `data`'s training part, and their labels as given, `[images]` int64."""

    data: ImageData
    labels: np.ndarray


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set before it is read.

    Attributes:
        description: one line for people.
        image_shape: (height, width, channels).
        num_classes: number of classes.
        mean: mean of each channel over the training images, in 0..1.
        std: standard deviation of each channel, in 0..1.
        num_train: number of training images in the published set; a copy may be a part of it.
        load: reads the images; its argument is `--data_dir`, or None.
        tfds_name: the prepared TFDS set that it reads, or None.
        read_ids: reads the ids alone, soon and without TensorFlow; None where that takes as long as loading.
        photographs: whether the images are Photographs, cropped at random in training.
        brings_labels: whether it is somebody's own, which says itself what is labeled.
        content: of somebody's own set: digits that tell whether it has changed.
        labels: the file whose labels `load` gives, too; None: there is none, or the rest was found with its help.
        evaluated: the file of labels that names the images to evaluate on; None: there is none.
        remarks: what of somebody's own set may be otherwise than it was meant, a line each.
        lost_classes: folders of his that look like classes and give no image, with what they hold.
    """

    description: str
    image_shape: tuple[int, int, int]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_train: int
    load: Callable[[Path | None], ImageData]
    tfds_name: str | None = None
    read_ids: Callable[[Path | None], list[str]] | None = None
    photographs: bool = False
    brings_labels: bool = False
    content: str = ""
    labels: "LabelsFile | None" = None
    evaluated: "LabelsFile | None" = None
    remarks: tuple[str, ...] = ()
    lost_classes: tuple[str, ...] = ()

    @property
    def all_remarks(self) -> list[str]:
        """What to tell before training, of the file of labels, too."""
        lost = [f"no image of a class: {'; '.join(self.lost_classes)}"] * bool(self.lost_classes)
        return [*lost, *self.remarks, *(self.labels.remarks if self.labels else ())]


UNLABELED = -1
