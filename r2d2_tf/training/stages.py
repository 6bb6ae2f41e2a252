"""The three stages of a run, as data: what is trained on, for how long, at what rate."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from r2d2_tf.config import flag_checks
from r2d2_tf.config.config import Config
from r2d2_tf.data.augment import Augmentation
from r2d2_tf.data.image_data import DatasetSpec, ImageData
from r2d2_tf.method.pseudo_labels import REFERENCE_BATCH
from r2d2_tf.method.schedules import cosine_learning_rates, round_learning_rates, round_starts
from r2d2_tf.system import resources

_BODY_SHARE = 0.1
"""Of the learning rate, for a body that knows other images, where nothing else is asked for; adopted, not searched."""


@dataclass(frozen=True)
class StageImages:
    """What a stage is trained on.

    Attributes:
        use_unlabeled: the first of the paper's two switches: unlabeled images are trained on.
        batch_size: images a batch over all replicas.
        labeled_per_batch: labeled images in each batch, in a stream of their own that reshuffles for ever; an
            epoch is then one pass over the unlabeled images and drops their short last batch. None: all images
            of the stage form one pool, an epoch is one pass over it, and a short last batch is kept.
        max_steps: batches an epoch at most; 0 for all.
        augmentation: what is done to training batches.
    """

    use_unlabeled: bool
    batch_size: int
    labeled_per_batch: int | None
    max_steps: int
    augmentation: Augmentation

    def steps_per_epoch(self, num_labeled: int, num_unlabeled: int) -> int:
        """Batches in an epoch, given the numbers of labeled and unlabeled images."""
        if self.labeled_per_batch is not None:
            steps = num_unlabeled // (self.batch_size - self.labeled_per_batch)
        else:
            steps = -(-(num_labeled + num_unlabeled * self.use_unlabeled) // self.batch_size)
        return min(steps, self.max_steps) if self.max_steps else steps


@dataclass(frozen=True)
class StageWords:
    """What people are told of a stage.

    Attributes:
        title: a few words.
        advice: what to change if the stage goes wrong.
        advice_before: what to change if it had gone wrong before the stage's first step.
    """

    title: str
    advice: str
    advice_before: str = ""


@dataclass(frozen=True)
class Stage:
    """One `fit` of a run: how the network and the rows are trained.

    Attributes:
        number: 1, 2 or 3.
        words: for people.
        images: what is trained on.
        learn_pseudo_labels: the second of the paper's two switches: the loss is eq. 2 and the rows descend; otherwise the
            loss is cross entropy against each row's largest class.
        learning_rates: learning rate of each epoch.
        weight_decay: coupled L2 on every trainable weight.
        prediction_epochs: epochs before which the network's predictions replace the unlabeled rows.
        fills_table: until its first prediction the unlabeled rows hold nothing.
        most_labeled_step: largest share of eq. 7's step that a row with a given label may take; 0 where it is clamped.
        head_epochs: the first so many epochs train the network's head alone.
        balances_classes: its predictions are shifted to the labels' shares of the classes.
        weighs_certainty: images whose pseudo-labels are doubtful count less.
        on_features: a head is trained, on features in the place of images.
        keeps_statistics: all but the head computes as in evaluation: batch normalisation stays as it is, nothing is left out.
        body_share: of the learning rate, for all but the head.
    """

    number: int
    words: StageWords
    images: StageImages
    learn_pseudo_labels: bool
    learning_rates: tuple[float, ...]
    weight_decay: float
    prediction_epochs: tuple[int, ...] = ()
    fills_table: bool = False
    most_labeled_step: float = 0.0
    head_epochs: int = 0
    balances_classes: bool = False
    weighs_certainty: bool = False
    on_features: bool = False
    keeps_statistics: bool = False
    body_share: float = 1.0

    @property
    def epochs(self) -> int:
        return len(self.learning_rates)

    def place(self, epoch: int, step: int) -> str:
        """A step, counted from 1, of an epoch, counted from 0, in words."""
        return f"stage {self.number} ({self.words.title}), epoch {epoch + 1} of {self.epochs}, step {step}"

    def predicts_first_at(self, epoch: int) -> bool:
        """Whether the prediction before `epoch` is the run's first."""
        return self.fills_table and epoch == self.prediction_epochs[0]

    def labeled_step(self, num_labeled: int, num_unlabeled: int) -> float:
        """Share of a row's step that a labeled row takes each time it is seen; 0 where it is clamped.

        An unlabeled image is seen once an epoch, a labeled one as often as its stream comes round: divided by that, it moves as
        far in an epoch, or as far as `most_labeled_step` lets it.
        """
        seen = self.images.steps_per_epoch(num_labeled, num_unlabeled) * (self.images.labeled_per_batch or 0)
        return min(self.most_labeled_step, num_labeled / seen) if seen else 0.0


def _most_labeled_step(config: Config) -> float:
    """The share of a row's step with which no row jumps over where prediction and label together draw it.

    That is the distribution (alpha * prediction + compatibility * onehot) / (alpha + compatibility), not a sure one, as that of
    an unlabeled row mostly is: larger steps would leave it swinging from label to prediction and back. The loss of a row is
    curved by (alpha + compatibility) / 2 at most, as softmax' derivative is at most 1/2; with steps up to the inverse it falls.
    """
    step = config.pseudo_label_lr / REFERENCE_BATCH * (config.alpha + config.compatibility) / 2
    return min(1.0, 1.0 / step) if step else 1.0


