"""The recipes that somebody's own images may be trained by, the cheapest first."""

import dataclasses
from dataclasses import dataclass

from r2d2_tf.config.command_line import named_flags
from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import PHOTOGRAPH_SIZE
from r2d2_tf.recipes import from_scratch, pretrained
from r2d2_tf.recipes.facts import Facts
from r2d2_tf.recipes.proposed import Choice

HEAD, FROM_SCRATCH = "head", "from scratch"


@dataclass(frozen=True)
class Recipe:
    """A way to train.

    Attributes:
        name: in a word or two.
        about: what it is, for people.
        choices: its flags.
        seconds: that a run of it takes, about.
        trial_seconds: that another run on a part of the same images takes, whose features are kept.
        stage_1_seconds: that stage 1 of it takes alone, in such a run.
        tried: from so many seconds to so many that a run takes by what was tried on this machine; None: `seconds` is reckoned.
    """

    name: str
    about: str
    choices: tuple[Choice, ...]
    seconds: float
    trial_seconds: float
    stage_1_seconds: float
    tried: tuple[float, float] | None = None

    def applied(self, config: Config) -> Config:
        """A config of the data alone with the recipe's flags."""
        return dataclasses.replace(config, **named_flags([f"--{choice.flag}={choice.value}" for choice in self.choices]))


def recipes_for(facts: Facts) -> list[Recipe]:
    """All that suit the data."""
    recipes = [_from_scratch(facts)]
    if facts.has_weights:
        choices = pretrained.head(facts)
        seconds = pretrained.seconds_of(facts, choices)
        size = pretrained.size_for(facts)
        about = f"the head of {pretrained.BACKBONE} with ImageNet's weights, at {size} pixels"
        features = pretrained.feature_seconds(facts, size)
        recipes.insert(0, Recipe(HEAD, about, tuple(choices), seconds, seconds - features, seconds - features))
    return recipes


def _from_scratch(facts: Facts) -> Recipe:
    choices = from_scratch.propose(facts)
    value = {choice.flag: choice.value for choice in choices}
    side = int(value.get("image_size", max(facts.image_shape or (PHOTOGRAPH_SIZE,))))
    near = from_scratch.nearest(facts)
    seconds = from_scratch.seconds_of(facts, near, choices, side)
    # Trials are tested on one image.
    trial = dataclasses.replace(facts, num_test=1)
    alone = [choice._replace(value="") if choice.flag == "rounds" else choice for choice in choices]
    return Recipe(
        FROM_SCRATCH,
        f"{value['backbone']} from random weights, at {side} pixels",
        tuple(choices),
        seconds,
        from_scratch.seconds_of(trial, near, choices, side),
        from_scratch.seconds_of(trial, near, alone, side),
    )
