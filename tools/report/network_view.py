"""What the final network of a run says of training images."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tools.shared import run_images
from tools.shared.saved_table import softmax

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class NetworkView:
    """Predictions without augmentation.

    Attributes:
        rows: of the table, `[images]`.
        label: most probable class, `[images]`.
        probability: of it, `[images]`.
        given_probability: of the class that was given to the image, `[images]`; NaN where there is none.
        evidence: log of the sum of the exponentials of the logits, `[images]`: Liu et al. 2020's energy with its sign turned.
            It is small where the network finds nothing that it knows, whatever class comes first.
    """

    rows: np.ndarray
    label: np.ndarray
    probability: np.ndarray
    given_probability: np.ndarray
    evidence: np.ndarray


def spread(rows: np.ndarray, most: int) -> np.ndarray:
    """`rows`, or `most` of them, evenly spread."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def view(
    network: "keras.Model", images: run_images.Placed, rows: np.ndarray, given: np.ndarray, batch_size: int
) -> NetworkView:
    """Shows images to a network.

    Args:
        network: of the run; see backbones.load.
        images: of the run.
        rows: of the table that are shown.
        given: class of each row of the table, -1 for none.
        batch_size: images at a time.

    Raises:
        ValueError: if an image cannot be read.
    """
    given = given[rows]
    found = NetworkView(rows, np.zeros(len(rows), np.int32), *(np.full(len(rows), np.nan, np.float32) for _ in range(3)))
    for pixels, which in run_images.batches(images.images, images.places[rows], batch_size):
        logits = np.array(network.predict_on_batch(pixels), np.float32)
        largest = logits.max(1)
        found.evidence[which] = largest + np.log(np.exp(logits - largest[:, None]).sum(1))
        probabilities = softmax(logits)
        found.label[which], found.probability[which] = probabilities.argmax(1), probabilities.max(1)
        own = probabilities[np.arange(len(probabilities)), given[which]]
        found.given_probability[which] = np.where(given[which] >= 0, own, np.nan)
    return found
