"""The tables of the paper: their rows as flags, and the errors printed there, in percent. Needs no TensorFlow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from r2d2_tf.config.config import Config
from r2d2_tf.method.schedules import Round


@dataclass(frozen=True)
class Row:
    """One row: its name, the flags that make it, and the paper's errors in percent (None: not in the paper)."""

    label: str
    flags: tuple[str, ...]
    paper: float | None
    paper_top5: float | None = None


@dataclass(frozen=True)
class Table:
    """A table of the paper, and the config that its rows start from: at full size, and at one that a CPU carries.

    The title claims nothing that depends on that config: its data and numbers of images are in the lines of the runs.
    """

    title: str
    data: str
    full: str
    cpu: str


TABLES = {
    "1": Table("Table 1 of the paper: strategies of stage 2", "CIFAR-10", "cifar10", "cifar10_cpu"),
    "2": Table("Table 2 of the paper: alpha, at beta 0.03", "CIFAR-10", "cifar10", "mnist5k_gentle"),
    "3": Table("Table 3 of the paper: beta, at alpha 0.1", "CIFAR-10", "cifar10", "mnist5k_gentle"),
    "4": Table("Table 4 of the paper: class losses", "CIFAR-10", "cifar10", "cifar10_cpu"),
    "5": Table("Table 5 of the paper: R2-D2 and its baselines", "ImageNet", "imagenet", "imagenette_cpu"),
    "6": Table("Table 6 of the paper: R2-D2 and its baselines", "CIFAR-100", "cifar100", "cifar100_cpu"),
    "7": Table("Table 7 of the paper: R2-D2 and its baselines", "CIFAR-10", "cifar10", "cifar10_cpu"),
    "8": Table("Table 8 of the paper: R2-D2 and its baselines", "SVHN", "svhn", "svhn_cpu"),
    "mnist": Table("Figure 2 of the paper, for which it gives no errors", "MNIST", "mnist", "mnist"),
}


def rows_of(table: str, base: Config) -> list[Row]:
    """The rows of a table, for an experiment whose stage 2 has the rounds of table 1's column e."""
    if not base.rounds:
        raise ValueError("the rows of a table change or use stage 2: give the experiment --rounds")
    if table == "1":
        return _strategies(base.parsed_rounds)
    if table == "2":
        errors = {0.1: 5.78, 0.2: 5.44, 0.3: 5.81, 0.4: 5.90, 0.5: 6.11}
        return [Row(f"alpha {alpha}", (f"--alpha={alpha}", "--beta=0.03"), paper) for alpha, paper in errors.items()]
    if table == "3":
        errors = {0.01: 5.62, 0.02: 5.75, 0.03: 5.78, 0.04: 5.83, 0.05: 5.76}
        return [Row(f"beta {beta}", ("--alpha=0.1", f"--beta={beta}"), paper) for beta, paper in errors.items()]
    if table == "4":
        losses = {"reverse_kl": 5.78, "forward_kl": 8.06, "squared_l2": 6.35}
        return [Row(loss, (f"--class_loss={loss}",), paper) for loss, paper in losses.items()]
    if table == "mnist":
        return [
            Row(f"{number:,} labels, {name}", (f"--num_labels={number}", *flags), None)
            for number in (1000, 100)
            for name, flags in (("supervised", STAGE_1_ALONE), ("R2-D2", ()))
        ]
    all_labels, few_labels, r2d2 = {
        "5": ((30.43, 10.76), (52.23, 27.54), (41.55, 19.52)),
        "6": ((26.42, None), (38.36, None), (32.87, None)),
        "7": ((2.86, None), (14.90, None), (5.72, None)),
        "8": ((2.88, None), (11.27, None), (3.64, None)),
    }[table]
    return [
        Row("supervised, all labels", _all_labels(base), *all_labels),
        Row("supervised, the given labels only", STAGE_1_ALONE, *few_labels),
        Row("hard pseudo-labels", _hard_pseudo_labels(base), None),
        Row("R2-D2", (), *r2d2),
    ]


STAGE_1_ALONE = ("--rounds=", "--finetune_epochs=0")


def _strategies(rounds: Sequence[Round]) -> list[Row]:
    def flag(chosen: Sequence[Round]) -> str:
        return "--rounds=" + ",".join(f"{r.epochs}:{r.learning_rate}" for r in chosen)

    constant = flag([Round(r.epochs, rounds[0].learning_rate) for r in rounds])
    return [
        Row("a: first round alone", (flag(rounds[:1]),), 6.71),
        Row("b: all rounds, no reprediction, constant rate", (constant, "--norepredict"), 6.37),
        Row("c: reprediction, constant rate", (constant,), 6.23),
        Row("d: no reprediction, falling rate", ("--norepredict",), 5.94),
        Row("e: reprediction, falling rate", (), 5.78),
    ]


def _epochs_after_stage_1(base: Config) -> int:
    return sum(r.epochs for r in base.parsed_rounds) + base.finetune_epochs


def _hard_pseudo_labels(base: Config) -> tuple[str, ...]:
    """Stage 1, one prediction, then cross entropy for as many epochs as R2-D2 has left, at stage 2's first rate; adopted.

    At stage 3's rate, which is to move a trained network a little, the network would hardly leave stage 1.
    """
    epochs = _epochs_after_stage_1(base)
    return (
        "--rounds=",
        "--finetune_from=prediction",
        f"--finetune_epochs={epochs}",
        f"--finetune_learning_rate={base.parsed_rounds[0].learning_rate:.6g}",
        f"--finetune_cosine_epochs={epochs}",
    )


def _all_labels(base: Config) -> tuple[str, ...]:
    """Stage 1 alone, on all labels, with the batch, first rate and number of epochs of stages 2 and 3; adopted."""
    epochs = _epochs_after_stage_1(base)
    length = math.ceil(epochs * base.supervised_cosine_epochs / base.supervised_epochs)
    rate = base.parsed_rounds[0].learning_rate
    return (
        *STAGE_1_ALONE,
        "--num_labels=0",
        "--split_file=",
        f"--supervised_epochs={epochs}",
        f"--supervised_cosine_epochs={length}",
        f"--supervised_batch_size={base.batch_size}",
        f"--supervised_learning_rate={rate:.6g}",
    )
