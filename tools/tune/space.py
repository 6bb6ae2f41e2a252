"""What is searched: flags with their ranges, and alpha above beta. Needs no TensorFlow.

A tuner proposes positions, numbers from 0 to 1, one a flag, which `Space.setting` turns into values. So beta's range can end
below the alpha of the same setting, which keras-tuner's own hyperparameters cannot say: every position is a valid setting.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from r2d2_tf.config.config import Config
from r2d2_tf.method.schedules import Round

Setting = dict[str, float | int]
"""Values of the flags that are searched, by name."""
RATE_FACTOR = "rounds_rate_factor"
"""Searched like a flag: what the learning rates of all rounds are multiplied by."""
BETA_TO_ALPHA = 0.99
"""Largest beta, in alphas: at alpha itself theorem 1 no longer holds."""
_DIGITS = 4
"""Of a value: more would say nothing, and a flagfile is to be read by people."""
_TOLERANCE = 1.001
"""For values rounded to so many digits."""
_LOG_FROM = 10
"""From this ratio of high to low on, a range is searched on a logarithmic scale unless it says otherwise."""
_CHOICES_ONLY = ("batch_size", "cutout")
"""Numbers of which only multiples of some number are allowed."""
_FIXED = ("seed", "num_labels", "max_steps")
"""Numbers that make another experiment, not a better one."""


@dataclass(frozen=True)
class Dimension:
    """A flag that is searched.

    Attributes:
        is_log: searched on a logarithmic scale.
        is_whole: values are whole numbers.
        choices: the only values, rising; empty: all between `low` and `high`.
    """

    name: str
    low: float
    high: float
    is_log: bool
    is_whole: bool
    choices: tuple[float, ...] = ()

    def value(self, position: float) -> float | int:
        """The value at a position from 0 to 1."""
        if self.choices:
            return self.choices[min(int(position * len(self.choices)), len(self.choices) - 1)]
        value = self.between(position)
        return min(max(round(value) if self.is_whole else _rounded(value), self.low), self.high)

    def between(self, position: float) -> float:
        """What lies at a position on the scale, as it is: below 0 and above 1 beyond the ends."""
        if self.is_log:
            return self.low * (self.high / self.low) ** position
        return self.low + (self.high - self.low) * position

    def position(self, value: float) -> float:
        """The position of a value that the dimension holds."""
        if self.choices:
            return (self.choices.index(value) + 0.5) / len(self.choices)
        if self.high == self.low:
            return 0.5
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def holds(self, value: float) -> bool:
        """Whether the value can be tried."""
        return value in self.choices if self.choices else self.low <= value <= self.high

    def within(self, low: float = -math.inf, high: float = math.inf) -> "Dimension":
        """What of the dimension lies from `low` to `high`; at least one of its own ends must."""
        if self.choices:
            kept = tuple(choice for choice in self.choices if low <= choice * _TOLERANCE and choice <= high * _TOLERANCE)
            return replace(self, choices=kept, low=kept[0], high=kept[-1])
        least, most = max(self.low, _rounded(low)), min(self.high, _rounded(high))
        return replace(self, low=min(self.high, least), high=max(self.low, most))

    def spread(self, count: int) -> list[float | int]:
        """Evenly spaced values, both ends among them; the choices if there are any."""
        if self.choices:
            return list(self.choices)
        return list(dict.fromkeys(self.value(number / max(1, count - 1)) for number in range(count)))

    def __str__(self) -> str:
        if self.choices:
            return f"{self.name} among {', '.join(f'{choice:g}' for choice in self.choices)}"
        return f"{self.name} from {self.low:g} to {self.high:g} ({'log' if self.is_log else 'linear'})"


def searchable() -> dict[str, bool]:
    """The names that can be searched, and whether their values are whole numbers."""
    fields = [f for f in dataclasses.fields(Config) if not f.metadata.get("cosmetic") and f.name not in _FIXED]
    return {f.name: isinstance(f.default, int) for f in fields if type(f.default) in (int, float)} | {RATE_FACTOR: False}


def parse_dimension(name: str, text: str) -> Dimension:
    """Reads a range `low:high[:log|linear]` or a list of choices `a,b,c`.

    Raises:
        ValueError: in one line, if the name cannot be searched or the text is no such range.
    """
    names = searchable()
    if name not in names:
        raise ValueError(f"{name} cannot be searched: among {', '.join(names)} are what can")
    how = f"write --search={name}=low:high, low:high:log, low:high:linear or a list of choices a,b,c"
    parts, is_choice = (text.split(","), True) if "," in text else (text.split(":"), False)
    scale = parts.pop() if not is_choice and len(parts) == 3 else ""
    try:
        values = [int(part) if names[name] else float(part) for part in parts]
    except ValueError:
        kind = "whole numbers" if names[name] else "numbers"
        raise ValueError(f"{name} ({text}): {', '.join(parts)} are no {kind}; {how}") from None
    rising = all(low < high for low, high in itertools.pairwise(values)) and all(map(math.isfinite, values))
    if not rising or scale not in ("", "log", "linear") or len(values) < 2 or (not is_choice and len(values) > 2):
        raise ValueError(f"{name} ({text}) is no range of rising values: {how}")
    if name in _CHOICES_ONLY and not is_choice:
        raise ValueError(f"{name} ({text}) is searched among choices alone: write --search={name}=a,b,c")
    low, high = values[0], values[-1]
    if scale == "log" and low <= 0:
        raise ValueError(f"{name} ({text}) begins at {low:g}, which has no logarithm: {how}")
    is_log = scale == "log" or (not scale and low > 0 and high / low >= _LOG_FROM)
    return Dimension(name, low, high, is_log, names[name], tuple(values) if is_choice else ())


@dataclass(frozen=True)
class Space:
    """The settings that can be tried, and the config's own: see `space_of`. Alpha is searched before beta."""

    dimensions: tuple[Dimension, ...]
    own: Setting

    @property
    def holds_own(self) -> bool:
        """Whether the config's own setting can be tried."""
        inside = all(dimension.holds(self.own[dimension.name]) for dimension in self.dimensions)
        return inside and _is_valid(self.own)

    def own_positions(self) -> dict[str, float]:
        """Where the config's own setting is."""
        dimensions = [self._within(dimension, self.own) for dimension in self.dimensions]
        return {d.name: min(1.0, d.position(self.own[d.name])) for d in dimensions}

    def setting(self, positions: Mapping[str, float]) -> Setting:
        """The setting at positions from 0 to 1, by name: a valid one at all of them; the config's own exactly."""
        if self.holds_own and all(positions[name] == position for name, position in self.own_positions().items()):
            return dict(self.own)
        values: Setting = {}
        for dimension in self.dimensions:
            values[dimension.name] = self._within(dimension, values).value(positions[dimension.name])
        return values

    def grid(self, count: int) -> list[Setting]:
        """All valid combinations of `count` values a range, 2 or more, or of the choices; the config's own comes first."""
        names = [dimension.name for dimension in self.dimensions]
        columns = [dimension.spread(count) for dimension in self.dimensions]
        settings = (dict(zip(names, values, strict=True)) for values in itertools.product(*columns))
        valid = [setting for setting in settings if _is_valid(setting)]
        return [dict(self.own), *(s for s in valid if s != self.own)] if self.holds_own else valid

    @staticmethod
    def _within(dimension: Dimension, values: Setting) -> Dimension:
        """Beta's range as far as it is below the alpha of `values`; any other as it is."""
        is_bound = dimension.name == "beta" and "alpha" in values
        return dimension.within(high=BETA_TO_ALPHA * values["alpha"]) if is_bound else dimension


