"""The beginnings that runs share: where a run may start from another one, and which run leaves what several start from."""

import dataclasses
from typing import Any

from r2d2_tf.config.identity import Config

_NOWHERE = {"stage_1_from": "", "stage_2_from": "", "keep_rounds": False}


def check_start(stage_1_from: str, stage_2_from: str, warm_start: str, *, has_rounds: bool, has_later_stages: bool) -> None:
    """Raises ValueError for folders of other runs, or "", that do not go together, or leave nothing to do."""
    for name, folder in (("warm_start", warm_start), ("stage_2_from", stage_2_from)):
        if stage_1_from and folder:
            raise ValueError(f"stage_1_from ({stage_1_from}) and {name} ({folder}) both give a network: leave one out")
    for name, folder in (("stage_1_from", stage_1_from), ("warm_start", warm_start)):
        if folder and not has_later_stages:
            raise ValueError(f"{name} leaves nothing to do: give --rounds or --finetune_epochs")
    if stage_2_from and not has_rounds:
        raise ValueError(f"stage_2_from ({stage_2_from}) is for a run with a stage 2: give --rounds, or leave it out")


def stage_1_alone(config: Config) -> Config:
    """The config without its later stages, whose flags are at their defaults: the same for all that share stage 1."""
    return dataclasses.replace(config, **_defaults(config, "later") | _NOWHERE | {"rounds": "", "finetune_epochs": 0})


def first_round_alone(config: Config) -> Config:
    """The config up to the end of stage 2's first round, which is kept: the same for all that share so much.

    There reprediction has nothing to say yet. The config must have a round.
    """
    first = config.parsed_rounds[0]
    rounds = f"{first.epochs}:{first.learning_rate}"
    alone = {"rounds": rounds, "repredict": True, "finetune_epochs": 0, "keep_rounds": True}
    return dataclasses.replace(config, **_defaults(config, "last") | _NOWHERE | alone)


def _defaults(config: Config, kind: str) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(config) if field.metadata.get(kind)}
