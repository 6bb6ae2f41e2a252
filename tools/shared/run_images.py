"""The images of a finished run, in the order of its table."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from r2d2_tf.data.image_data import ImageData
from r2d2_tf.system.messages import one_line
from tools.shared.saved_table import SavedTable

if TYPE_CHECKING:
    from r2d2_tf.training.pipeline import Images


def check_classes(table: SavedTable, data: ImageData) -> None:
    """Raises ValueError if the data set has another number of classes than the table."""
    if len(data.class_names) != table.num_classes:
        raise ValueError(
            f"the run had {table.num_classes} classes and the data set has {len(data.class_names)}: give the run's --data_dir"
        )


@dataclass(frozen=True)
class Placed:
    """The training images of a data set, reached by the rows of a run's table: a run may have left unreadable ones out.

    Attributes:
        images: of the data set.
        places: index into `images`, `[rows]`.
        true_labels: class of each row, `[rows]`; -1 where it is not known. For reports only.
    """

    images: "Images"
    places: np.ndarray
    true_labels: np.ndarray


def placed(table: SavedTable, data: ImageData) -> Placed:
    """Finds the image of each row by its id.

    Raises:
        ValueError: if an image is missing, or the classes are others.
    """
    check_classes(table, data)
    place_of = {identifier: place for place, identifier in enumerate(data.train_ids)}
    places = np.array([place_of.get(identifier, -1) for identifier in table.ids.tolist()], np.int64)
    if (places < 0).any():
        missing, count = table.ids[int(np.argmin(places))], int((places < 0).sum())
        raise ValueError(
            f"{count:,} images of the run are not in the data set, such as {missing}: give the --data_dir of the run"
        )
    return Placed(data.train_images, places, data.train_labels[places])


def spread(rows: np.ndarray, most: int) -> np.ndarray:
    """`rows`, or `most` of them, evenly spread."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)]


def batches(images: "Images", rows: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, slice]]:
    """Unaugmented images of `rows`, a batch at a time: (`[batch, height, width, channels]` uint8, which of `rows`).

    Raises:
        ValueError: if an image cannot be read.
    """
    import tensorflow as tf

    from r2d2_tf.training.pipeline import plain_images

    # Not through tf.data, which tunes itself for longer than this takes.
    read = plain_images(images)
    try:
        for start in range(0, len(rows), batch_size):
            which = slice(start, min(start + batch_size, len(rows)))
            yield np.asarray(read(tf.constant(rows[which], tf.int64))), which
    except tf.errors.OpError as error:
        raise ValueError(one_line(f"an image cannot be read: {error}")) from error
