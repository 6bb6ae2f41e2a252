"""keras-tuner's oracles and tuner, on positions from 0 to 1, with a state that a kill cannot harm.

keras-tuner 1.4.8 writes its files in place, one a trial and one more, so that a kill leaves halves; takes a trial that began
but was not noted for one that is done; forgets on reload how far a grid is; and learns nothing from failed trials.
"""

import json
import time
import warnings
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus
from keras_tuner.errors import FatalRuntimeError
from sklearn.exceptions import ConvergenceWarning

from r2d2_tf.system import files
from tools.tune.options import Options
from tools.tune.search_report import Reporter
from tools.tune.space import Setting, Space, total_epochs
from tools.tune.trials import Trials

_POINT = "point"
"""The grid's only hyperparameter: the number of a setting."""
_OBJECTIVE = keras_tuner.Objective("error", "min")
_IDLE_SECONDS = 1.0
_SEEDS = 2**31 - 1
_NEVER = 10**9
"""Failed trials in a row at which a search ends: collapsed ones are an answer."""


class SearchOracle(keras_tuner.Oracle):
    """What the oracles have in common. `make_oracle` sets the space, which turns positions into settings; a grid has a list."""

    search_space: Space
    settings: list[Setting]

    def setting_of(self, values: dict[str, Any]) -> Setting:
        """The setting that proposed values stand for."""
        return self.search_space.setting(values)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """As keras-tuner does, but that the first proposal is the config's own setting."""
        proposal = super().populate_space(trial_id)
        if not self.start_order and self.search_space.holds_own:
            proposal["values"] |= self.search_space.own_positions()
        return proposal

    def _compute_values_hash(self, values: dict[str, Any]) -> str:
        # Two positions may be one setting; a promoted trial is another one than that it comes from.
        return json.dumps([self.setting_of(values), values.get("tuner/trial_id")], sort_keys=True)

    def get_state(self) -> dict[str, Any]:
        return super().get_state() | {"trials": [trial.get_state() for trial in self.trials.values()]}

    def set_state(self, state: dict[str, Any]) -> None:
        self.trials = {one["trial_id"]: Trial.from_state(one) for one in state["trials"]}
        super().set_state(state)

    def save(self) -> None:
        """Writes one file, which appears whole."""
        files.write_text(Path(self._get_oracle_fname()), json.dumps(self.get_state()))

    def _save_trial(self, trial: Trial) -> None:
        """Nothing: trials are in the oracle's own file."""

    def reload(self) -> None:
        """Goes on from what `save` wrote; trials in flight come first."""
        self.set_state(json.loads(Path(self._get_oracle_fname()).read_text()))
        in_flight = [trial.trial_id for trial in self.trials.values() if trial.status == TrialStatus.RUNNING]
        self._retry_queue = sorted(in_flight, reverse=True)
        self.ongoing_trials: dict[str, Trial] = {}


class RandomOracle(SearchOracle, keras_tuner.oracles.RandomSearchOracle):
    """Draws settings at random."""


