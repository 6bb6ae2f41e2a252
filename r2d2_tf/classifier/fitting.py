"""From what a classifier is told to a finished run: the flags that it takes, and the run itself."""

import contextlib
import dataclasses
import difflib
import numbers
import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_random_state

from r2d2_tf.classifier import given_network
from r2d2_tf.config.command_line import named_flags
from r2d2_tf.config.config import Config
from r2d2_tf.config.flag_checks import NO_WEIGHTS
from r2d2_tf.data.readers.folder import NoTestImages
from r2d2_tf.recipes import choosing, from_scratch, inputs
from r2d2_tf.recipes.chosen import chosen_before, copy_into_run
from r2d2_tf.recipes.facts import BACKBONE, Facts
from r2d2_tf.recipes.pretrained import head
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.runs.outcome.summary import verdict_lines, words_of_summary
from r2d2_tf.runs.preflight import begin
from r2d2_tf.system.interrupts import RunInterrupted, StopSignals, signals_of_a_call
from r2d2_tf.system.messages import mistake
from r2d2_tf.system.startup import import_tensorflow_quietly, warnings_held_back

if TYPE_CHECKING:
    import keras

AUTO = "auto"
NAME = "classifier"
"""Of the run."""
_SMALL = 32
"""Pixels a side, up to which grey images are taken for digits and such."""
_NOT_FREE = (
    "dataset",
    "data_dir",
    "labels",
    "num_labels",
    "split_file",
    "seed",
    "run_dir",
    "name",
    "minutes",
    "dry_run",
    "backbone",
    "weights",
)
"""Flags that a classifier sets itself, or has parameters for."""


@dataclasses.dataclass(frozen=True)
class Wish:
    """What the parameters of a classifier say of training.

    Attributes:
        backbone: AUTO, what `--backbone` takes, or a network.
        weights: what `--weights` takes; None: what the recipe says.
        flags: of the command, with their values, which are taken as they are.
        minutes: that the choice of a recipe may take; None: not said.
        seed: of the run.
    """

    backbone: "str | keras.Model"
    weights: str | None
    flags: Mapping[str, Any]
    minutes: float | None
    seed: int

    @property
    def is_auto(self) -> bool:
        """Whether no network is named."""
        return isinstance(self.backbone, str) and self.backbone == AUTO

    def says_how(self) -> bool:
        """Whether anything says how to train, beside the weights, so that no recipe is chosen."""
        return not self.is_auto or self.weights not in (None, NO_WEIGHTS) or not set(self.flags) <= {*inputs.OF_THE_DATA}


def checked_wish(backbone: Any, weights: Any, flags: Any, minutes: Any, random_state: Any) -> Wish:
    """The parameters of a classifier as a wish; the seed is drawn where a generator is given, or None.

    Raises:
        ValueError: in one line, for the first that is none.
    """
    if not isinstance(backbone, str) and not hasattr(backbone, "get_weights"):
        raise mistake(f"backbone is {type(backbone).__name__}: give a name, as 'wrn_28_2', or a Keras model")
    if flags is not None and not isinstance(flags, dict):
        raise mistake(f"flags is {type(flags).__name__}: give a dict, as {{'rounds': '20:0.03,20:0.01'}}")
    if minutes is not None and not (isinstance(minutes, numbers.Real) and float(minutes) > 0):
        raise mistake(f"minutes ({minutes!r}) must be a number above 0, or None")
    known = [field.name for field in dataclasses.fields(Config)]
    for name in flags or ():
        if name in _NOT_FREE:
            raise mistake(f"flags has {name!r}, which fit sets by its parameters: leave it out")
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)[0]
            raise mistake(f"flags has {name!r}, which is no flag: did you mean {near!r}? r2d2_tf.Config has them all")
    is_seed = isinstance(random_state, numbers.Integral)
    seed = int(random_state) if is_seed else int(check_random_state(random_state).randint(2**31 - 1))
    return Wish(backbone, weights, dict(flags or {}), None if minutes is None else float(minutes), seed)


