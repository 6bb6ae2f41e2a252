"""When two configs are the same run: the digest in a run's name, and the flags in which they would train differently."""

import dataclasses
import hashlib
import json
from typing import Any, TypeAlias

from r2d2_tf.config.flag_checks import HEAD, HEAD_THEN_ALL
from r2d2_tf.data.datasets import OWN_SETS
from r2d2_tf.data.image_data import AUTO, NO_COPY, SYMMETRIC

OF_BEFORE = {"image_view": "stored", "held_out": "none", "translate_border": SYMMETRIC}
"""What a run did that was begun before there were these flags."""
Config: TypeAlias = Any
"""A Config, whose own module imports this one."""


def _lasting(config: Config) -> list[dataclasses.Field]:
    """The flags that can change a result."""
    return [field for field in dataclasses.fields(config) if not field.metadata.get("cosmetic")]


def _value(config: Config, name: str) -> Any:
    """The value of a flag, as far as it can change a result: where a copy of photographs lies does not."""
    value = getattr(config, name)
    return AUTO if name == "image_copy" and value != NO_COPY else value


def digest_of(config: Config) -> str:
    """Eight hexadecimal digits of the flags that can change a result and differ from their defaults."""
    unnamed = {f.name: f.metadata.get("unnamed", (f.default,)) for f in _lasting(config)}
    changed = {name: _value(config, name) for name, values in unnamed.items() if _value(config, name) not in values}
    if config.dataset in OWN_SETS and config.data_path is not None:
        # The same flags with another folder are another run.
        changed["data_dir"] = str(config.data_path.absolute())
    return hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]


def differences(ours: Config, theirs: Config, *, through_stage: int, unfinished: bool) -> list[str]:
    """See Config.differences."""
    fields = [f for f in _lasting(ours) if not (through_stage == 1 and f.metadata.get("later"))]
    if through_stage == 2:
        fields = [f for f in fields if not f.metadata.get("last") and f.name not in ("rounds", "repredict")]
    if not ours.may_have_photographs:
        fields = [f for f in fields if f.name not in ("image_view", "image_copy")]
    draws_labels = ours.dataset not in OWN_SETS and not ours.labels
    if (through_stage or draws_labels) and {ours.held_out, theirs.held_out} == {"auto", "none"}:
        # The same where labels are drawn; where they are given, a fingerprint of those that are trained on tells.
        fields = [f for f in fields if f.name != "held_out"]
    if ours.dataset in OWN_SETS and not unfinished:
        # An unfinished run knows its data by a fingerprint, wherever they lie now.
        fields += [f for f in dataclasses.fields(ours) if f.name == "data_dir"]
    if unfinished:
        fields += [f for f in dataclasses.fields(ours) if f.metadata.get("fixed")]
    pairs: list[tuple[Any, ...]] = [(f.name, _value(theirs, f.name), _value(ours, f.name)) for f in fields]
    if through_stage:
        # They part in stage 3.
        pairs = [(name, *(HEAD if value == HEAD_THEN_ALL else value for value in values)) for name, *values in pairs]
    return [f"--{name}: {their_value} -> {our_value}" for name, their_value, our_value in pairs if their_value != our_value]


def flagfile_of(config: Config) -> str:
    """All flags as the text of a flagfile that repeats the run."""
    lines = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in ("run_dir", "new_run", "dry_run") or value == field.default == "":
            continue
        lines.append(f"--{field.name}={str(value).lower() if isinstance(value, bool) else value}")
    return "\n".join(lines) + "\n"
