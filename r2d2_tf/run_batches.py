"""The batches of a run: what each of its processes trains on, predicts and evaluates."""

from r2d2_tf import pipeline
from r2d2_tf.config import Config
from r2d2_tf.image_data import ImageData
from r2d2_tf.pseudo_labels import PseudoLabelTable
from r2d2_tf.stages import Stage
from r2d2_tf.workers import Batches, Workers


class RunBatches:
    """Makes the batches of a run; each process reads the images of its own replicas alone.

    Args:
        config: of the run.
        data: the images.
        table: tells labeled from unlabeled rows.
        workers: the processes of the run.
    """

    def __init__(self, config: Config, data: ImageData, table: PseudoLabelTable, workers: Workers) -> None:
        self.config, self.data, self.table, self.workers = config, data, table, workers

    def training(self, stage: Stage, *, epoch: int, step: int) -> Batches:
        """(augmented images, rows) of a stage, from a step of an epoch on."""
        return self.workers.batches(
            lambda part: pipeline.training_batches(
                self.data.train_images,
                self.table.labeled_rows,
                self.table.unlabeled_rows,
                stage,
                seed=self.config.seed,
                first_epoch=epoch,
                first_step=step,
                part=part,
            )
        )

    def unlabeled(self) -> Batches:
        """(images, rows) of all unlabeled images, unaugmented."""
        return self.workers.batches(
            lambda part: pipeline.prediction_batches(
                self.data.train_images,
                self.table.unlabeled_rows,
                self.config.eval_batch_size,
                part=part,
            )
        )

    def test(self) -> Batches:
        """(images, true classes) of all test images."""
        return self.workers.batches(
            lambda part: pipeline.evaluation_batches(
                self.data.test_images,
                self.data.test_labels,
                self.config.eval_batch_size,
                part=part,
            )
        )
