"""One command from a folder to a network: looks at the data, tries the recipes on held-out labels, and says which to train."""

import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping

import numpy as np

from r2d2_tf.config.config import Config
from r2d2_tf.data.image_data import UNLABELED, DatasetSpec
from r2d2_tf.recipes import decision
from r2d2_tf.recipes.chosen import Chosen, folder_of, write
from r2d2_tf.recipes.facts import remarks
from r2d2_tf.recipes.fold_runs import Fold, FoldRuns
from r2d2_tf.recipes.inputs import facts_about
from r2d2_tf.recipes.recipe import HEAD, Recipe, recipes_for
from r2d2_tf.recipes.timed import QUICK_MINUTES, duration_text, quick_words, timed
from r2d2_tf.runs import run_labels
from r2d2_tf.system import terminal
from r2d2_tf.system.interrupts import StopSignals
from r2d2_tf.system.messages import one_line, time_text

_PARTS = 5
_ENOUGH_LABELS = 2000
"""From so many labels on, two of the parts tell enough."""
_FEWEST_LABELS = 10
_FEWEST_MINUTES = 3.0
"""From so many on there is time to try how long a run takes."""
_FEWEST_WHOLE = 2
"""Parts of the labels on which whole runs are made, if there are minutes for so many; else stage 1 alone is tried on more."""
_MOST_NAMED = 12
"""Classes that are named with their labels."""
_START = 15.0
"""Seconds that a run takes to begin, about: networks are built and traced."""
_A_FIFTH = "0.2"


