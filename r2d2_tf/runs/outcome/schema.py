"""What summary.json and choice.json hold, and one reader for both, whoever wrote or changed them. Needs no TensorFlow.

A file that does not fit its schema is refused by the place that does not. What the schema lacks is not handed on.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Required, TypedDict

import msgspec

from r2d2_tf.system import terminal
from r2d2_tf.system.messages import mistake

_OF_BEFORE = {"fake_data": False, "machine": "unknown"}
"""What summaries of the first runs lack."""
_LARGEST = 2**26
"""Bytes of a file: the names of a million classes."""
_Stage = Literal["stage_1", "stage_2", "stage_3"]
_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
_Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
_Seconds = Annotated[float, msgspec.Meta(ge=0)]
_Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
_ByStage = dict[_Stage, _Percent]


class _HeldOut(TypedDict):
    """Labels that a network gets wrong."""

    wrong: _Count
    of: Annotated[int, msgspec.Meta(ge=1, lt=2**53)]


class _Result(TypedDict, total=False):
    """See `outcome.result.Result`."""

    stage: Required[Literal[1, 2, 3]]
    why: Required[str]
    held_out: Required[dict[_Stage, _HeldOut]]
    p_value: Required[_Probability | None]


class _RollBack(TypedDict):
    """See `RunState.rollbacks`."""

    reason: str
    learning_rate_scale: float


class _Times(TypedDict, total=False):
    """Seconds, of a run and of its parts."""

    total: Required[_Seconds]
    start: _Seconds
    stage_1: _Seconds
    stage_2: _Seconds
    stage_3: _Seconds
    end: _Seconds


class Summary(TypedDict, total=False):
    """What `summary_of` makes; what is not required the first runs did not have."""

    name: Required[str]
    dataset: Required[str]
    fake_data: bool
    evaluate_on: str | None
    class_names: list[str]
    data_content: str
    data_fingerprint: str
    split_fingerprint: str
    seed: Required[_Count]
    config_digest: str
    verdict: str
    result: _Result
    test_error_percent: Required[Annotated[_ByStage, msgspec.Meta(min_length=1)]]
    test_top5_error_percent: _ByStage
    stage_1_from: str | None
    stage_2_from: str
    warm_start: str | None
    pseudo_label_error_percent: Required[_ByStage]
    seconds: Required[_Times]
    resumes: _Count
    rollbacks: list[_RollBack]
    num_labels: Required[_Count]
    num_unlabeled: Required[_Count]
    num_held_out: _Count
    num_test: Required[Annotated[int, msgspec.Meta(ge=1, lt=2**53)]]
    parameters: _Count
    devices: str
    git_commit: Required[str | None]
    versions: Required[dict[str, str]]
    machine: str
    files: Required[dict[str, str]]


class Choice(TypedDict, total=False):
    """What `recipes.chosen` writes; of before some have `words`, line by line, alone, and some `why`."""

    recipe: str
    why: str
    words: list[str]
    held_out: dict[_Stage, _HeldOut]
    p_value: _Probability | None


def summary_in(path: Path) -> dict[str, Any]:
    """The summary in a file that is there; control characters are written out, but in the names of classes.

    Raises:
        ValueError: in one line, if it does not fit the schema.
    """
    found = _OF_BEFORE | _read(path, Summary)
    # By these a run knows its data.
    return _plain(found) | ({"class_names": found["class_names"]} if "class_names" in found else {})


def choice_in(path: Path) -> dict[str, Any]:
    """The same of how a recipe was chosen."""
    return _plain(_read(path, Choice))


def _read(path: Path, kind: type) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"it is larger than {_LARGEST:,} bytes")
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (ValueError, RecursionError) as error:
        raise mistake(f"{path} is damaged ({error}): remove the folder, or add --new_run to move it aside") from error


def _plain(value: Any) -> Any:
    """The same with its texts escaped; it is as deep as a schema, and no deeper."""
    if isinstance(value, dict):
        return {_plain(name): _plain(own) for name, own in value.items()}
    if isinstance(value, list):
        return [_plain(own) for own in value]
    return terminal.escaped(value) if isinstance(value, str) else value
