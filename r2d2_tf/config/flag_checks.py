"""Do the values of several flags go together? Each check raises ValueError: what came, what is allowed and how to mend it."""

import dataclasses
import difflib
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from r2d2_tf.backbones.weights import packages

NO_WEIGHTS, IMAGENET = "none", "imagenet"
"""What --weights may be beside a file."""
KERAS_FILES, TORCH_FILES = (".weights.h5", ".keras"), (".pth", ".safetensors")
"""How the names of such files end: what Keras saves for any network, and PyTorch for EfficientNet-Lite."""
ALL, HEAD, HEAD_THEN_ALL = "all", "head", "head_then_all"
"""What is trained of a network: --trainable."""
LONGEST_NAME = 200
"""Bytes of --name: with the hash, and the number of a run that is moved aside, it must be the name of a folder."""


def check_weights_of_losses(alpha: float, beta: float, class_loss: str) -> None:
    """Theorem 1 speaks of the paper's own class loss."""
    if beta >= alpha and class_loss == "reverse_kl":
        raise ValueError(f"beta ({beta}) must be below alpha ({alpha}), theorem 1: lower --beta or raise --alpha")


def unwise(alpha: float, beta: float, compatibility: float | None) -> list[str]:
    """Warnings of weights of losses, a line each; `compatibility` is None where labeled rows are not learned."""
    told = []
    if beta >= alpha:
        told.append(f"beta ({beta}) is not below alpha ({alpha}); theorem 1 covers beta < alpha only")
    if compatibility is not None and compatibility >= alpha:
        told.append(
            f"compatibility ({compatibility}) is not below alpha ({alpha}), so that a label keeps half of its row's "
            "probability at least and is never given up: lower --compatibility"
        )
    return told


def check_table_is_learned(rounds: str, finetune_epochs: int, finetune_from: str) -> None:
    """Stage 3 may take its labels from the table only where stage 2 learned one."""
    if not rounds and finetune_epochs and finetune_from == "table":
        raise ValueError(
            "rounds is empty, so stage 3 has no learned table: add --finetune_from=prediction (hard pseudo-labels) or "
            "--finetune_epochs=0 (stage 1 alone)"
        )


def check_cosine(stage: str, epochs: int, length: int) -> None:
    """`stage` is how the two flags begin; a `length` of 0 is a constant rate."""
    if 0 < length < epochs:
        raise ValueError(
            f"{stage}_cosine_epochs ({length}) is shorter than {stage}_epochs ({epochs}), so that the rate would rise "
            f"again: raise --{stage}_cosine_epochs, or set it to 0 for a constant rate"
        )


def check_augmentation(*, translate: int, cutout: int, image_shape: tuple[int, int, int]) -> None:
    """Both in pixels."""
    shorter = min(image_shape[:2])
    if cutout % 2:
        raise ValueError(f"cutout ({cutout}) must be even: try --cutout={cutout + 1}")
    if cutout > shorter:
        raise ValueError(f"cutout ({cutout}) must be at most the image's {shorter} pixels: lower --cutout")
    if translate >= shorter:
        raise ValueError(f"translate ({translate}) must be below the image's {shorter} pixels: lower --translate")


def parsed_rand_augment(text: str) -> tuple[int, float, bool]:
    """Of --rand_augment: operations an image, their strength (0..1), and whether stage 2 has them too.

    >>> parsed_rand_augment("2:9"), parsed_rand_augment("1:5:all"), parsed_rand_augment("")
    ((2, 0.9, False), (1, 0.5, True), (0, 0.0, False))
    """
    found = re.fullmatch(r"([1-9]):([1-9]|10)(:all)?", text)
    if text and not found:
        raise ValueError(
            f"rand_augment ({text!r}) must be operations an image, 1 to 9, and their strength, 1 to 10, as in "
            "--rand_augment=2:9, or 2:9:all for stage 2 too"
        )
    return (int(found[1]), int(found[2]) / 10, bool(found[3])) if found else (0, 0.0, False)


def check_dataset_name(dataset: str, prefix: str) -> None:
    """Of a TFDS set, as in tfds:imagenette/160px-v2; it becomes part of paths."""
    if dataset.startswith(prefix) and not re.fullmatch(
        r"[A-Za-z0-9_]+(/[A-Za-z0-9_.-]*[A-Za-z0-9_-])?", dataset[len(prefix) :]
    ):
        raise ValueError(f"dataset ({dataset!r}) names no TFDS set: write {prefix}NAME or {prefix}NAME/CONFIG")


