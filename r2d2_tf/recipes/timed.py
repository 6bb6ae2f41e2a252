"""How long a run of a recipe takes on this machine, by a few of its steps; and a first model in five minutes."""

import dataclasses
import math
import time

from r2d2_tf.config.config import Config
from r2d2_tf.data.image_data import NO_COPY
from r2d2_tf.recipes.facts import Facts
from r2d2_tf.recipes.recipe import Recipe, recipes_for
from r2d2_tf.system.messages import time_text

QUICK_MINUTES = 5.0
"""Of the first model that is offered beside the full one."""


def timed(recipe: Recipe, config: Config) -> Recipe:
    """The recipe with the seconds that a run of it takes by what is tried now; as it is if it cannot be tried.

    Args:
        recipe: to be tried; imports TensorFlow.
        config: of the data alone.
    """
    from tensorflow.errors import OpError

    from r2d2_tf.training.callbacks.collapse import RunStopped

    try:
        # A copy of the photographs is made for a run that is made.
        seconds, features, stage_1 = _tried(
            dataclasses.replace(recipe.applied(config), held_out="none", image_copy=NO_COPY, new_run=False)
        )
    except (ValueError, ArithmeticError, OSError, RunStopped, OpError):
        # Whoever trains by it is told why.
        return recipe
    middle = math.sqrt(seconds[0] * seconds[1])
    again = max(0.0, middle - features)
    return dataclasses.replace(recipe, seconds=middle, trial_seconds=again, stage_1_seconds=stage_1, tried=seconds)


def _tried(config: Config) -> tuple[tuple[float, float], float, float]:
    """From so many to so many seconds of a run; how many of them features take that later runs find, and how many stage 1."""
    from r2d2_tf.training.experiment import Experiment
    from r2d2_tf.training.timing import work
    from r2d2_tf.training.timing.trial import estimate

    began = time.perf_counter()
    experiment = Experiment(config)
    found = estimate(experiment, time.perf_counter() - began, is_brief=True)
    seconds = found.seconds()
    return (seconds.low, seconds.high), found.seconds(work.VIEW).middle, found.seconds(stage=1).middle


def duration_text(recipe: Recipe) -> str:
    """How long a run takes, and how sure that is."""
    if recipe.tried is None:
        return f"about {time_text(recipe.seconds)}, reckoned and not tried"
    return time_text(*recipe.tried)


def quick_words(facts: Facts, recipes: list[Recipe]) -> str | None:
    """What a first model in QUICK_MINUTES gives up of what `recipes` do in the minutes of `facts`; None: none is sooner."""
    if facts.minutes < 2 * QUICK_MINUTES:
        return None
    quick = recipes_for(dataclasses.replace(facts, minutes=QUICK_MINUTES))[0]
    sides = [_side(recipe) for recipe in (quick, recipes[0])]
    # Where it is the same recipe, what was tried of that holds.
    seconds = recipes[0].seconds * (sides[0] / sides[1]) ** 2 if sides[1] and quick.name == recipes[0].name else quick.seconds
    if seconds > 60 * QUICK_MINUTES:
        return None
    gives_up = [f"images at {sides[0]} pixels in place of {sides[1]}"] * (sides[0] != sides[1])
    gives_up += ["fewer labels held out in turn to choose by", *[f"{other.name} is not tried" for other in recipes[1:]]]
    return f"it gives up: {', '.join(gives_up)}"


def _side(recipe: Recipe) -> int:
    """Side in which the network sees images, in pixels; 0: as they are."""
    value = {choice.flag: choice.value for choice in recipe.choices}
    return int(value.get("network_size") or value.get("image_size") or 0)