class BayesianOracle(SearchOracle, keras_tuner.oracles.BayesianOptimizationOracle):
    """Draws the first settings, and then fits a Gaussian process to the errors."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """As keras-tuner does, as a function of the seed and the trials before: so a killed search goes on as it would have."""
        self._random_state = np.random.RandomState([self.seed, len(self.trials)])
        with warnings.catch_warnings():
            # The process may find that a flag makes no difference: then its length scale runs to a bound.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return super().populate_space(trial_id)


class HyperbandOracle(SearchOracle, keras_tuner.oracles.HyperbandOracle):
    """Tries many settings in a few epochs and trains the best of them again in more."""


class GridOracle(SearchOracle):
    """Proposes all `settings` in turn."""

    def setting_of(self, values: dict[str, Any]) -> Setting:
        return self.settings[values[_POINT]]

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        number = len(self.start_order)
        if number == len(self.settings):
            return {"status": TrialStatus.STOPPED, "values": None}
        return {"status": TrialStatus.RUNNING, "values": {_POINT: number}}


_ORACLES = {"random": RandomOracle, "bayesian": BayesianOracle, "hyperband": HyperbandOracle, "grid": GridOracle}


def make_oracle(options: Options) -> SearchOracle:
    """The oracle of a search; the epochs of the config's stage 2 are hyperband's largest budget."""
    hyperparameters = keras_tuner.HyperParameters()
    space = options.space
    settings = space.grid(options.grid_points) if options.tuner == "grid" else []
    if options.tuner == "grid":
        hyperparameters.Choice(_POINT, list(range(len(settings))))
    else:
        for dimension in space.dimensions:
            hyperparameters.Float(dimension.name, 0.0, 1.0)
    # keras-tuner counts its seed up with each value that it draws: neighboring seeds would draw the same. And 0 is none.
    seed = 1 + int(np.random.SeedSequence(options.search_seed).generate_state(1)[0]) % _SEEDS
    common = {"objective": _OBJECTIVE, "seed": seed, "max_consecutive_failed_trials": _NEVER}
    own = {"max_epochs": total_epochs(options.config.parsed_rounds)} if options.tuner == "hyperband" else {}
    oracle = _ORACLES[options.tuner](**common, hyperparameters=hyperparameters, **own)
    oracle.max_trials, oracle.search_space, oracle.settings = options.trials, space, settings
    # Trials are told of by the Reporter.
    oracle.verbose = 0
    return oracle


def planned_epochs(oracle: SearchOracle, options: Options) -> list[int]:
    """The length of stage 2 in each trial of a search, as far as it can be known: hyperband's halvings may fall short."""
    if isinstance(oracle, HyperbandOracle):
        rounds = [(bracket, n) for bracket in reversed(range(oracle._get_num_brackets())) for n in range(bracket + 1)]
        planned = [oracle._get_epochs(*one) for one in rounds for _ in range(oracle._get_size(*one))]
    else:
        planned = [total_epochs(options.config.parsed_rounds)] * (len(oracle.settings) or options.trials or 0)
    return planned[: options.trials]


class Search(keras_tuner.engine.base_tuner.BaseTuner):
    """Makes what an oracle proposes.

    `failed_score` is what the oracle is told as the error of a failed trial, in percent: that of a guess. So bayesian keeps
    away from such settings, and hyperband's halving goes on.
    """

    def __init__(self, oracle: SearchOracle, *, trials: Trials, reporter: Reporter, folder: Path, failed_score: float) -> None:
        self.trial_maker = trials
        self.reporter = reporter
        self.failed_score = failed_score
        self._setting_of = oracle.setting_of
        self._asked = False
        super().__init__(oracle, directory=str(folder.parent), project_name=folder.name)

    def run_trial(self, trial: Trial) -> dict[str, float]:
        """Makes a trial, and reports it.

        Raises:
            FatalRuntimeError: from whatever goes wrong beside a run that has to stop. keras-tuner would take any other for the
                trial's failure, and go on.
        """
        values = trial.hyperparameters.values
        number = int(trial.trial_id)
        try:
            record = self.trial_maker.make(number, self._setting_of(values), values.get("tuner/epochs"))
            self.reporter.report(record)
        except Exception as error:
            raise FatalRuntimeError from error
        return {_OBJECTIVE.name: self.failed_score if record.error is None else record.error}

    def pre_create_trial(self) -> None:
        """Waits a little before the oracle is asked again after it had nothing to propose yet."""
        if self._asked:
            time.sleep(_IDLE_SECONDS)
        self._asked = True

    def on_trial_begin(self, trial: Trial) -> None:
        self._asked = False

    def save(self) -> None:
        """As keras-tuner does, in files that appear whole."""
        if not self._is_worker():
            self.oracle.save()
        files.write_text(Path(self._get_tuner_fname()), "{}")
