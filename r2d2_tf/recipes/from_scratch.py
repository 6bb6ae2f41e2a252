"""A recipe for a network at random: the project's nearest config, fitted to how many images there are.

What is taken over as it stands was tried on that config's own data; every change is a rule that was adopted, and tried on a few
sets alone (docs/photographs.md). Without TensorFlow.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.config.config import Config
from r2d2_tf.method.schedules import Round
from r2d2_tf.recipes.facts import Facts
from r2d2_tf.recipes.image_cost import CPU_CORE, GPU, Cost
from r2d2_tf.recipes.proposed import UNTESTED, WHOLE, Choice
from r2d2_tf.system.commands import root

CONFIGS = root() / "configs"
_SIZES = (224, 160, 128, 96, 64)
"""Sides of a photograph that are proposed, the largest first that is affordable."""
_LEAST_SIDE = 16
"""That small images in files are shown in, in pixels."""
_FEWEST_STEPS = 10
"""In an epoch, so that there are some between two looks at the test images."""
_LEAST_BATCH = 4
_ABOUT_EQUAL = 1.1
_LEAST_FINETUNING = 3
"""Epochs of stage 3: its rate falls from epoch to epoch, and one alone would end at the rate with which it began."""
_SHARE_OF_TIME = 1 / 3
"""That one run may take of the whole: it is tried before it is made."""
_SECONDS_AN_EPOCH = 0.3
"""That an epoch is reckoned to take beside its steps: shuffling, a row of the table."""
_LONGER = 4
"""How many times as many epochs as its config's a stage may have at most."""


class NearestConfig(NamedTuple):
    """A config of the project, how many images it was written for, and its network's multiply-adds for one of `side` pixels."""

    config: str
    labeled: int
    unlabeled: int
    multiply_adds: float
    side: int


DIGITS = NearestConfig("mnist5k", 100, 3900, 2.3e6, 28)
SMALL = NearestConfig("cifar100_cpu", 1600, 6400, 2.5e6, 32)
PHOTOGRAPHS = NearestConfig("photographs_cpu", 100, 900, 0.6e9, 128)
SMALL_ON_GPU = NearestConfig("cifar100", 10_000, 40_000, 0.73e9, 32)
PHOTOGRAPHS_ON_GPU = NearestConfig("imagenet", 128_000, 1_153_167, 1.8e9, 224)


def nearest(facts: Facts) -> NearestConfig:
    """The config of the project whose data are most like these."""
    if facts.has_photographs:
        return PHOTOGRAPHS_ON_GPU if facts.has_gpu else PHOTOGRAPHS
    height, width, channels = facts.image_shape or (facts.shorter_side, facts.shorter_side, 3)
    # Of fewer pixels the pooling of the other two networks leaves none.
    if min(height, width) < _LEAST_SIDE:
        return SMALL
    if channels == 1 and max(height, width) <= DIGITS.side + 4:
        return DIGITS
    return SMALL_ON_GPU if facts.has_gpu else SMALL


def propose(facts: Facts) -> list[Choice]:
    """The flags that suit the data, beside those that name them."""
    near = nearest(facts)
    base = from_command_line([f"--flagfile={CONFIGS / near.config}.cfg"])
    whence = f"as configs/{near.config}.cfg"
    choices = [Choice("backbone", base.backbone, _why_backbone(facts), whence), *_stage_1(facts, base, near, whence)]
    if not has_stage_2(facts):
        why = f"{facts.num_unlabeled} unlabeled images are too few to learn from"
        choices += [Choice("rounds", "", why, UNTESTED), Choice("finetune_epochs", "0", why, UNTESTED)]
    else:
        choices += _later_stages(facts, base, near, whence)
    choices += _augmentation(facts, base, whence)
    if facts.image_shape is None:
        choices.append(_size(facts, near, choices))
        if not facts.has_photographs:
            choices.append(WHOLE)
        choices.append(Choice("image_copy", "auto", "decoded once, not in every epoch", UNTESTED))
    choices.append(Choice("weight_decay", f"{base.weight_decay:g}", "", whence))
    if base.supervised_weight_decay >= 0:
        choices.append(Choice("supervised_weight_decay", f"{base.supervised_weight_decay:g}", "", whence))
    return [*choices, Choice("eval_batch_size", f"{base.eval_batch_size}", "", whence)]


