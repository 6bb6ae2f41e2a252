"""What is known of a finished run: read once, and all that a report says is made of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logsumexp, softmax

from r2d2_tf import backbones
from r2d2_tf.config.config import Config
from r2d2_tf.data.image_data import ImageData
from r2d2_tf.runs import finished, run_directory
from r2d2_tf.runs.outcome.verdict import Outcome
from tools.report import headline
from tools.shared import row_history, run_images, saved_table
from tools.shared.classification_metrics import ClassificationMetrics, MetricsAccumulator


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
class Judged:
    """What the result's network says of test images.

    Attributes:
        images: all of them.
        rows: those that it was shown, `[images]`.
        ids: a name each.
        metrics: how right it is, `[images]` in the order of `rows`.
    """

    images: Any
    rows: np.ndarray
    ids: list[str]
    metrics: ClassificationMetrics


@dataclass(frozen=True)
class Evidence:
    """Table, predictions, network and images of a run. `[rows]` are those of the table.

    Attributes:
        outcome: what the run came to.
        said: what each row says.
        moves: of the unlabeled rows.
        images: of the rows.
        view: what the final network says of the labeled images and of some unlabeled ones.
        tested: what it says of test images.
        description: of the data set, in a line.
        labels_are_drawn: whether the labeled images were drawn, with as many of each class; else somebody gave them.
    """

    config: Config
    summary: dict[str, Any]
    outcome: Outcome
    table: saved_table.SavedTable
    said: saved_table.RowSummary
    moves: row_history.RowHistory
    images: run_images.Placed
    view: NetworkView
    tested: Judged
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
    """Reads a run, and shows its network up to `most_predicted` labeled, as many unlabeled and as many test images.

    Raises:
        ValueError: if a file or an image is missing or damaged, or the data set is not that of the run.
    """
    table = saved_table.read(run_dir / run_directory.TABLE_FILE)
    spec, data = finished.images_of(run_dir, config, summary, data_dir=data_dir, as_evaluated=True)
    images = run_images.placed(table, data)
    history = run_dir / run_directory.HISTORY_FILE
    moves = row_history.read(history, num_rows=len(table.labels), num_classes=table.num_classes)
    network = backbones.load(run_dir / run_directory.BACKBONE_FILE, config.backbone)
    return Evidence(
        config=config,
        summary=summary,
        outcome=headline.outcome_of(run_dir, summary),
        table=table,
        said=saved_table.summarized(table),
        moves=moves,
        images=images,
        view=_view(network, config, table, images, most_predicted),
        tested=_tested(network, config, data, most_predicted),
        class_names=data.class_names,
        labels_are_drawn=data.given_labels is None and not config.split_file,
        description=spec.description,
    )


def _view(network: Any, config: Config, table: saved_table.SavedTable, images: run_images.Placed, most: int) -> NetworkView:
    """Shows the network of a run up to `most` labeled and as many unlabeled images."""
    rows = np.concatenate([run_images.spread(own, most) for own in (table.labeled_rows, table.unlabeled_rows)])
    given = table.labels[rows]
    found = NetworkView(rows, np.zeros(len(rows), np.int32), *(np.full(len(rows), np.nan, np.float32) for _ in range(3)))
    for pixels, which in run_images.batches(images.images, images.places[rows], config.eval_batch_size):
        logits = np.asarray(network.predict_on_batch(pixels), np.float32)
        found.evidence[which], probabilities = logsumexp(logits, axis=1), softmax(logits, axis=1)
        found.label[which], found.probability[which] = probabilities.argmax(1), probabilities.max(1)
        own = probabilities[np.arange(len(probabilities)), given[which]]
        found.given_probability[which] = np.where(given[which] >= 0, own, np.nan)
    return found


def _tested(network: Any, config: Config, data: ImageData, most: int) -> Judged:
    """Shows the network of a run up to `most` test images."""
    rows = run_images.spread(np.arange(len(data.test_labels)), most)
    found = MetricsAccumulator(len(data.class_names))
    for pixels, which in run_images.batches(data.test_images, rows, config.eval_batch_size):
        logits = np.asarray(network.predict_on_batch(pixels), np.float32)
        found.add(softmax(logits, axis=1), data.test_labels[rows[which]])
    names = [f"test image {row}" for row in rows] if data.test_ids is None else [data.test_ids[row] for row in rows]
    return Judged(data.test_images, rows, names, found.result())
