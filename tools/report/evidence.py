"""What is known of a finished run: read once, and all that a report says is made of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logsumexp, softmax

from r2d2_tf import backbones
from r2d2_tf.config.config import Config
from r2d2_tf.runs import finished, run_directory
from tools.shared import row_history, run_images, saved_table


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


@dataclass(frozen=True)
class Evidence:
    """Table, predictions, network and images of a run. `[rows]` are those of the table.

    Attributes:
        said: what each row says.
        moves: of the unlabeled rows.
        images: of the rows.
        view: what the final network says of the labeled images and of some unlabeled ones.
        description: of the data set, in a line.
        labels_are_drawn: whether the labeled images were drawn, with as many of each class; else somebody gave them.
    """

    config: Config
    summary: dict[str, Any]
    table: saved_table.SavedTable
    said: saved_table.RowSummary
    moves: row_history.RowHistory
    images: run_images.Placed
    view: NetworkView
    class_names: tuple[str, ...]
    labels_are_drawn: bool
    description: str

    @property
    def knows_truth(self) -> bool:
        """Whether true classes of unlabeled images are known."""
        return bool((self.images.true_labels[self.table.unlabeled_rows] >= 0).any())

    def wrong_percent(self, rows: np.ndarray, labels: np.ndarray) -> float | None:
        """Error of `labels` for `rows`, in percent of those whose true class is known; None if there are none."""
        true = self.images.true_labels[rows]
        known = true >= 0
        return 100 * float((labels[known] != true[known]).mean()) if known.any() else None


def gather(run_dir: Path, config: Config, summary: dict[str, Any], *, data_dir: str, most_predicted: int) -> Evidence:
    """Reads a run, and shows its network up to `most_predicted` labeled and as many unlabeled images.

    Raises:
        ValueError: if a file or an image is missing or damaged, or the data set is not that of the run.
    """
    table = saved_table.read(run_dir / run_directory.TABLE_FILE)
    moves = row_history.read(run_dir / run_directory.HISTORY_FILE)
    spec, data = finished.images_of(run_dir, config, summary, data_dir=data_dir)
    images = run_images.placed(table, data)
    view = _view(run_dir, config, table, images, most_predicted)
    said, are_drawn = saved_table.summarized(table), data.given_labels is None and not config.split_file
    return Evidence(config, summary, table, said, moves, images, view, data.class_names, are_drawn, spec.description)


def _view(run_dir: Path, config: Config, table: saved_table.SavedTable, images: run_images.Placed, most: int) -> NetworkView:
    """Shows the network of a run up to `most` labeled and as many unlabeled images."""
    rows = np.concatenate([run_images.spread(own, most) for own in (table.labeled_rows, table.unlabeled_rows)])
    network, given = backbones.load(run_dir / run_directory.BACKBONE_FILE, config.backbone), table.labels[rows]
    found = NetworkView(rows, np.zeros(len(rows), np.int32), *(np.full(len(rows), np.nan, np.float32) for _ in range(3)))
    for pixels, which in run_images.batches(images.images, images.places[rows], config.eval_batch_size):
        logits = np.asarray(network.predict_on_batch(pixels), np.float32)
        found.evidence[which], probabilities = logsumexp(logits, axis=1), softmax(logits, axis=1)
        found.label[which], found.probability[which] = probabilities.argmax(1), probabilities.max(1)
        own = probabilities[np.arange(len(probabilities)), given[which]]
        found.given_probability[which] = np.where(given[which] >= 0, own, np.nan)
    return found
