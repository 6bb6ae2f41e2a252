"""What the stages of a run train, and on what: all of the network on images, or its head on their features."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from r2d2_tf.backbones.layers import features_of, normalizations_of
from r2d2_tf.config.config import Config
from r2d2_tf.config.flag_checks import ALL, HEAD_THEN_ALL
from r2d2_tf.data.image_data import ImageData
from r2d2_tf.distributed.workers import Workers
from r2d2_tf.method.model import R2D2Model
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from r2d2_tf.system import files
from r2d2_tf.training.features.heads import Head, check_has_head
from r2d2_tf.training.features.run_features import RunFeatures
from r2d2_tf.training.stages import Stage


class Learner(NamedTuple):
    """What a stage trains.

    Attributes:
        model: its network takes the images of `data`.
        data: of the run, images or their features in the place of them.
    """

    model: R2D2Model
    data: ImageData


class Learners:
    """The learner of each stage of a run. Features are computed when a stage first asks for them.

    Args:
        config: of the run.
        network: pixels to logits, all of it.
        table: the pseudo-labels.
        data: the run's images.
        workers: the processes.
        check: called while features are computed: what it raises ends that.

    Attributes:
        model: of the first stage.
        features: None where no stage trains on any.
        parameters: of the whole network, that can be trained.

    Raises:
        ValueError: if the head is to be trained alone, and the network has none.
    """

    def __init__(
        self,
        config: Config,
        network: keras.Model,
        table: PseudoLabelTable,
        data: ImageData,
        workers: Workers,
        check: Callable[[], object],
    ) -> None:
        self.config, self.network, self.table, self.data, self.workers = config, network, table, data, workers
        self.features: RunFeatures | None = None
        self._head: Head | None = None
        self._on_features: ImageData | None = None
        self._body_weights: list[np.ndarray] = []
        self._still: list[tuple[keras.layers.Layer, str, Any]] = []
        self.parameters = _count(network.trainable_weights)
        with workers.strategy.scope():
            if config.trainable == ALL:
                self.model = self._of_images = self._model_of(network)
                return
            check_has_head(network, config.backbone)
            self._head = Head(network, config.head_dropout)
            self.features = RunFeatures(config, data, self._head.body, check)
            self.model = self._model_of(self._head.model)
            self._of_images = self._model_of(self._head.whole()) if config.trainable == HEAD_THEN_ALL else self.model

    def _model_of(self, network: keras.Model) -> R2D2Model:
        config = self.config
        model = R2D2Model(
            network,
            self.table,
            class_loss=config.class_loss,
            alpha=config.alpha,
            beta=config.beta,
            pseudo_label_lr=config.pseudo_label_lr,
            processes=self.workers.count,
        )
        # They are made by the program.
        model.checks_batches = False
        return model

    @property
    def text(self) -> str:
        """What is computed before it is trained on, for people; "" where nothing is."""
        if self.features is None or self._head is None:
            return ""
        until = " in stages 1 and 2" if self._of_images is not self.model else ""
        trained = f"the head alone is trained{until}, {_count(self._head.model.trainable_weights):,} parameters"
        return f"{self.features.text}; on them {trained}"

    @property
    def variables(self) -> tuple[list[keras.Variable], list[keras.Variable]]:
        """Of the largest network that is trained, all variables, and those that learn."""
        return self._of_images.backbone.variables, self._of_images.trainable_variables

    def begin(self) -> str:
        """To be called once the network has the weights that it begins with.

        Returns:
            16 hexadecimal digits of those that features depend on; "" where there are none.
        """
        if self.features is None or self._head is None:
            return ""
        if self._of_images is not self.model:
            self._body_weights = self._head.body.get_weights()
        return self.features.fingerprint()

    def of(self, stage: Stage) -> Learner:
        """The learner of a stage; may take long.

        Raises:
            RunStopped: if features are not finite.
            OSError: if they cannot be written.
        """
        if self.features is None or self._head is None or not stage.on_features:
            if stage.keeps_statistics and not self._still:
                body = self._head.body if self._head else features_of(self.network)
                self._still = _settings_of_training(body)
                self._exchange()
            return Learner(self._of_images, self.data)
        if self._body_weights:
            # The run may have been rolled back from a stage that trained them.
            with self.workers.strategy.scope():
                self._head.body.set_weights(self._body_weights)
        if self._on_features is None:
            self._on_features, mean, deviation = self.features.computed()
            self._standardize(self._head, mean, deviation)
        return Learner(self.model, self._on_features)

    def stand_in(self, stage: Stage) -> Learner:
        """The learner of a stage for who times it, with numbers in the place of features."""
        if self.features is not None and stage.on_features:
            return Learner(self.model, self.features.stand_in())
        return self.of(stage)

    def save(self, path: Path) -> None:
        """Writes the whole network, pixels to logits, as it is now."""
        if self._head is not None:
            with self.workers.strategy.scope():
                self._head.fold()
        # A file tells of no stage.
        self._exchange()
        with files.written_whole(path) as temporary:
            self.network.save(temporary)
        self._exchange()

    def _exchange(self) -> None:
        """Has the body compute in training as in evaluation, or again as it was made."""
        still, self._still = self._still, []
        for layer, name, value in still:
            self._still.append((layer, name, getattr(layer, name)))
            setattr(layer, name, value)

    def _standardize(self, head: Head, mean: np.ndarray, deviation: np.ndarray) -> None:
        """By the mean and deviation of the training images' features; all processes take the chief's."""
        ours = np.concatenate([mean, deviation]).astype(np.float32)
        agreed = self.workers.exchange(ours.view(np.int32))[0].view(np.float32)
        with self.workers.strategy.scope():
            head.standardize(*np.split(agreed, 2))
            # Training starts with the network's own last layer, whether it is at random or another run's.
            head.unfold()


def _count(weights: list[keras.Variable]) -> int:
    return sum(int(np.prod(weight.shape)) for weight in weights)


def _settings_of_training(body: keras.Model) -> list[tuple[keras.layers.Layer, str, Any]]:
    """What has layers compute otherwise in training than in evaluation: layer, attribute, and its value for no difference."""
    dropouts = [layer for layer in body._flatten_layers() if isinstance(layer, keras.layers.Dropout)]
    return [(layer, "trainable", False) for layer in normalizations_of(body)] + [(layer, "rate", 0.0) for layer in dropouts]
