"""Which recipe is taken, and which stage's network is the result: by labels that were held out. Pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from r2d2_tf.recipes.fold_runs import Fold
from r2d2_tf.runs.outcome import verdict
from r2d2_tf.runs.outcome.result import best_stage


@dataclass(frozen=True)
class Tried:
    """What the folds of a recipe came to, all of them together.

    Attributes:
        wrong: number of a stage -> held-out labels that its network gets wrong, `[labels]` bool.
        stage: whose network is to be the result.
        p_value: of the difference between it and stage 1, or, if it is stage 1, the last stage; None: there is one stage.
    """

    wrong: dict[int, np.ndarray]
    stage: int
    p_value: float | None

    @property
    def of(self) -> int:
        """Labels that were held out."""
        return len(self.wrong[self.stage])

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """`stage_N` -> how many of them its network gets wrong, `wrong`, `of` how many."""
        return {f"stage_{stage}": {"wrong": int(wrong.sum()), "of": len(wrong)} for stage, wrong in self.wrong.items()}


def tried(folds: Sequence[Fold]) -> Tried:
    """What all folds say together; `best_stage` decides the stage."""
    stages = sorted(set.intersection(*(set(fold.predictions) for fold in folds)))
    wrong = {stage: np.concatenate([fold.predictions[stage] != fold.labels for fold in folds]) for stage in stages}
    stage = best_stage(wrong)
    other = stages[-1] if stage == stages[0] else stages[0]
    return Tried(wrong, stage, verdict.sign_test_of(wrong[other], wrong[stage]) if other != stage else None)


def best_of(folds: Mapping[str, Sequence[Fold]]) -> str:
    """The name of the recipe whose result has the fewest errors on the labels that all of them held out.

    Of equal ones the first, which is the cheapest. Of each recipe the stage is decided by all of its own folds.
    """
    shared = set.intersection(*({fold.part for fold in of_recipe} for of_recipe in folds.values()))
    errors = {}
    for name, of_recipe in folds.items():
        stage = tried(of_recipe).stage
        errors[name] = sum(fold.wrong(stage) for fold in of_recipe if fold.part in shared)
    return min(errors, key=lambda name: errors[name])


def stage_words(found: Tried) -> str:
    """What the folds say of the stages of a recipe, in a line."""
    counts = {stage: int(wrong.sum()) for stage, wrong in found.wrong.items()}
    first, chosen = min(counts), found.stage
    words = verdict.held_out_words(counts, found.of, chosen, 1.0 if found.p_value is None else found.p_value)
    if chosen != first or len(counts) == 1:
        return words
    if min(counts.values()) < counts[first]:
        return f"{words}; most of stage 1 is wrong, and later stages learn from it: they must be better by more than chance"
    return f"{words}; unlabeled images did not help, so the labels alone decide"


def recipe_words(name: str, other: str, folds: Mapping[str, Sequence[Fold]]) -> str:
    """How sure it is that a recipe is better than another, by the labels that both held out, in a line."""
    shared = {fold.part for fold in folds[name]} & {fold.part for fold in folds[other]}
    wrong = {}
    for one in (name, other):
        stage, own = tried(folds[one]).stage, sorted(folds[one], key=lambda fold: fold.part)
        wrong[one] = np.concatenate([fold.predictions[stage] != fold.labels for fold in own if fold.part in shared])
    p_value = verdict.sign_test_of(wrong[other], wrong[name])
    return (
        f"{name} against {other}: {int(wrong[name].sum()):,} and {int(wrong[other].sum()):,} wrong of the {len(wrong[name]):,} "
        f"labels that both held out ({verdict.told_p(p_value)})"
    )


def learning_curve_words(wrong_half: int, of_half: int, wrong_most: int, of_most: int, num_labels: int) -> str:
    """What more labels would bring, of stage 1 trained on a half and on four fifths of the labels.

    An error falls by about the same share for each doubling of the labels (a power law, Hestness et al. 2017): from the half to
    four fifths they grow 1.6 times.
    """
    half, most = wrong_half / of_half, wrong_most / of_most
    if not 0 < most < half:
        return f"More labels: {num_labels:,} are too few to say what twice as many would bring."
    power = np.log(half / most) / np.log(1.6)
    return f"More labels: twice as many would bring the labels alone to about {100 * most * 2.5**-power:.0f} % of errors."
