"""A recipe for a network with ImageNet's weights: its head, on features that are computed once."""

import os
from collections.abc import Iterator

from r2d2_tf.recipes.facts import BACKBONE, Facts
from r2d2_tf.recipes.image_cost import GPU
from r2d2_tf.recipes.proposed import UNTESTED, WHOLE, Choice

_SIZES = (224, 192, 160, 128)
"""Sides in which images are shown to the network, the largest first that is affordable; smaller ones are enlarged."""
_MULTIPLY_ADDS, _SIDE = 0.385e9, 224
"""Of BACKBONE, for one image of so many pixels a side."""
_CPU_CORE = 28e9
"""Operations a second of one CPU core: it has convolutions of one channel each, which are slower than others."""
_SHARE_OF_TIME = 0.3
"""That features may take of the whole."""
_VIEWS = 2
_BATCH, _LABELED_BATCH = 64, 40
_ROUNDS = ((10, 0.02), (5, 0.02), (5, 0.014), (5, 0.007))
_ENOUGH_STEPS = 40
"""In an epoch of stage 2, below which its epochs become more."""
_MOST_TIMES = 4
_DECAY, _FEW_CLASSES = 0.1, 10
TRIED = "tried on training images of CIFAR-10, CIFAR-100 and MNIST"
TRIED_SIZE = "tried on training images of CIFAR-10"


def size_for(facts: Facts) -> int:
    """The side in which the network sees the images, in pixels: the largest whose features the time allows.

    Small images are enlarged: the network looks for details of so many pixels.
    """
    affordable = [size for size in _SIZES if feature_seconds(facts, size) <= _SHARE_OF_TIME * 60 * facts.minutes]
    return affordable[0] if affordable else _SIZES[-1]


def feature_seconds(facts: Facts, size: int) -> float:
    """About how long the features take to be computed, in seconds."""
    images = (facts.num_labeled + facts.num_unlabeled) * _VIEWS + facts.num_test
    speed = GPU if facts.has_gpu else _CPU_CORE * (os.cpu_count() or 1)
    return images * 2 * _MULTIPLY_ADDS * (size / _SIDE) ** 2 / speed


def seconds_of(facts: Facts, choices: list[Choice]) -> float:
    """About how long a whole run takes, in seconds: features, and steps of a few milliseconds."""
    value = {choice.flag: choice.value for choice in choices}
    size = int(value.get("image_size") or value["network_size"])
    rounds = sum(int(part.partition(":")[0]) for part in value["rounds"].split(",") if part)
    batch = int(value.get("batch_size", _BATCH))
    steps = rounds * (facts.num_unlabeled * 4 // 3 // batch)
    steps += int(value["finetune_epochs"]) * (facts.num_labeled + facts.num_unlabeled) // batch
    epochs = int(value["supervised_epochs"]) + rounds + int(value["finetune_epochs"])
    return 20 + feature_seconds(facts, size) + 0.004 * steps + 0.1 * epochs


def head(facts: Facts) -> list[Choice]:
    """The flags of the recipe, beside those that name the data."""
    size = size_for(facts)
    shown = f"small images of {facts.side} pixels are enlarged" if facts.side < size else f"files have {facts.side} pixels"
    return [
        Choice("backbone", BACKBONE, "ImageNet's weights for it come along", TRIED),
        Choice("weights", "imagenet", "", TRIED),
        Choice("trainable", "head", "the rest stays as it is: its features are computed once", TRIED),
        Choice("image_size" if facts.image_shape is None else "network_size", f"{size}", shown, TRIED_SIZE),
        *([] if facts.has_photographs or facts.image_shape else [WHOLE]),
        Choice("feature_views", f"{_VIEWS}", "each image and another view of it", TRIED),
        *_augmentation(facts),
        *_stage_1(facts),
        *_later_stages(facts),
        _weight_decay(facts),
    ]


def _weight_decay(facts: Facts) -> Choice:
    # A class has so large a share of the gradient, and is to be drawn to zero in proportion.
    classes = max(_FEW_CLASSES, facts.num_classes)
    status = TRIED if classes == _FEW_CLASSES else UNTESTED
    return Choice("weight_decay", f"{_DECAY / classes:.2g}", "less for many classes", status)


def _augmentation(facts: Facts) -> Iterator[Choice]:
    if facts.is_grey and not facts.has_photographs:
        yield Choice("flip", "false", "small and grey: digits or letters are others in a mirror", UNTESTED)
        yield Choice("translate", f"{max(1, facts.side // 12)}" if facts.image_shape else "0", "", UNTESTED)
        yield Choice("crop_scale", "0.8", "the second view is another part of the image", UNTESTED)
        return
    yield Choice("flip", "true", "take it out if left and right make a class (letters, signs)", TRIED)
    yield Choice("translate", "0", "", TRIED)


def _stage_1(facts: Facts) -> Iterator[Choice]:
    batch = max(4, min(_LABELED_BATCH, facts.num_labeled // 5))
    yield Choice("supervised_batch_size", f"{batch}", f"{facts.num_labeled:,} labeled images", TRIED)
    yield Choice("supervised_epochs", "50", "", TRIED)
    yield Choice("supervised_cosine_epochs", "50", "", TRIED)
    yield Choice("supervised_learning_rate", "0.003", "", TRIED)


def _later_stages(facts: Facts) -> Iterator[Choice]:
    batch = _BATCH
    while batch > 4 and facts.num_unlabeled < batch * 3 // 4 * 4:
        batch //= 2
    if facts.num_unlabeled < batch * 3 // 4:
        why = f"{facts.num_unlabeled} unlabeled images are too few to learn from"
        yield Choice("rounds", "", why, UNTESTED)
        yield Choice("finetune_epochs", "0", why, UNTESTED)
        return
    steps = facts.num_unlabeled // (batch * 3 // 4)
    times = min(_MOST_TIMES, max(1, _ENOUGH_STEPS // steps))
    longer = "" if times == 1 else f"{steps} steps an epoch are few: {times} times as many epochs"
    share = batch / _BATCH
    status = TRIED if (times, share) == (1, 1) else UNTESTED
    yield Choice("batch_size", f"{batch}", f"{facts.num_unlabeled:,} unlabeled images", status)
    yield Choice("rounds", ",".join(f"{times * n}:{rate * share:.3g}" for n, rate in _ROUNDS), longer, status)
    # A row is visited once an epoch, and is to go as far in all.
    yield Choice("pseudo_label_lr", f"{1600 / times:g}", "", status)
    yield Choice("finetune_batch_size", f"{batch}", "that of stage 2", status)
    yield Choice("finetune_epochs", "10", "", TRIED)
    yield Choice("finetune_cosine_epochs", "10", "", TRIED)
    yield Choice("finetune_learning_rate", f"{0.002 * share:.3g}", "", status)