def plan(config: Config, spec: DatasetSpec) -> tuple[Stage, ...]:
    """The stages of a run on a data set, in order."""
    # A square of the mean color is zero once normalised: the authors cut out after normalising.
    fill = tuple(255.0 * mean for mean in spec.mean)
    gentle = Augmentation(
        translate=config.translate, border=config.translate_border, flip=config.flip, crop_scale=config.crop_scale
    )
    strong = replace(gentle, cutout=config.cutout, fill=fill) if config.cutout else gentle
    operations, magnitude, in_all_stages = flag_checks.parsed_rand_augment(config.rand_augment)
    strong = replace(strong, operations=operations, magnitude=magnitude)
    if in_all_stages:
        gentle = replace(gentle, operations=operations, magnitude=magnitude)
    decipher_advice = "most likely a rate is too high: lower those of --rounds, or --pseudo_label_lr"
    starts = round_starts(config.parsed_rounds)
    all_images = StageImages(True, config.finetune_batch_size, None, config.max_steps, strong)
    before_decipher = (
        "most likely that network learned too little or went astray: give --warm_start another run"
        if config.warm_start
        else "most likely stage 1 learned too little or went astray: change --supervised_epochs or --supervised_learning_rate"
    )
    supervised = Stage(
        1,
        StageWords("supervised", "most likely the learning rate is too high: lower --supervised_learning_rate"),
        replace(all_images, use_unlabeled=False, batch_size=config.supervised_batch_size),
        learn_pseudo_labels=False,
        learning_rates=cosine_learning_rates(
            config.supervised_learning_rate, config.supervised_epochs, config.supervised_cosine_epochs
        ),
        weight_decay=config.weight_decay if config.supervised_weight_decay < 0 else config.supervised_weight_decay,
        head_epochs=config.freeze_epochs,
    )
    decipher = Stage(
        2,
        StageWords("D2 and R2" if config.repredict and len(starts) > 1 else "D2", decipher_advice, before_decipher),
        StageImages(True, config.batch_size, config.labeled_per_batch, config.max_steps, gentle),
        learn_pseudo_labels=True,
        learning_rates=round_learning_rates(config.parsed_rounds),
        weight_decay=config.weight_decay,
        prediction_epochs=starts if config.repredict else starts[:1],
        fills_table=True,
        balances_classes=config.class_balance == "labels",
        most_labeled_step=_most_labeled_step(config) if config.learn_labeled_rows else 0.0,
    )
    finetune_advice = "most likely the learning rate is too high: lower --finetune_learning_rate"
    finetune = Stage(
        3,
        StageWords("fine-tuning", finetune_advice, decipher_advice if starts else before_decipher),
        all_images,
        learn_pseudo_labels=False,
        learning_rates=cosine_learning_rates(
            config.finetune_learning_rate, config.finetune_epochs, config.finetune_cosine_epochs
        ),
        weight_decay=config.weight_decay,
        prediction_epochs=(0,) if config.finetune_from == "prediction" else (),
        fills_table=not starts,
        weighs_certainty=config.finetune_weights == "confidence",
        balances_classes=config.class_balance == "labels",
    )
    starts_later = config.stage_1_from or config.stage_2_from or config.warm_start
    stages = (decipher, finetune) if starts_later else (supervised, decipher, finetune)
    return tuple(_with_trained(stage, config) for stage in stages if stage.epochs)


def _with_trained(stage: Stage, config: Config) -> Stage:
    """The stage, knowing what of the network it trains, and how."""
    follows = config.trainable == flag_checks.HEAD_THEN_ALL
    if config.trainable == flag_checks.HEAD or (follows and stage.number < 3):
        return replace(stage, on_features=True)
    share = config.body_learning_rate_scale
    return replace(
        stage,
        keeps_statistics=follows if config.batch_norm_statistics == "auto" else config.batch_norm_statistics == "stored",
        body_share=share if share >= 0 else (_BODY_SHARE if follows else 1.0),
    )


def beyond_the_paper(config: Config) -> str:
    """What a config adds to the paper's method, for people; "" if nothing."""
    added = {
        f"an average of the weights (--ema={config.ema:g}) predicts, is evaluated and ends each stage": config.ema,
        "predictions are shifted to the labels' shares of the classes": config.class_balance != "none",
        "in stage 3 images with doubtful pseudo-labels count less": config.finetune_weights != "equal",
        f"RandAugment ({config.rand_augment}) of training images": config.rand_augment,
    }
    return "; ".join(words for words, is_on in added.items() if is_on)


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
        if stage.images.steps_per_epoch(num_labeled, num_unlabeled):
            continue
        if not num_unlabeled:
            raise ValueError(
                "there are no unlabeled images, and stage 2 learns from nothing else: train stage 1 alone (--rounds= "
                "--finetune_epochs=0), or give images without labels"
            )
        unlabeled = stage.images.batch_size - (stage.images.labeled_per_batch or 0)
        fits = stage.images.batch_size * num_unlabeled // unlabeled
        raise ValueError(
            f"batch_size ({stage.images.batch_size}) takes {unlabeled} unlabeled images a batch, but there are only "
            f"{num_unlabeled}: lower --batch_size (to {fits} at most), or have more unlabeled images"
        )
