"""What is known of a finished run: read once, and all that a report says is made of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from r2d2_tf import backbones
from r2d2_tf.config.config import Config
from r2d2_tf.runs import finished, run_directory
from tools.report import network_view
from tools.shared import row_history, run_images, saved_table


@dataclass(frozen=True)
class Evidence:
    """Table, predictions, network and images of a run. `[rows]` are those of the table.

    Attributes:
        config: of the run.
        summary: of the run.
        table: that it learned.
        said: what each row says.
        moves: of the unlabeled rows.
        images: of the rows.
        view: what the final network says of the labeled images and of some unlabeled ones.
        class_names: in the order of the labels.
        description: of the data set, in a line.
        labels_are_drawn: whether the labeled images were drawn, with as many of each class; else somebody gave them.
    """

    config: Config
    summary: dict[str, Any]
    table: saved_table.SavedTable
    said: saved_table.RowSummary
    moves: row_history.RowHistory
    images: run_images.Placed
    view: network_view.NetworkView
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
        ValueError: if a file is missing or damaged, or the data set is not that of the run.
    """
    table = saved_table.read(run_dir / run_directory.TABLE_FILE)
    moves = row_history.read(run_dir / run_directory.HISTORY_FILE)
    spec, data = finished.images_of(run_dir, config, summary, data_dir=data_dir)
    images = run_images.placed(table, data)
    shown = [network_view.spread(rows, most_predicted) for rows in (table.labeled_rows, table.unlabeled_rows)]
    network = backbones.load(run_dir / run_directory.BACKBONE_FILE, config.backbone)
    view = network_view.view(network, images, np.concatenate(shown), table.labels, config.eval_batch_size)
    said, are_drawn = saved_table.summarized(table), data.given_labels is None and not config.split_file
    return Evidence(config, summary, table, said, moves, images, view, data.class_names, are_drawn, spec.description)