def has_stage_2(facts: Facts) -> bool:
    """Whether there are unlabeled images enough for one batch."""
    return facts.num_unlabeled >= _unlabeled_in(_LEAST_BATCH)


def _unlabeled_in(batch: int) -> int:
    return batch * 3 // 4


def _why_backbone(facts: Facts) -> str:
    where = "a GPU" if facts.has_gpu else "a CPU"
    height, width = (facts.shorter_side,) * 2 if facts.image_shape is None else facts.image_shape[:2]
    what = "photographs" if facts.has_photographs else f"{width}x{height} pixels"
    return f"{what} on {where}"


def _stage_1(facts: Facts, base: Config, near: NearestConfig, whence: str) -> Iterator[Choice]:
    batch = max(_LEAST_BATCH, min(base.supervised_batch_size, facts.num_labeled // 5))
    share = batch / base.supervised_batch_size
    own = batch == base.supervised_batch_size
    why = f"{facts.num_labeled:,} labeled images: five steps an epoch or more"
    yield Choice("supervised_batch_size", f"{batch}", "" if own else why, whence if own else UNTESTED)
    longer = _longer(near.labeled / base.supervised_batch_size, facts.num_labeled / batch)
    epochs = round(base.supervised_epochs * longer)
    reason = f"as many steps as its {near.labeled:,} labeled images have, in 1 to {_LONGER} times its epochs"
    yield Choice("supervised_epochs", f"{epochs}", reason, whence if longer == 1 else UNTESTED)
    cosine = round(epochs * base.supervised_cosine_epochs / base.supervised_epochs)
    yield Choice("supervised_cosine_epochs", f"{max(epochs, cosine)}", "in its proportion to the epochs", whence)
    yield _rate("supervised_learning_rate", base.supervised_learning_rate, share, whence)


def _longer(steps_then: float, steps_now: float) -> float:
    """By how much epochs of `steps_now` are to be more, so that there are as many steps in all."""
    longer = steps_then / max(1.0, steps_now)
    return min(float(_LONGER), longer) if longer > _ABOUT_EQUAL else 1.0


def _rate(flag: str, rate: float, share: float, whence: str) -> Choice:
    own = share == 1
    return Choice(flag, f"{rate * share:.3g}", "" if own else "in proportion to the batch", whence if own else UNTESTED)


def _later_stages(facts: Facts, base: Config, near: NearestConfig, whence: str) -> Iterator[Choice]:
    batch = base.batch_size
    while batch > _LEAST_BATCH and facts.num_unlabeled // _unlabeled_in(batch) < _FEWEST_STEPS:
        batch //= 2
    share, own = batch / base.batch_size, batch == base.batch_size
    steps = facts.num_unlabeled // _unlabeled_in(batch)
    why = f"{facts.num_unlabeled:,} unlabeled images: {steps:,} steps an epoch"
    yield Choice("batch_size", f"{batch}", why, whence if own else UNTESTED)
    longer = _longer(near.unlabeled / _unlabeled_in(base.batch_size), steps)
    rounds = [Round(max(1, round(r.epochs * longer)), r.learning_rate * share) for r in base.parsed_rounds]
    same = own and longer == 1
    text = ",".join(f"{r.epochs}:{r.learning_rate:.3g}" for r in rounds)
    reason = "as many steps as its data have, at rates in proportion to the batch" if not same else ""
    yield Choice("rounds", text, reason, whence if same else UNTESTED)
    visits = sum(r.epochs for r in rounds) / sum(r.epochs for r in base.parsed_rounds)
    lr = f"{base.pseudo_label_lr / visits:.3g}"
    reason = "" if visits == 1 else f"a row is visited {visits:.3g} times as often, and goes as far in all"
    yield Choice("pseudo_label_lr", f"{float(lr):g}", reason, whence if visits == 1 else UNTESTED)
    yield Choice("finetune_batch_size", f"{batch}", "that of stage 2", whence if own else UNTESTED)
    epochs = max(_LEAST_FINETUNING, round(base.finetune_epochs * longer))
    reason = "so that its rate falls" if epochs == _LEAST_FINETUNING else "as many steps as its data have"
    kept = epochs == base.finetune_epochs
    yield Choice("finetune_epochs", f"{epochs}", "" if kept else reason, whence if kept else UNTESTED)
    yield Choice("finetune_cosine_epochs", f"{epochs}", "to the end of stage 3", whence)
    yield _rate("finetune_learning_rate", base.finetune_learning_rate, share, whence)


def _augmentation(facts: Facts, base: Config, whence: str) -> Iterator[Choice]:
    if facts.image_shape is None:
        # Few labels want milder crops than ImageNet's.
        mild = from_command_line([f"--flagfile={CONFIGS / PHOTOGRAPHS.config}.cfg"]).crop_scale
        source = f"as configs/{PHOTOGRAPHS.config}.cfg"
        yield Choice("crop_scale", f"{mild:g}", "milder than ImageNet's, for few labels", source)
        yield Choice("translate", "0", "photographs are cropped at random", whence)
    else:
        side = min(facts.image_shape[:2])
        yield Choice("translate", f"{min(base.translate, side // 8)}", f"of {side} pixels", whence)
    if facts.has_photographs:
        yield Choice("flip", "true", "take it out if left and right make a class (letters, signs)", whence)
        return
    yield Choice("flip", "false", "put it in if a mirrored image is of the same class", UNTESTED)


def _size(facts: Facts, near: NearestConfig, choices: Sequence[Choice]) -> Choice:
    # Pixels that are made up teach nothing.
    if not facts.has_photographs:
        return Choice("image_size", f"{max(_LEAST_SIDE, facts.shorter_side)}", "the files' own", UNTESTED)
    sizes = [size for size, smaller in zip(_SIZES, (*_SIZES[1:], 0), strict=True) if smaller < facts.shorter_side]
    seconds = {size: seconds_of(facts, near, choices, size) for size in sizes}
    most = 60 * facts.minutes * _SHARE_OF_TIME
    size = next((size for size in sizes if seconds[size] <= most), sizes[-1])
    reason = f"the largest of {', '.join(map(str, sizes))} that a third of {facts.minutes:g} minutes carries"
    if seconds[size] > most:
        reason = f"the smallest that is proposed; it takes more than a third of {facts.minutes:g} minutes"
    reason += f"; files have {facts.shorter_side}"
    return Choice("image_size", f"{size}", reason, f"as configs/{near.config}.cfg" if size == near.side else UNTESTED)


def seconds_of(facts: Facts, near: NearestConfig, choices: Sequence[Choice], side: int) -> float:
    """About how long a run takes, evaluation after each epoch included, on a GPU or one CPU core; see image_cost."""
    value = {choice.flag: choice.value for choice in choices}
    epochs = int(value["supervised_epochs"])
    trained, predicted = epochs * facts.num_labeled, epochs * facts.num_test
    if value["rounds"]:
        rounds = [int(part.partition(":")[0]) for part in value["rounds"].split(",")]
        finetune = int(value["finetune_epochs"])
        total = facts.num_labeled + facts.num_unlabeled
        trained += sum(rounds) * facts.num_unlabeled * 4 // 3 + finetune * total
        predicted += (sum(rounds) + finetune) * facts.num_test + (len(rounds) + 1) * facts.num_unlabeled
    multiply_adds = near.multiply_adds * (side / near.side) ** 2
    seconds = Cost(trained, predicted).seconds(multiply_adds, GPU if facts.has_gpu else CPU_CORE)
    all_epochs = epochs + (sum(rounds) + finetune if value["rounds"] else 0)
    return seconds + _SECONDS_AN_EPOCH * all_epochs