def check_labels(dataset: str, *, is_own: bool, labels: str, split_file: str, num_labels: int, test_fraction: float) -> None:
    """Labels must come from one place; `num_labels` is 0 where it was not asked for."""
    given = f"dataset ({dataset}) brings its labels" if is_own else f"labels ({labels}) gives the labels"
    if (is_own or labels) and split_file:
        raise ValueError(f"{given}, so that split_file ({split_file}) has nothing to say: leave one out")
    if (is_own or labels) and num_labels:
        raise ValueError(f"{given}, so that num_labels ({num_labels}) draws none: leave it out, or set --num_labels=0")
    if test_fraction and not is_own:
        raise ValueError(f"dataset ({dataset}) has test images, and test_fraction ({test_fraction}) takes none: leave it out")


def check_soft_labels(soft: bool, labels: str, label_noise: float, learn_labeled_rows: bool) -> None:
    """Of --soft_labels and what else is done to given labels."""
    if soft and not labels:
        raise ValueError("soft_labels needs probabilities: give --labels, a file that holds them, or leave it out")
    for name, value in (("label_noise", label_noise), ("learn_labeled_rows", learn_labeled_rows)):
        if soft and value:
            raise ValueError(f"{name} ({str(value).lower()}) is for labels of one class, not for soft_labels: leave one out")


def check_image_size(dataset: str, fits: bool) -> None:
    """`fits`: the images are photographs, or no size was asked for."""
    if not fits:
        raise ValueError(f"dataset ({dataset}) has images of one size, which image_size does not change: leave it out")


def check_replicas(batch_sizes: Mapping[str, int], num_replicas: int) -> None:
    """A stage's batch must have an image for each replica; sizes by their flags."""
    for field, size in batch_sizes.items():
        if size < num_replicas:
            raise ValueError(
                f"{field} ({size}) is smaller than the number of replicas ({num_replicas}): raise it, or use fewer devices"
            )


def check_cpus(strategy: str, num_logical_cpus: int) -> None:
    """A process of several has one CPU replica."""
    if strategy == "multi_worker" and num_logical_cpus > 1:
        raise ValueError(
            f"num_logical_cpus ({num_logical_cpus}) does nothing with --strategy=multi_worker, where each process has one CPU "
            "replica: leave it out, or start more processes"
        )


def check_result_stage(stage: int, trained: Sequence[bool]) -> None:
    """Of --result_stage; `trained` says of stages 1 to 3 whether their networks will be there."""
    if stage and not trained[stage - 1]:
        there = ", ".join(str(number) for number, is_there in enumerate(trained, start=1) if is_there)
        raise ValueError(f"result_stage ({stage}) is no stage of this run, which has {there}: change --result_stage")


def check_name(name: str) -> None:
    """Of a run."""
    if "/" in name or "#" in name:
        raise ValueError(f"name ({name!r}) must hold neither / nor #: change --name, or use --run_dir for a place")
    if len(name.encode()) > LONGEST_NAME:
        raise ValueError(f"name ({name!r}) must have at most {LONGEST_NAME} bytes: give a shorter --name")


def check_weights(weights: str, backbone: str) -> None:
    """Of --weights, whether or not a file that it names is there."""
    if weights == IMAGENET and not backbone.startswith("keras.applications:") and backbone not in packages.PACKAGES:
        raise ValueError(
            f"weights ({weights}) are there for networks of keras.applications and {', '.join(packages.PACKAGES)} alone, not "
            f"for {backbone}: take one of those as --backbone, or give a file"
        )
    if weights not in (NO_WEIGHTS, IMAGENET) and not weights.endswith(KERAS_FILES + TORCH_FILES):
        raise ValueError(
            f"weights ({weights!r}) must be none, imagenet, or a file {' or '.join(KERAS_FILES + TORCH_FILES)}: "
            "change --weights"
        )
    if weights.endswith(TORCH_FILES) and backbone not in packages.PACKAGES:
        raise ValueError(
            f"weights ({weights}) from PyTorch are read for {', '.join(packages.PACKAGES)} alone, not for {backbone}: take one "
            f"of those as --backbone, or give a file {' or '.join(KERAS_FILES)}"
        )


def check_weights_file(weights: str, backbone: str) -> None:
    """Whether a file that --weights names is there, and a package with ImageNet's weights for such a network."""
    if weights == IMAGENET and backbone in packages.PACKAGES:
        packages.file_of(backbone)
    if weights not in (NO_WEIGHTS, IMAGENET) and not Path(weights).expanduser().is_file():
        raise ValueError(f"weights ({weights}) is not there, or is no file: change --weights")