def trained(data: Mapping[str, Any], wish: Wish, run_dir: Path) -> list[str]:
    """Trains into `run_dir`, or goes on there, and returns what is to be told of it, a line each.

    Args:
        data: the flags that name the data.
        wish: how to train.
        run_dir: folder of the run; what is chosen for it stands beside it.

    Raises:
        ValueError: in one line, if the data, the flags or what is in the folder do not fit.
        RunStopped: if the loss is no longer finite or the predictions collapse.
        KeyboardInterrupt: after Ctrl-C; what was trained is saved.
        OSError: if a file cannot be written.
    """
    began = time.perf_counter()
    own = {**data, **{name: value for name, value in wish.flags.items() if name in inputs.OF_THE_DATA}}
    config = Config(**own, seed=wish.seed, name=NAME, run_dir=str(run_dir), minutes=wish.minutes or 0.0)
    import_tensorflow_quietly()
    tries = not wish.says_how() and (config.dataset == "folder" or wish.minutes is not None)
    with signals_of_a_call() as signals, given_network.findable(run_dir.parent), _unseeded():
        try:
            with _no_flags_in_words():
                if tries:
                    return _run(*_chosen(config, wish, [*own, "seed"], signals, began), signals, began)
                return _run(_as_wished(config, wish), [], signals, began)
        except RunInterrupted as interrupted:
            raise KeyboardInterrupt(f"{interrupted}; with a run_dir, the same fit goes on from there") from None


@contextlib.contextmanager
def _unseeded() -> Iterator[None]:
    """Leaves the generators of Python and NumPy as they were: a run seeds them."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)


@contextlib.contextmanager
def _no_flags_in_words() -> Iterator[None]:
    try:
        yield
    except NoTestImages:
        raise mistake(
            "no labeled image can be set apart to measure the error, as no class has two: label more, or give fit X_test and "
            "y_test (a folder: a folder test in it)"
        ) from None


def _chosen(config: Config, wish: Wish, named: list[str], signals: StopSignals, began: float) -> tuple[Config, list[str]]:
    """The config that held-out labels choose, as the command has it, and what is told of that."""
    if before := chosen_before(config, named):
        return before, []
    config, spec = inputs.data_of(config)
    choice = choosing.Choosing(config, spec, signals, began, weights_allowed=wish.weights != NO_WEIGHTS)
    print(choice.plan_text(), flush=True)
    signals.defer()
    with warnings_held_back():
        found = choice.chosen()
    return found.config, list(found.words)


def _as_wished(config: Config, wish: Wish) -> Config:
    """A recipe that suits the images, without a trial, and what the user wants otherwise."""
    from r2d2_tf.data import health

    # The recipe says how far images are shifted; by the default, tiny ones would be refused before.
    config, spec = inputs.with_test_images(dataclasses.replace(config, translate=0))
    data, _ = health.checked(spec.load(config.data_path), spec, skip_bad_images=config.skip_bad_images)
    facts = inputs.facts_about(config, spec, data)
    choices = head(facts) if _begins_with_weights(facts, wish) else from_scratch.propose(facts)
    wanted = named_flags([f"--{choice.flag}={choice.value}" for choice in choices])
    if not wish.is_auto:
        named = isinstance(wish.backbone, str)
        folder = config.resolved_run_dir.parent
        wanted["backbone"] = wish.backbone if named else given_network.save(wish.backbone, spec.num_classes, folder)
    if wish.weights is not None:
        wanted["weights"] = wish.weights
    # Nothing but labels: what was wanted of later stages is wanted where there is something to learn from.
    alone = {} if facts.num_unlabeled else {"rounds": "", "finetune_epochs": 0}
    return dataclasses.replace(config, **{**wanted, **wish.flags, **alone})


def _begins_with_weights(facts: Facts, wish: Wish) -> bool:
    """Whether the head of a network that knows other images is trained, not a network at random."""
    if wish.weights is not None:
        return wish.weights != NO_WEIGHTS
    if not wish.is_auto:
        return isinstance(wish.backbone, str) and wish.backbone == BACKBONE and facts.has_weights
    # Digits and letters: what a network knows of photographs is of little use.
    return facts.has_weights and not (facts.is_grey and facts.side <= _SMALL)


def _run(config: Config, words: list[str], signals: StopSignals, began: float) -> list[str]:
    begun = begin(config)
    summary = begun.finished
    if summary is not None and spec_of(begun.config).content != summary.get("data_content"):
        folder = config.resolved_run_dir.parent
        raise mistake(f"run_dir ({folder}) holds a classifier of other images or labels: choose another")
    if summary is None:
        from r2d2_tf.training.experiment import Experiment

        experiment = Experiment(begun.config, begun.spec, begun.cluster, signals)
        with experiment.claimed() as folder, warnings_held_back():
            copy_into_run(begun.config)
            signals.defer()
            summary = experiment.run(folder, began)
    count, told = summary["num_test"], []
    if begun.config.test_fraction:
        told = [
            f"{count:,} of the labels are set apart to measure the error, and not trained on: give X_test and y_test for that"
        ]
    # What was chosen says already which stage is the result, and why.
    return [*words, *told, *(verdict_lines(summary) if words else words_of_summary(summary))]
