"""Which stage's network is a run's result: decided by held-out labels, never by test labels. Needs no TensorFlow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from r2d2_tf.runs import run_directory
from r2d2_tf.runs.outcome import schema, verdict


@dataclass(frozen=True)
class Result:
    """What summary.json says of the result.

    Attributes:
        stage: number of the stage whose network it is.
        why: in words.
        held_out: `stage_N` -> how many held-out labels its network gets wrong, `wrong`, `of` how many; {} if none are held out.
        p_value: of the difference to stage 1 or, where stage 1 is the result, to the last stage; None: nothing was compared.
    """

    stage: int
    why: str
    held_out: dict[str, dict[str, int]] = field(default_factory=dict)
    p_value: float | None = None


POOR = 0.5
"""Share of errors after the first stage from which most pseudo-labels are wrong."""


def best_stage(wrong: Mapping[int, np.ndarray]) -> int:
    """The stage that held-out labels choose, by which of them each stage's network gets wrong, `[labels]` bool.

    The stage with the fewest held-out errors; of equal ones the latest: what is held out says nothing against it, it was
    trained on more images, and it is what the method promises to be best. So no stage is taken that looks worse on the
    held-out labels than an earlier one, by however little: a gain that is real and small is worth less than no harm.

    A later stage learns from the predictions of the first. Where most of those are wrong (POOR), it mostly learns errors, and
    is taken only if it is better by more than chance.
    """
    first = min(wrong)
    stage = min(wrong, key=lambda stage: (int(wrong[stage].sum()), -stage))
    is_unsure = verdict.sign_test_of(wrong[first], wrong[stage]) >= verdict.SURE
    return first if wrong[first].mean() > POOR and is_unsure else stage


def decided(
    asked: int, stages: Sequence[int], predictions: Mapping[str, np.ndarray], labels: np.ndarray | None, reason: str
) -> Result:
    """The result of a run: the stage that `best_stage` says, or that was asked for.

    Args:
        asked: `--result_stage`, 0 to decide.
        stages: numbers of the stages whose networks there are, in order.
        predictions: of the held-out images, `stage_N` -> classes `[images]`.
        labels: theirs, `[images]`; None: none are held out.
        reason: why none are, in words.
    """
    if labels is None:
        return Result(asked or stages[-1], f"asked for by --result_stage={asked}" if asked else f"the last stage: {reason}")
    by_stage = {stage: predictions[f"stage_{stage}"] for stage in stages if f"stage_{stage}" in predictions}
    wrong = {stage: int((predicted != labels).sum()) for stage, predicted in by_stage.items()}
    counts = {f"stage_{stage}": {"wrong": count, "of": len(labels)} for stage, count in wrong.items()}
    chosen = asked or best_stage({stage: predicted != labels for stage, predicted in by_stage.items()})
    other = next(iter(by_stage)) if chosen != next(iter(by_stage)) else list(by_stage)[-1]
    if other == chosen or chosen not in by_stage:
        p_value = None
    else:
        p_value = verdict.compared(by_stage[other], by_stage[chosen], labels).p_value
    if chosen not in by_stage:
        return Result(chosen, f"asked for by --result_stage={asked}", counts)
    words = verdict.held_out_words(wrong, len(labels), chosen, 1.0 if p_value is None else p_value)
    return Result(chosen, f"{words}; asked for by --result_stage={asked}" if asked else words, counts, p_value)


def chosen_before(folder: Path, stage: int) -> Result | None:
    """The result of a run that was chosen, with its stages, by other runs on parts of the labels; None: it was not.

    `stage` is the run's last one.
    """
    path = folder / run_directory.CHOICE_FILE
    if not path.is_file():
        return None
    choice = schema.choice_in(path)
    # A record of before has lines alone.
    why = choice.get("why") or " ".join(choice.get("words", ()))
    return Result(stage, why, choice["held_out"], choice.get("p_value")) if choice.get("held_out") else None
