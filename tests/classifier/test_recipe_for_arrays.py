"""Which recipe arrays get, without a trial, and what of it is the user's."""

import dataclasses

import pytest

from r2d2_tf.classifier import fitting
from r2d2_tf.recipes.facts import Facts

GREY = Facts(80, 900, 20, 8, 8, 10, (28, 28, 1), 28, False, 20.0, True, True)
COLORED = dataclasses.replace(GREY, image_shape=(32, 32, 3), shorter_side=32, is_grey=False)
LARGE = dataclasses.replace(GREY, image_shape=(96, 96, 1), shorter_side=96)


def wish(**parameters):
    given = {"backbone": "auto", "weights": None, "flags": None, "minutes": None, "random_state": 0}
    return fitting.checked_wish(**{**given, **parameters})


@pytest.mark.parametrize(
    ("facts", "parameters", "begins_with_weights"),
    [
        (GREY, {}, False),
        (COLORED, {}, True),
        (LARGE, {}, True),
        (dataclasses.replace(COLORED, has_weights=False), {}, False),
        (COLORED, {"weights": "none"}, False),
        (GREY, {"weights": "imagenet"}, True),
        (COLORED, {"backbone": "wrn_28_2"}, False),
        (COLORED, {"backbone": "efficientnet_lite0"}, True),
        (COLORED, {"backbone": "keras.applications:MobileNetV2", "weights": "imagenet"}, True),
    ],
)
def test_digits_get_a_network_at_random_and_what_looks_like_photographs_weights(facts, parameters, begins_with_weights):
    assert fitting._begins_with_weights(facts, wish(**parameters)) is begins_with_weights


@pytest.mark.parametrize(
    ("parameters", "says_how"),
    [
        ({}, False),
        ({"weights": "none", "flags": {"test_fraction": 0.5}}, False),
        ({"weights": "imagenet"}, True),
        ({"backbone": "lenet"}, True),
        ({"flags": {"flip": True}}, True),
    ],
)
def test_a_recipe_is_chosen_where_nothing_says_how_to_train(parameters, says_how):
    assert wish(**parameters).says_how() is says_how


def test_a_seed_is_drawn_where_none_is_given():
    assert wish(random_state=3).seed == 3
    assert wish(random_state=None).seed != wish(random_state=None).seed
