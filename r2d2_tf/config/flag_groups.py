"""The groups in which `--help` shows the flags: each maker makes a field of Config that knows its flag's group."""

import dataclasses
import functools
from typing import Any


def _flag(group: str, default: Any, help_text: str, **checks: Any) -> Any:
    return dataclasses.field(default=default, metadata={"group": group, "help": help_text, **checks})


# Of the metadata, `later` is a flag of which stage 1 knows nothing, `last` one of which stages 1 and 2 know nothing, `cosmetic`
# one that changes no result, and `unnamed` are values that are not in the name of a run's folder, though they change the run:
# one of them older runs had in place of the default.
daily = functools.partial(_flag, "Every day")
data = functools.partial(_flag, "Data")
network = functools.partial(_flag, "Network and weights")
stage_1 = functools.partial(_flag, "Stage 1: supervised")
stage_2 = functools.partial(_flag, "Stage 2: the method, D2 and R2", later=True)
stage_3 = functools.partial(_flag, "Stage 3: fine-tuning", later=True, last=True)
augmentation = functools.partial(_flag, "Augmentation")
run = functools.partial(_flag, "The run: its name, its checkpoints, and when it stops")
hardware = functools.partial(_flag, "Hardware and processes", cosmetic=True)