def _is_valid(setting: Setting) -> bool:
    both = "alpha" in setting and "beta" in setting
    return not both or setting["beta"] <= BETA_TO_ALPHA * _TOLERANCE * setting["alpha"]


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def space_of(config: Config, dimensions: Sequence[Dimension]) -> Space:
    """The space of `dimensions` around a config, cut to where beta is below alpha.

    Raises:
        ValueError: in one line, if nothing is searched, something twice, nothing is left, or a value is not allowed.
    """
    names = [dimension.name for dimension in dimensions]
    if not names:
        raise ValueError("say what to search: --alpha=0.05:0.5 --beta=0.005:0.1, or --search=FLAG=low:high")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{twice[0]} is searched twice: give it one range")
    by_name = {name: dimension for name, dimension in zip(names, dimensions, strict=True)}
    alpha, beta = by_name.get("alpha"), by_name.get("beta")
    least_beta, most_alpha = beta.low if beta else config.beta, alpha.high if alpha else config.alpha
    if least_beta > BETA_TO_ALPHA * most_alpha:
        raise ValueError(
            f"no beta from {least_beta:g} on is below an alpha of at most {most_alpha:g} (theorem 1): raise alpha's range, "
            "or lower beta's"
        )
    if alpha:
        by_name["alpha"] = alpha.within(low=least_beta / BETA_TO_ALPHA)
    if beta:
        by_name["beta"] = beta.within(high=BETA_TO_ALPHA * most_alpha)
    ordered = sorted(by_name.values(), key=lambda d: ("alpha", "beta", d.name).index(d.name))
    own = {name: 1.0 if name == RATE_FACTOR else getattr(config, name) for name in (d.name for d in ordered)}
    space = Space(tuple(ordered), own)
    for setting in space.grid(2):
        # What Config refuses, it says itself.
        configured(config, setting)
    return space


def total_epochs(rounds: Sequence[Round]) -> int:
    return sum(r.epochs for r in rounds)


def shortened(rounds: Sequence[Round], epochs: int) -> tuple[Round, ...]:
    """The rounds in `epochs` epochs, from 1 to what they have, at least one each: of fewer than rounds the first are kept.

    Each gets its share; what rounding leaves over goes to those that lost most, earlier ones first.
    """
    rounds = tuple(rounds[:epochs])
    shares = [r.epochs * epochs / total_epochs(rounds) for r in rounds]
    lengths = [max(1, math.floor(share)) for share in shares]
    while sum(lengths) != epochs:
        step = 1 if sum(lengths) < epochs else -1
        candidates = [i for i, length in enumerate(lengths) if length + step >= 1]
        chosen = max(candidates, key=lambda i: (step * (shares[i] - lengths[i]), -i))
        lengths[chosen] += step
    return tuple(Round(length, r.learning_rate) for length, r in zip(lengths, rounds, strict=True))


def configured(config: Config, setting: Setting, *, stage_2_epochs: int | None = None) -> Config:
    """The config with a setting; with `stage_2_epochs`, stages 2 and 3 are shortened in proportion, stage 2 to these."""
    flags = dict(setting)
    factor = flags.pop(RATE_FACTOR, 1.0)
    rounds = config.parsed_rounds
    changes: dict[str, Any] = {}
    if stage_2_epochs is not None and stage_2_epochs < total_epochs(rounds):
        share = stage_2_epochs / total_epochs(rounds)
        rounds = shortened(rounds, stage_2_epochs)
        epochs = math.ceil(share * config.finetune_epochs)
        cosine = config.finetune_cosine_epochs
        changes = {"finetune_epochs": epochs, "finetune_cosine_epochs": max(epochs, round(share * cosine)) if cosine else 0}
    text = ",".join(f"{r.epochs}:{r.learning_rate * factor:.6g}" for r in rounds)
    return dataclasses.replace(config, **changes | flags | {"rounds": text})
