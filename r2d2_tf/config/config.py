"""The only list of flags: Config and its checks. Needs no TensorFlow, so a mistake in a flag is reported at once."""

import dataclasses
from pathlib import Path

from r2d2_tf.backbones import BACKBONES
from r2d2_tf.config import beginnings, flag_checks, identity, together
from r2d2_tf.config.flag_checks import ALL, HEAD, HEAD_THEN_ALL, checked
from r2d2_tf.config.flag_groups import augmentation, daily, data, hardware, network, run, stage_1, stage_2, stage_3
from r2d2_tf.data.datasets import DATASETS, OWN_SETS, PHOTOGRAPH_SIZE, TFDS_PREFIX
from r2d2_tf.data.image_data import AUTO, BORDERS, COPIES, NO_COPY, SHOWN, STORED, SYMMETRIC
from r2d2_tf.method.schedules import MOST_EPOCHS, Round, parse_rounds
from r2d2_tf.system.messages import mistake

CLASS_LOSS_NAMES = ("reverse_kl", "forward_kl", "squared_l2")
"""The keys of losses.CLASS_LOSSES, which needs TensorFlow; a test holds the two together."""
MOST_IMAGES_A_BATCH = 1_000_000
MOST_LOGICAL_CPUS = 64


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that decides a run. Defaults are the authors' CIFAR-10 recipe for 512 images a batch.

    Raises:
        ValueError: in one line, for a value out of range, with what came, what is allowed and how to mend it.
    """

    dataset: str = daily(
        "mnist5k",
        "data set; folder and npz are images of your own, tfds:NAME any prepared TFDS set",
        choices=(*DATASETS, *OWN_SETS),
        beginning=TFDS_PREFIX,
    )
    data_dir: str = daily(
        "", "folder of prepared TFDS data sets (mnist5k needs none); or of your images, or your .npz file", cosmetic=True
    )
    labels: str = daily("", "CSV, Parquet or .npz file of columns file, label (and split): labels to train on, none drawn")
    num_labels: int = daily(100, "labeled images that are drawn, class-balanced; 0 = all; not where labels are given", low=0)
    backbone: str = daily(
        "lenet", "network", choices=BACKBONES, others="keras.applications:NAME, or module:function of your own"
    )
    seed: int = daily(0, "draws the labels, the initial weights, the order and the augmentation", low=0)
    run_dir: str = daily("", "folder of the run; by default runs/NAME-HASH, the hash taken of the flags", cosmetic=True)
    minutes: float = daily(
        0.0, "that a recipe for your own images may take, if no other flag says how to train; 0 = 20", low=0.0, cosmetic=True
    )
    dry_run: bool = daily(False, "try a few steps, say what the run would take, and write nothing", cosmetic=True)

    split_file: str = data("", "file that lists the labeled images, one id a line; by default the seed draws them")
    soft_labels: bool = data(False, "train on the probabilities of all classes that --labels holds, not on one class each")
    label_noise: float = data(0.0, "share of the given labels that is made wrong, to study it", low=0.0, below=1.0)
    test_fraction: float = data(0.0, "share of your labeled images to test on, if none are set apart", low=0.0, below=1.0)
    held_out: str = data(
        "auto",
        "labels kept out of training, to choose the result's stage by: none, share, or K/N; auto = 0.2 of your own, from 60 on",
        unnamed=(AUTO, "none"),
    )
    image_size: int = data(PHOTOGRAPH_SIZE, "side of what a network sees of a photograph, in pixels", low=8, high=2048)
    whole_images: bool = data(
        False, "photographs are seen to the edges of the shorter side, not but for an eighth at the margins"
    )
    image_view: str = data(
        SHOWN,
        "photographs as viewers show them (EXIF, on white), or as stored",
        choices=(SHOWN, STORED),
        unnamed=(SHOWN, STORED),
    )
    image_copy: str = data(
        NO_COPY,
        "where photographs are kept decoded, training crops being cut out of shrunk ones; none: nowhere",
        choices=COPIES,
    )
    download: bool = data(False, "download the data set, and weights, that are not there", cosmetic=True)
    skip_bad_images: bool = data(False, "leave photographs out that cannot be decoded, where they would be an error")
    evaluate_on: str = data(
        "", "errors are those on unlabeled images of a file of ids or labels, or of a data set, not on test images"
    )

    weights: str = network(
        "none",
        "what the network begins with: none = at random, imagenet (keras.applications and efficientnet_lite alone), or a file "
        "(.weights.h5, .keras; of efficientnet_lite also .pth, .safetensors)",
    )
    warm_start: str = network(
        "", "folder of a finished run: stage 2 starts from its final network, and there is no stage 1", later=True
    )
    stage_1_from: str = network(
        "",
        "folder of a finished run with the same stage 1: start from its network in place of training it again",
        cosmetic=True,
        fixed=True,
    )
    stage_2_from: str = network(
        "",
        "folder of a finished run with --keep_rounds that begins alike: start where the last round that both have ended",
        cosmetic=True,
        fixed=True,
    )
    trainable: str = network(
        ALL,
        "what is trained: all of it; its head alone, on features that the rest computes once; or, from stage 3 on, all",
        choices=(ALL, HEAD, HEAD_THEN_ALL),
    )
    feature_views: int = network(
        2,
        "views of a training image that features are computed of: itself, with --flip mirrored, others at random",
        low=1,
        high=99,
    )
    head_dropout: float = network(0.5, "share of the features that are left out of a step", low=0.0, below=1.0)
    network_size: int = network(0, "the network enlarges images, the shorter side to so many pixels; 0 = not", low=0, high=2048)
    batch_norm_statistics: str = network(
        "auto",
        "batch normalisation in training by each batch's statistics, or by the stored ones: it stays as it is, and all but the "
        "head drops nothing out; auto = stored in a stage 3 that follows a head, else batch",
        choices=("auto", "batch", "stored"),
    )
    body_learning_rate_scale: float = network(
        -1.0, "share of the learning rate for all but the head; -1 = 0.1 in a stage 3 that follows a head, else 1", low=-1.0
    )
    mixed_precision: str = network(
        "none",
        "what the network computes in: none = float32, bfloat16, or float16 with loss scaling; weights and table are float32",
        choices=("none", "bfloat16", "float16"),
    )
    synchronized_batch_norm: bool = network(
        False, "batch normalisation over the images of all replicas, not of each replica's own; slower"
    )
    momentum: float = network(0.9, "Nesterov momentum of the network's SGD", low=0.0, below=1.0)
    ema: float = network(
        0.0,
        "momentum of an average of the weights that predicts, is evaluated and ends each stage; 0 = none; 1 - 1/n averages "
        "about n steps: take a tenth of a short stage's, as 0.99 for 1,000 steps",
        low=0.0,
        below=1.0,
    )
    weight_decay: float = network(2e-4, "L2 added to the gradient of every trainable weight", low=0.0)

    supervised_epochs: int = stage_1(300, "stage 1: passes over the labeled images", low=1, high=MOST_EPOCHS)
    supervised_batch_size: int = stage_1(40, "images a batch; a short last batch is kept", low=1, high=MOST_IMAGES_A_BATCH)
    supervised_learning_rate: float = stage_1(0.05, "stage 1: learning rate at epoch 0", above=0.0)
    supervised_cosine_epochs: int = stage_1(350, "stage 1: length of the cosine, in epochs; 0 = constant rate", low=0)
    supervised_weight_decay: float = stage_1(-1.0, "stage 1: L2 of its own; -1 = that of --weight_decay", low=-1.0)
    freeze_epochs: int = stage_1(
        0, "stage 1: first epochs that train the head of a network with --weights alone", low=0, high=MOST_EPOCHS
    )

    alpha: float = stage_2(0.1, "alpha (eq. 2): weight of the class loss", low=0.0)
    beta: float = stage_2(0.03, "beta (eq. 2): weight of the prediction's entropy; below alpha (theorem 1)", low=0.0)
    pseudo_label_lr: float = stage_2(4000.0, "lambda (eq. 7), quoted for a batch of 512 whatever the batch is", low=0.0)
    rounds: str = stage_2(
        "300:0.12,75:0.12,75:0.08,75:0.04,75:0.004",
        "stage 2: epochs:learning_rate of each round, separated by commas; empty = no stage 2",
    )
    repredict: bool = stage_2(True, "R2: predictions replace the pseudo-labels at every round, not at the first alone")
    class_balance: str = stage_2(
        "none",
        "labels = each prediction of pseudo-labels is shifted until, on average, classes have the labels' shares: only where "
        "unlabeled images have these shares too",
        choices=("none", "labels"),
    )
    class_loss: str = stage_2("reverse_kl", "L_c: what ties predictions to pseudo-labels", choices=CLASS_LOSS_NAMES)
    label_logit: float = stage_2(10.0, "K: logit of the given class in a labeled row", low=1.0)
    batch_size: int = stage_2(512, "stage 2: images a batch, labeled and unlabeled", low=2, high=MOST_IMAGES_A_BATCH)
    labeled_to_unlabeled: str = stage_2("1:3", "stage 2: labeled to unlabeled images in a batch")
    learn_labeled_rows: bool = stage_2(False, "rows with a given label are learned too: for labels that may be wrong")
    compatibility: float = stage_2(0.05, "with it: weight of what ties those rows to their labels (PENCIL)", low=0.0)

    finetune_epochs: int = stage_3(50, "stage 3: passes over all images; 0 = no stage 3", low=0, high=MOST_EPOCHS)
    finetune_from: str = stage_3(
        "table",
        "stage 3's labels: the learned table (the paper) or a last prediction (the code)",
        choices=("table", "prediction"),
    )
    finetune_weights: str = stage_3(
        "equal",
        "stage 3's images count equally, or, unlabeled ones, by how sure their pseudo-label is: 1 - entropy / log(classes)",
        choices=("equal", "confidence"),
    )
    finetune_batch_size: int = stage_3(512, "images a batch; a short last batch is kept", low=1, high=MOST_IMAGES_A_BATCH)
    finetune_learning_rate: float = stage_3(0.01, "stage 3: learning rate at epoch 0", above=0.0)
    finetune_cosine_epochs: int = stage_3(50, "stage 3: length of the cosine, in epochs; 0 = constant rate", low=0)

    translate: int = augmentation(4, "translation in pixels, mirrored at the borders", low=0)
    translate_border: str = augmentation(
        SYMMETRIC, "what enters beside pixels a b c: symmetric = c b a, reflect = c b, as the authors", choices=BORDERS
    )
    flip: bool = augmentation(False, "random left-right flips")
    cutout: int = augmentation(0, "stages 1 and 3: side of the square cut out, in pixels; even, 0 = none", low=0)
    rand_augment: str = augmentation(
        "",
        "stages 1 and 3 (RandAugment): operations an image, 1 to 9, and their strength, 1 to 10, as 2:9; "
        "2:9:all = in stage 2 too; empty = none",
    )
    crop_scale: float = augmentation(0.08, "smallest share of a photograph in a random-resized crop", above=0.0, high=1.0)

    name: str = run("", "name of the run; by default that of the flagfile, or of the data set", cosmetic=True)
    new_run: bool = run(False, "start afresh: a run that is there already is moved aside, not deleted", cosmetic=True)
    checkpoint_minutes: float = run(
        15.0, "minutes between checkpoints at most; where they are cheap there are more", low=0.0, cosmetic=True
    )
    keep_rounds: bool = run(False, "keep a checkpoint of the end of each round, for --stage_2_from", cosmetic=True)
    max_steps: int = run(0, "batches an epoch at most, to try a config out; 0 = all", low=0)
    result_stage: int = run(
        0, "stage whose network is the result; 0 = best on --held_out labels, or the last", low=0, high=3, later=True, last=True
    )
    on_divergence: str = run(
        "stop",
        "on a loss that is not finite, or a collapse: stop; or rollback = back a checkpoint, at half the rate, at most thrice",
        choices=("stop", "rollback"),
        cosmetic=True,
    )
    stop_on_collapse: bool = run(True, "stop with an error when predictions collapse into few classes", cosmetic=True)

    strategy: str = hardware(
        "auto",
        "auto = all visible GPUs, else one CPU; none = one device; mirrored; multi_worker = the processes that TF_CONFIG lists",
        choices=("auto", "none", "mirrored", "multi_worker"),
    )
    num_logical_cpus: int = hardware(0, "split the CPU into so many devices; 0 = do not", low=0, high=MOST_LOGICAL_CPUS)
    deterministic: bool = hardware(False, "bit-identical repetition on a CPU; slower")
    eval_batch_size: int = hardware(500, "images a batch in evaluation and reprediction", low=1, high=MOST_IMAGES_A_BATCH)

    def __post_init__(self) -> None:
        try:
            for field in dataclasses.fields(self):
                object.__setattr__(self, field.name, checked(field, getattr(self, field.name)))
            together.check(self)
        except ValueError as error:
            raise mistake(error) from error

    def check_replicas(self, num_replicas: int) -> None:
        """Raises ValueError if a stage's batch has fewer images than there are replicas."""
        batches = ("supervised_batch_size", "batch_size", "finetune_batch_size")
        flag_checks.check_replicas({field: getattr(self, field) for field in batches}, num_replicas)

    @property
    def data_path(self) -> Path | None:
        """`--data_dir`, or None."""
        return Path(self.data_dir).expanduser() if self.data_dir else None

    @property
    def may_have_photographs(self) -> bool:
        """Whether the images may be files of any size; of a TFDS set that is known once it is looked at."""
        return DATASETS[self.dataset].photographs if self.dataset in DATASETS else self.dataset != "npz"

    @property
    def parsed_rounds(self) -> tuple[Round, ...]:
        """The rounds of stage 2."""
        return parse_rounds(self.rounds) if self.rounds else ()

    @property
    def labeled_per_batch(self) -> int:
        """Labeled images in a batch of stage 2."""
        return flag_checks.labeled_per_batch(self.batch_size, self.labeled_to_unlabeled)

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits of all flags that can change a result.

        Of those that differ from their defaults, so that a flag added later leaves the names of older runs alone.
        """
        return identity.digest_of(self)

    @property
    def default_name(self) -> str:
        """What a run is called that has neither `--name` nor a flagfile."""
        return self.dataset.replace(":", "-").replace("/", "-")

    @property
    def resolved_run_dir(self) -> Path:
        """`--run_dir`, or runs/NAME-HASH."""
        default = Path("runs") / f"{self.name or self.default_name}-{self.digest}"
        return Path(self.run_dir).expanduser() if self.run_dir else default

    def warnings(self) -> list[str]:
        """What is allowed but probably unwise, one line each."""
        return flag_checks.unwise(self.alpha, self.beta, self.compatibility if self.learn_labeled_rows else None)

    def stage_1_alone(self) -> "Config":
        """This config without its later stages, whose flags are at their defaults: the same for all that share stage 1."""
        return beginnings.stage_1_alone(self)

    def differences(self, other: "Config", *, through_stage: int = 0, unfinished: bool = False) -> list[str]:
        """The flags in which two configs would train differently, as `--flag: theirs -> ours`.

        Args:
            other: theirs.
            through_stage: compare no later stages than 1, or than 2, but for the rounds; 0: compare all.
            unfinished: compare what must stay the same while a run is not finished, too.
        """
        return identity.differences(self, other, through_stage=through_stage, unfinished=unfinished)

    def to_flagfile(self) -> str:
        """All flags as the text of a flagfile that repeats the run."""
        return identity.flagfile_of(self)