def check_freezing(freeze_epochs: int, weights: str, supervised_epochs: int) -> None:
    """Of --freeze_epochs."""
    if freeze_epochs and weights == NO_WEIGHTS:
        raise ValueError(
            f"freeze_epochs ({freeze_epochs}) trains the head on features that are random with --weights={weights}: give "
            "--weights, or leave it out"
        )
    if freeze_epochs > supervised_epochs:
        raise ValueError(
            f"freeze_epochs ({freeze_epochs}) are more than stage 1 has, supervised_epochs ({supervised_epochs}): lower it"
        )


def check_features(trainable: str, weights: str, warm_start: str, unseen: Mapping[str, object]) -> None:
    """Of --trainable, where features are computed once; `unseen` are flags with values that they would not show."""
    if weights == NO_WEIGHTS and not warm_start:
        raise ValueError(
            f"trainable ({trainable}) trains a head on features that are random with --weights={weights}: give --weights, as "
            "in --backbone=efficientnet_lite0 --weights=imagenet, or leave it out"
        )
    for name, value in unseen.items():
        if value:
            raise ValueError(
                f"{name} ({value}) says nothing with --trainable={trainable}, whose features are computed once: leave one out"
            )


def check_statistics(statistics: str, weights: str, warm_start: str) -> None:
    """Of --batch_norm_statistics."""
    if statistics == "stored" and weights == NO_WEIGHTS and not warm_start:
        raise ValueError(
            f"batch_norm_statistics ({statistics}) are of no images with --weights={weights}: give --weights, or leave it out"
        )


def check_homes(paths: Mapping[str, str]) -> None:
    """Of flags that name files or folders."""
    for name, path in paths.items():
        try:
            Path(path).expanduser()
        except RuntimeError as error:
            raise ValueError(f"{name} ({path!r}) begins with a user who has no home: change --{name}") from error


def labeled_per_batch(batch_size: int, ratio: str) -> int:
    """Labeled images in a batch that is parted into labeled and unlabeled ones as `ratio`, such as 1:3, says."""
    try:
        labeled, unlabeled = (int(part) for part in ratio.split(":"))
        valid = labeled > 0 and unlabeled > 0
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(
            f"labeled_to_unlabeled ({ratio!r}) must be two whole numbers above 0, as in --labeled_to_unlabeled=1:3"
        )
    total = labeled + unlabeled
    if batch_size % total:
        raise ValueError(
            f"batch_size ({batch_size}) cannot be parted {ratio}: make --batch_size a "
            f"multiple of {total}, for example {max(1, round(batch_size / total)) * total}"
        )
    return batch_size // total * labeled


_MOST = {int: 2**31 - 1, float: 1e30}
"""What a number may be where a flag sets no limit of its own: it must fit into 32 bits."""


def checked(field: dataclasses.Field, value: Any) -> Any:
    """A flag's value, a float where that is what the flag takes; a path and NumPy's numbers are taken for what they say."""
    name, kind = field.name, type(field.default)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    elif isinstance(value, np.generic):
        value = value.item()
    if kind is float and type(value) is int:
        value = float(value) if abs(value) < 2**1023 else math.inf
    if type(value) is not kind:
        raise ValueError(f"{name} ({value!r}) must be a value of type {kind.__name__}: change --{name}")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{name} ({value}) must be a finite number: change --{name}")
        value += 0.0  # -0.0 would be equal to 0.0, and have another digest.
    _check(name, value, field.metadata)
    return value


def _check(name: str, value: Any, allowed: Mapping[str, Any]) -> None:
    if isinstance(value, str) and (value != value.strip() or not value.isprintable()):
        raise ValueError(f"{name} ({value!r}) must not begin or end with a space or hold control characters: change --{name}")
    if type(value) in _MOST:
        allowed = {"high": _MOST[type(value)], **allowed}
    choices = allowed.get("choices")
    others = allowed.get("others", "")
    begins = value.startswith(allowed["beginning"]) if "beginning" in allowed else bool(others) and ":" in value
    if choices is not None and value not in choices and not begins:
        near = difflib.get_close_matches(value, choices, n=1, cutoff=0.0)[0]
        more = f", {others}" if others else ""
        raise ValueError(f"{name} ({value!r}) must be one of {', '.join(choices)}{more}: did you mean --{name}={near}?")
    for key, words, ok in (
        ("low", "at least", lambda v, limit: v >= limit),
        ("above", "above", lambda v, limit: v > limit),
        ("high", "at most", lambda v, limit: v <= limit),
        ("below", "below", lambda v, limit: v < limit),
    ):
        if key in allowed and not ok(value, allowed[key]):
            raise ValueError(f"{name} ({value}) must be {words} {allowed[key]}: change --{name}")
