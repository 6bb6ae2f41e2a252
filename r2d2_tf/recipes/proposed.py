"""Flags that are proposed, each with its reason; as a flagfile, too."""

from collections.abc import Sequence
from typing import NamedTuple


class Choice(NamedTuple):
    """A flag of a proposal: its value as it is written, why, and whether that was ever tested."""

    flag: str
    value: str
    reason: str
    status: str


UNTESTED = "adopted, untested"
WHOLE = Choice("whole_images", "true", "small images have no margins to spare", UNTESTED)


def flagfile(choices: Sequence[Choice], title: str) -> str:
    """The text of a flagfile, a comment above each flag that has a reason."""
    lines = [f"# {line}" for line in title.splitlines()]
    for choice in choices:
        alone = f"{choice.status[0].upper()}{choice.status[1:]}."
        why = f"{choice.reason} ({choice.status})" if choice.reason else alone
        lines += ["", f"# {why}", f"--{choice.flag}={choice.value}"]
    return "\n".join(lines) + "\n"
