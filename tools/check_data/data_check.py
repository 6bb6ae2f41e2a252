"""What is in somebody's own images, told and drawn, and the config that is proposed for them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from r2d2_tf.config.config import Config
from r2d2_tf.config.path_flags import define_path
from r2d2_tf.data.datasets import OWN_SETS, PHOTOGRAPH_SIZE, TFDS_PREFIX
from r2d2_tf.data.file_kinds import is_dark
from r2d2_tf.data.image_data import DatasetSpec, ImageData
from r2d2_tf.recipes.facts import Facts, facts_of, looks_of
from r2d2_tf.recipes.inputs import MINUTES, TEST_FRACTIONS, with_test_images
from r2d2_tf.system import terminal
from r2d2_tf.system.commands import command_of
from r2d2_tf.system.startup import import_tensorflow_quietly
from tools.check_data import data_text, proposal

if TYPE_CHECKING:
    from tools.check_data.image_inspection import InspectedImage

TEST_FRACTION, _HALF = TEST_FRACTIONS
"""What is proposed where no test images are set apart; and where that is less than one of each class."""


def define_flags() -> flags.FlagValues:
    """The flags of tools.check_data."""
    flag_values = flags.FlagValues()
    define_path("data_dir", "", "folder of images, .npz file, or folder of prepared TFDS sets", flag_values=flag_values)
    flags.DEFINE_string(
        "dataset", "", "folder, npz or tfds:NAME; by default what --data_dir looks like", flag_values=flag_values
    )
    define_path("labels", "", "CSV or Parquet file with columns file, label (and split)", flag_values=flag_values)
    define_path("sheet", "own_images.png", "picture of images to write; empty: none", flag_values=flag_values)
    define_path("config_out", "", "flagfile to write; empty: none", flag_values=flag_values)
    flags.DEFINE_integer("num_labels", 0, "labels that a run draws of a TFDS set; 0: all", 0, flag_values=flag_values)
    flags.DEFINE_float("test_fraction", 0.0, "share of the labeled images to test on", 0.0, 0.99, flag_values=flag_values)
    flags.DEFINE_float("minutes", MINUTES, "that everything may take, for the proposal", 0.1, flag_values=flag_values)
    flags.DEFINE_enum("device", "auto", ["auto", "cpu", "gpu"], "what will train, for the proposal", flag_values=flag_values)
    return flag_values


def _config(asked: flags.FlagValues) -> tuple[Config, DatasetSpec]:
    """A config of the data alone, and their spec; takes a fifth of the labeled images for testing where none are set apart.

    Where that is less than one of each class, a half of them; where each class has but one, none.
    """
    dataset = asked.dataset or ("npz" if Path(asked.data_dir).suffix == ".npz" else "folder")
    if dataset not in OWN_SETS and not dataset.startswith(TFDS_PREFIX):
        raise ValueError(f"dataset ({dataset}) must be folder, npz or {TFDS_PREFIX}NAME: change --dataset")
    about = {name: getattr(asked, name) for name in ("data_dir", "labels", "test_fraction", "num_labels")}
    config = Config(dataset=dataset, translate=0, name="check_data", **about)
    return with_test_images(config, needs_test=False)


def _too_few_lines(asked: flags.FlagValues, config: Config, num_test: int) -> list[str]:
    """What to do where a fifth, or the share that was asked for, is less than one image of any class; else nothing."""
    share = asked.test_fraction or TEST_FRACTION
    if num_test and config.test_fraction in (0, share):
        return []
    none = f"TOO FEW LABELS: no test images can be drawn with --test_fraction={share:g}, as no class has so many"
    if num_test:
        found = f"--test_fraction={config.test_fraction:g}"
        return [f"{none}; {found} draws some, as above: give that, make a folder test, or label more"]
    return [f"{none}: label two of each class and give --test_fraction={_HALF:g}, or make a folder test"]


def check(asked: flags.FlagValues) -> int:
    """Prints what was found and what is proposed, and writes sheet and flagfile; returns the exit code.

    Raises:
        ValueError: if it cannot be looked at.
    """
    config, spec = _config(asked)
    import_tensorflow_quietly()
    from r2d2_tf.runs import run_labels
    from tools.check_data.image_inspection import copies_among, inspect_images, near_copies_among

    data = spec.load(config.data_path)
    if data.given_labels is None:
        data = dataclasses.replace(data, given_labels=run_labels.training_labels(data, config, spec.num_classes))
    looks = inspect_images(data)
    copies = list(copies_among(looks))
    sizes, others = data_text.size_lines(looks), data_text.other_lines(config)
    remarks = data_text.remark_lines(spec, data.class_names)
    terminal.say("\n".join([*data_text.count_lines(config, data), "", *sizes, *others, *remarks]))
    labels = {look.label for look in looks if not look.problem and not look.is_test}
    unlabeled = [name for number, name in enumerate(data.class_names) if number not in labels]
    problems = [
        *data_text.unreadable_lines(looks),
        *data_text.depth_lines(looks),
        *data_text.stray_lines(looks),
        *data_text.lost_class_lines(spec.lost_classes),
        *data_text.unlabeled_class_lines(unlabeled),
        *_too_few_lines(asked, config, len(data.test_labels)),
        *data_text.plain_lines(looks),
        *data_text.copy_lines(copies, data.class_names),
        *data_text.near_copy_lines(near_copies_among(looks), data.class_names),
    ]
    terminal.say("\n".join(["", *(problems or ["No image is unreadable, and none is there twice."])]))
    if asked.sheet:
        from tools.check_data import image_sheet

        usable = np.array([not look.problem for look in looks if not look.is_test], bool)
        Path(asked.sheet).parent.mkdir(parents=True, exist_ok=True)
        image_sheet.draw(data, usable, f"{config.data_dir}: training images, as a network sees them", Path(asked.sheet))
        terminal.say(f"\nA sheet of images is in {asked.sheet}: look whether each row is of its class.")
    has_bad_images = any(look.problem for look in looks)
    has_dark_images = any(look.peak >= 0 and is_dark(look.peak) for look in looks)
    is_unfit = has_bad_images or has_dark_images or unlabeled or spec.lost_classes or not len(data.test_labels)
    is_mixed_up = any(group.is_leak or group.is_contradiction for group in copies)
    is_well = not (is_unfit or is_mixed_up)
    again = "" if is_well else command_of("tools.check_data", *_asked_flags(asked))
    facts = _facts(asked, data, looks)
    # What has to be mended first will be looked at again; and another machine cannot be tried.
    can_try = is_well and facts.has_gpu == _has_gpu()
    can_train = len(data.test_labels) > 0 and not unlabeled
    proposal.tell(
        config, facts, asked.config_out, has_bad_images=has_bad_images, can_try=can_try, can_train=can_train, again=again
    )
    return 0 if is_well else 1


def _asked_flags(asked: flags.FlagValues) -> list[str]:
    """The flags that were given, as they go on a command line."""
    return [f"--{name}={asked[name].value}" for name in asked if asked[name].present]


def _has_gpu() -> bool:
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def _facts(asked: flags.FlagValues, data: ImageData, looks: "Sequence[InspectedImage]") -> Facts:
    """What a proposal follows from. What cannot be read is left out of training."""
    readable = [look for look in looks if not look.problem]
    given = np.array([look.label for look in readable if not look.is_test], np.int64)
    return facts_of(
        data,
        given,
        num_test=len(readable) - len(given),
        shorter_side=int(np.median([min(look.width, look.height) for look in looks if look.width] or [PHOTOGRAPH_SIZE])),
        is_grey=looks_of(data.train_images)[1],
        has_gpu=asked.device == "gpu" or (asked.device == "auto" and _has_gpu()),
        minutes=asked.minutes,
    )