class Choosing:
    """The choice of a recipe for a config of the data alone, within its minutes.

    Args:
        config: of the data; see inputs.data_of.
        spec: of the data.
        signals: may ask for a stop: the same command then goes on.
        began: `time.perf_counter()` when the program started.
        weights_allowed: whether recipes may begin with ImageNet's weights.
        say: tells people a line.
    """

    def __init__(
        self,
        config: Config,
        spec: DatasetSpec,
        signals: StopSignals,
        began: float,
        *,
        weights_allowed: bool = True,
        say: Callable[[str], object] = terminal.say,
    ) -> None:
        from r2d2_tf.data import health

        self.config, self.began, self.say = config, began, say
        # Once, and before anything is tried: of large photographs it takes long, and one of them may be bad.
        data, left_out = health.checked(spec.load(config.data_path), spec, skip_bad_images=config.skip_bad_images)
        facts = facts_about(config, spec, data)
        self.facts = facts if weights_allowed else dataclasses.replace(facts, has_weights=False)
        given = run_labels.training_labels(data, config, spec.num_classes)
        # Of a class with one label none can be held out.
        counts = np.bincount(given[given != UNLABELED])
        self._can_hold_out = int(counts[counts > 1].sum())
        # A folder that was taken for a class by mistake is seen here.
        self._classes = [f"{one_line(name)} {count:,}" for name, count in zip(data.class_names, counts, strict=False)]
        self._parts = min(self._can_hold_out, _PARTS if self.facts.num_labeled < _ENOUGH_LABELS else 2)
        self.recipes = recipes_for(self.facts)
        if self.facts.minutes >= _FEWEST_MINUTES:
            self.recipes = [timed(recipe, config) for recipe in self.recipes]
        self.folder = folder_of(config)
        if config.new_run and not config.dry_run:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._runs = FoldRuns(config, spec.content, self.folder, signals, set(left_out))

    @property
    def seconds_left(self) -> float:
        return 60 * self.facts.minutes - (time.perf_counter() - self.began)

    def plan_text(self) -> str:
        """What will be tried, and about how long it takes."""
        facts = self.facts
        lines = [
            f"Your images: {facts.num_labeled:,} labeled + {facts.num_unlabeled:,} unlabeled, {facts.num_test:,} to test on; "
            f"{facts.num_classes:,} classes, {facts.side} pixels{', grey' * facts.is_grey}",
            f"Labels: {', '.join(self._classes[:_MOST_NAMED])}{', ...' * (facts.num_classes > _MOST_NAMED)}",
            *remarks(facts),
            f"Plan, within {facts.minutes:g} minutes (--minutes): labels that are held out in turn choose of",
        ]
        for recipe in self.recipes:
            lines.append(f"  {recipe.name + ':':13}  {recipe.about}; a run takes {duration_text(recipe)}")
        lines.append("then the one that is chosen is trained on all labels.")
        if words := quick_words(facts, self.recipes):
            # A folder that holds a finished run shows that one.
            how = f"--minutes={QUICK_MINUTES:g} and a --run_dir of its own"
            lines.append(f"A first model in {QUICK_MINUTES:g} minutes: {how}; {words}.")
        return "\n".join(lines)

    def chosen(self) -> Chosen:
        """Tries and decides.

        Raises:
            RunInterrupted: if a signal asked for it.
            ValueError, OSError: as any run.
        """
        tried = self._tried()
        if not tried:
            recipe, why = self.recipes[0], "as there are too few labels or minutes to try it first"
            if self._can_hold_out < _FEWEST_LABELS:
                return self._choice(recipe, f"{recipe.name}, {why}")
            return self._choice(recipe, f"{recipe.name}, {why}; a fifth of the labels judges it", held_out=_A_FIFTH)
        found = {name: decision.tried(folds) for name, folds in tried.items()}
        name = decision.best_of(tried)
        recipe = next(recipe for recipe in self.recipes if recipe.name == name)
        names = (name, *(found.keys() - {name}))
        lines = [f"{other}: {decision.stage_words(found[other])}" for other in names]
        lines += [decision.recipe_words(name, other, tried) for other in found if other != name]
        is_whole = len(found[name].wrong) > 1 or not recipe.applied(self.config).parsed_rounds
        if not is_whole:
            lines.append(
                f"{name}: for want of minutes its stage 1 alone was tried (--minutes); a fifth of the labels is held out of "
                "the run, and chooses its stage"
            )
        return self._choice(
            recipe,
            recipe.about,
            *lines,
            *self._more_labels(recipe, tried),
            found=found,
            held_out="none" if is_whole else _A_FIFTH,
        )

    def _tried(self) -> dict[str, list[Fold]]:
        """The folds of each recipe that was tried. One that cannot be trained is left out, unless it is the last."""
        from tensorflow.errors import OpError

        from r2d2_tf.training.callbacks.collapse import RunStopped

        tried: dict[str, list[Fold]] = {}
        if self._can_hold_out < _FEWEST_LABELS:
            return tried
        for recipe in self.recipes:
            try:
                folds = self._rival(recipe, tried) if tried else self._folds(recipe, recipe.seconds)
            except (RunStopped, ValueError, OpError) as error:
                if not tried and recipe is self.recipes[-1]:
                    raise
                self.say(f"  {recipe.name} is left out: {one_line(error)}")
                continue
            if folds:
                tried[recipe.name] = folds
        return tried

    def _folds(self, recipe: Recipe, seconds: float) -> list[Fold]:
        """As many whole runs as there is time for; the first of them takes about `seconds`."""
        folds: list[Fold] = []
        for part in range(1, self._parts + 1):
            # The run itself comes after them, and takes about as long.
            last = max(recipe.trial_seconds, folds[-1].seconds) if folds else min(recipe.trial_seconds, seconds)
            if self.seconds_left < (last if folds else seconds) + last:
                if not folds:
                    self.say(f"  {recipe.name} is not tried: a run takes about {time_text(seconds)}")
                break
            folds.append(self._fold(recipe, part))
        return folds

    def _fold(self, recipe: Recipe, part: int, *, stage_1_alone: bool = False) -> Fold:
        fold = self._runs.fold(recipe, part, self._parts, stage_1_alone=stage_1_alone)
        wrong = " -> ".join(f"{fold.wrong(stage):,}" for stage in sorted(fold.predictions))
        self.say(
            f"  {recipe.name}, part {part} of {self._parts} held out{', stage 1 alone' * stage_1_alone}: "
            f"{wrong} of {len(fold.labels):,} wrong ({fold.seconds:.0f} s)"
        )
        return fold

    def _rival(self, recipe: Recipe, tried: Mapping[str, list[Fold]]) -> list[Fold]:
        """The folds of another recipe, if its stage 1, on the first part, comes near the best so far.

        They are whole runs if there is time for _FEWEST_WHOLE of them beside the run itself, else runs of stage 1 alone: a
        recipe whose labels alone do better than the best of another needs no more to be preferred.
        """
        if self.seconds_left < recipe.stage_1_seconds + recipe.seconds:
            return self._no_time(recipe, recipe.stage_1_seconds + recipe.seconds)
        first = self._fold(recipe, 1, stage_1_alone=True)
        best = decision.best_of(tried)
        other = tried[best][0].wrong(decision.tried(tried[best]).stage)
        if first.wrong(1) > 1.5 * other + 0.05 * len(first.labels):
            self.say(f"  {recipe.name} is given up: it is far behind {best} ({other:,} wrong)")
            return []
        # What stage 1 took here tells how far the estimate is off on this machine.
        seconds = recipe.seconds * first.seconds / (recipe.stage_1_seconds + _START)
        if self.seconds_left >= (_FEWEST_WHOLE + 1) * seconds:
            return self._folds(recipe, seconds)
        if self.seconds_left < seconds:
            return self._no_time(recipe, seconds)
        folds = [first]
        while len(folds) < self._parts and self.seconds_left > seconds + folds[-1].seconds:
            folds.append(self._fold(recipe, len(folds) + 1, stage_1_alone=True))
        return folds

    def _no_time(self, recipe: Recipe, seconds: float) -> list[Fold]:
        self.say(
            f"  {recipe.name} is not tried: a look and a run take about {time_text(seconds)}, more than are left (--minutes)"
        )
        return []

    def _more_labels(self, recipe: Recipe, tried: Mapping[str, list[Fold]]) -> list[str]:
        """What more labels would bring, by stage 1 on halves of them, if there is time for that."""
        folds = tried[recipe.name]
        takes = 2 * folds[-1].seconds
        if recipe.name != HEAD or len(folds) < _PARTS or self.facts.fewest < 4 or self.seconds_left < 2 * takes:
            return []
        halves = [self._runs.fold(recipe, part, 2, stage_1_alone=True) for part in (1, 2)]
        half, of = sum(fold.wrong(1) for fold in halves), sum(len(fold.labels) for fold in halves)
        most, of_most = sum(fold.wrong(1) for fold in folds), sum(len(fold.labels) for fold in folds)
        return [decision.learning_curve_words(half, of, most, of_most, self.facts.num_labeled)]

    def _choice(
        self,
        recipe: Recipe,
        what: str,
        *reasons: str,
        found: Mapping[str, decision.Tried] | None = None,
        held_out: str = "none",
    ) -> Chosen:
        config = dataclasses.replace(recipe.applied(self.config), held_out=held_out, run_dir=str(self.config.resolved_run_dir))
        # Where a part of the labels is held out of the run itself, that decides.
        tried = found[recipe.name] if found and held_out == "none" else None
        if tried is not None:
            if tried.stage < 3:
                config = dataclasses.replace(config, finetune_epochs=0)
            if tried.stage < 2:
                config = dataclasses.replace(config, rounds="")
        words = (f"Chosen: {what}", *(f"  {line}" for line in reasons))
        record = {
            "recipe": recipe.name,
            "why": decision.stage_words(tried) if tried else what,
            "words": words,
            "held_out": tried.counts if tried else {},
            "p_value": tried.p_value if tried else None,
            "tried": {name: own.counts for name, own in (found or {}).items()},
        }
        title = one_line(f"{self.config.data_dir}: {self.facts.num_labeled:,} labeled + {self.facts.num_unlabeled:,} unlabeled")
        chosen = Chosen(config, words, record)
        write(chosen, recipe.choices, title)
        return chosen
