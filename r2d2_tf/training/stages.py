"""The three stages of a run, as data: what is trained on, for how long, at what rate."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from r2d2_tf.config.config import Config
from r2d2_tf.data.augment import Augmentation
from r2d2_tf.data.image_data import DatasetSpec, ImageData
from r2d2_tf.method.pseudo_labels import REFERENCE_BATCH
from r2d2_tf.method.schedules import cosine_learning_rates, round_learning_rates, round_starts
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.system import resources


@dataclass(frozen=True)
class Stage:
    """One `fit` of a run.

    Attributes:
        number: 1, 2 or 3.
        title: a few words for people.
        use_unlabeled: the first of the paper's two switches: unlabeled images are trained on.
        learn_pseudo_labels: the second: the loss is eq. 2 and the rows descend; otherwise the loss is cross
            entropy against each row's largest class.
        most_labeled_step: largest share of eq. 7's step that a row with a given label may take; 0 where it is clamped.
        batch_size: images a batch over all replicas.
        labeled_per_batch: labeled images in each batch, in a stream of their own that reshuffles for ever; an
            epoch is then one pass over the unlabeled images and drops their short last batch. None: all images
            of the stage form one pool, an epoch is one pass over it, and a short last batch is kept.
        learning_rates: learning rate of each epoch.
        prediction_epochs: epochs before which the network's predictions replace the unlabeled rows.
        augmentation: what is done to training batches.
        weight_decay: coupled L2 on every trainable weight.
        max_steps: batches an epoch at most; 0 for all.
        fills_table: until its first prediction the unlabeled rows hold nothing.
        advice: what to change if the stage goes wrong.
        advice_before: what to change if it had gone wrong before the stage's first step.
        head_epochs: the first so many epochs train the network's head alone.
    """

    number: int
    title: str
    use_unlabeled: bool
    learn_pseudo_labels: bool
    most_labeled_step: float
    batch_size: int
    labeled_per_batch: int | None
    learning_rates: tuple[float, ...]
    prediction_epochs: tuple[int, ...]
    augmentation: Augmentation
    weight_decay: float
    max_steps: int
    fills_table: bool
    advice: str
    advice_before: str = ""
    head_epochs: int = 0

    @property
    def epochs(self) -> int:
        return len(self.learning_rates)

    def predicts_first_at(self, epoch: int) -> bool:
        """Whether the prediction before `epoch` is the run's first."""
        return self.fills_table and epoch == self.prediction_epochs[0]

    def steps_per_epoch(self, num_labeled: int, num_unlabeled: int) -> int:
        """Batches in an epoch, given the numbers of labeled and unlabeled images."""
        if self.labeled_per_batch is not None:
            steps = num_unlabeled // (self.batch_size - self.labeled_per_batch)
        else:
            steps = -(-(num_labeled + num_unlabeled * self.use_unlabeled) // self.batch_size)
        return min(steps, self.max_steps) if self.max_steps else steps

    def labeled_step(self, num_labeled: int, num_unlabeled: int) -> float:
        """Share of a row's step that a labeled row takes each time it is seen; 0 where it is clamped.

        An unlabeled image is seen once an epoch, a labeled one as often as its stream comes round: divided by that, it moves as
        far in an epoch, or as far as `most_labeled_step` lets it.
        """
        seen = self.steps_per_epoch(num_labeled, num_unlabeled) * (self.labeled_per_batch or 0)
        return min(self.most_labeled_step, num_labeled / seen) if seen else 0.0


def _most_labeled_step(config: Config) -> float:
    """The share of a row's step with which no row jumps over where prediction and label together draw it.

    That is the distribution (alpha * prediction + compatibility * onehot) / (alpha + compatibility), not a sure one, as that of
    an unlabeled row mostly is: larger steps would leave it swinging from label to prediction and back. The loss of a row is
    curved by (alpha + compatibility) / 2 at most, as softmax' derivative is at most 1/2; with steps up to the inverse it falls.
    """
    step = config.pseudo_label_lr / REFERENCE_BATCH * (config.alpha + config.compatibility) / 2
    return min(1.0, 1.0 / step) if step else 1.0


def plan(config: Config) -> tuple[Stage, ...]:
    """The stages of a run, in order."""
    spec = spec_of(config)
    # A square of the mean color is zero once normalised: the authors cut out after normalising.
    fill = tuple(255.0 * mean for mean in spec.mean)
    gentle = Augmentation(translate=config.translate, flip=config.flip, crop_scale=config.crop_scale)
    strong = replace(gentle, cutout=config.cutout, fill=fill) if config.cutout else gentle
    supervised_advice = "most likely the learning rate is too high: lower --supervised_learning_rate"
    decipher_advice = "most likely a rate is too high: lower those of --rounds, or --pseudo_label_lr"
    starts = round_starts(config.parsed_rounds)
    supervised = Stage(
        number=1,
        title="supervised",
        use_unlabeled=False,
        learn_pseudo_labels=False,
        most_labeled_step=0.0,
        batch_size=config.supervised_batch_size,
        labeled_per_batch=None,
        learning_rates=cosine_learning_rates(
            config.supervised_learning_rate, config.supervised_epochs, config.supervised_cosine_epochs
        ),
        prediction_epochs=(),
        augmentation=strong,
        weight_decay=config.weight_decay if config.supervised_weight_decay < 0 else config.supervised_weight_decay,
        max_steps=config.max_steps,
        fills_table=False,
        advice=supervised_advice,
        head_epochs=config.freeze_epochs,
    )
    decipher = Stage(
        number=2,
        title="D2 and R2" if config.repredict and len(starts) > 1 else "D2",
        use_unlabeled=True,
        learn_pseudo_labels=True,
        most_labeled_step=_most_labeled_step(config) if config.learn_labeled_rows else 0.0,
        batch_size=config.batch_size,
        labeled_per_batch=config.labeled_per_batch,
        learning_rates=round_learning_rates(config.parsed_rounds),
        prediction_epochs=starts if config.repredict else starts[:1],
        augmentation=gentle,
        weight_decay=config.weight_decay,
        max_steps=config.max_steps,
        fills_table=True,
        advice=decipher_advice,
        advice_before="most likely that network learned too little or went astray: give --warm_start another run"
        if config.warm_start
        else "most likely stage 1 learned too little or went astray: change --supervised_epochs or --supervised_learning_rate",
    )
    finetune = Stage(
        number=3,
        title="fine-tuning",
        use_unlabeled=True,
        learn_pseudo_labels=False,
        most_labeled_step=0.0,
        batch_size=config.finetune_batch_size,
        labeled_per_batch=None,
        learning_rates=cosine_learning_rates(
            config.finetune_learning_rate, config.finetune_epochs, config.finetune_cosine_epochs
        ),
        prediction_epochs=(0,) if config.finetune_from == "prediction" else (),
        augmentation=strong,
        weight_decay=config.weight_decay,
        max_steps=config.max_steps,
        fills_table=not starts,
        advice="most likely the learning rate is too high: lower --finetune_learning_rate",
        advice_before=decipher_advice if starts else decipher.advice_before,
    )
    stages = (decipher, finetune) if config.stage_1_from or config.warm_start else (supervised, decipher, finetune)
    return tuple(stage for stage in stages if stage.epochs)


def sizes_of(config: Config, spec: DatasetSpec, stages: Sequence[Stage], data: ImageData) -> resources.Sizes:
    """What memory and disk are asked for."""
    num_rows = len(data.train_labels)
    num_labels = int((data.given_labels >= 0).sum()) if data.given_labels is not None else config.num_labels or num_rows
    return resources.Sizes(
        num_rows,
        spec.num_classes,
        num_unlabeled=max(0, num_rows - num_labels),
        num_comparisons=sum(len(stage.prediction_epochs) + stage.learn_pseudo_labels for stage in stages),
        soft_labels=data.given_probabilities is not None,
    )


def check_batches(stages: Sequence[Stage], num_labeled: int, num_unlabeled: int) -> None:
    """Raises ValueError if a stage has no batch an epoch: if its unlabeled images do not fill one."""
    for stage in stages:
        if stage.steps_per_epoch(num_labeled, num_unlabeled):
            continue
        if not num_unlabeled:
            raise ValueError(
                "there are no unlabeled images, and stage 2 learns from nothing else: train stage 1 alone (--rounds= "
                "--finetune_epochs=0), or give images without labels"
            )
        unlabeled = stage.batch_size - (stage.labeled_per_batch or 0)
        fits = stage.batch_size * num_unlabeled // unlabeled
        raise ValueError(
            f"batch_size ({stage.batch_size}) takes {unlabeled} unlabeled images a batch, but there are only {num_unlabeled}: "
            f"lower --batch_size (to {fits} at most), or have more unlabeled images"
        )
