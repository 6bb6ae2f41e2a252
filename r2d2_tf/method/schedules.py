"""Rounds of stage 2 and learning rates: pure functions of the epoch."""

import math
from dataclasses import dataclass

MOST_EPOCHS = 1_000_000
"""Of a stage: the learning rate of each is kept in a list."""


@dataclass(frozen=True)
class Round:
    """One round of D2: `epochs` epochs at `learning_rate`."""

    epochs: int
    learning_rate: float


def parse_rounds(text: str) -> tuple[Round, ...]:
    """Reads `epochs:learning_rate,...`, for example `300:0.12,75:0.12,75:0.08`.

    Raises:
        ValueError: if the list is empty or a round is not `epochs:learning_rate` with a whole number
            of epochs, 1 or more, and a positive, finite learning rate; or if there are too many epochs.

    >>> parse_rounds("300:0.12,75:0.08")
    (Round(epochs=300, learning_rate=0.12), Round(epochs=75, learning_rate=0.08))
    """
    rounds = tuple(_parse_round(part, text) for part in text.split(","))
    epochs = sum(r.epochs for r in rounds)
    if epochs > MOST_EPOCHS:
        raise ValueError(f"rounds ({text!r}) have {epochs} epochs, and must have at most {MOST_EPOCHS}: change --rounds")
    return rounds


def _parse_round(part: str, text: str) -> Round:
    try:
        epochs_text, rate_text = part.split(":")
        parsed = Round(int(epochs_text), float(rate_text))
    except ValueError:
        parsed = None
    if parsed is None or parsed.epochs < 1 or not 0 < parsed.learning_rate < math.inf:
        raise ValueError(
            f"rounds ({text!r}): {part.strip()!r} is not a round; write epochs:learning_rate, separated by "
            "commas, with 1 epoch or more and a rate above 0, as in --rounds=300:0.12,75:0.08"
        )
    return parsed


def round_learning_rates(rounds: tuple[Round, ...]) -> tuple[float, ...]:
    """The learning rate of every epoch of the rounds, first to last."""
    return tuple(r.learning_rate for r in rounds for _ in range(r.epochs))


def round_starts(rounds: tuple[Round, ...]) -> tuple[int, ...]:
    """The epoch (from 0) at which each round begins.

    >>> round_starts(parse_rounds("300:0.12,75:0.08,75:0.04"))
    (0, 300, 375)
    """
    return tuple(sum(r.epochs for r in rounds[:i]) for i in range(len(rounds)))


def cosine_learning_rates(base: float, epochs: int, length: int) -> tuple[float, ...]:
    """The learning rate of each of `epochs` epochs on a cosine from `base` that reaches 0 at epoch `length`.

    `length` may exceed `epochs` (the authors cut a cosine of 350 epochs at 300); 0 keeps the rate constant.

    >>> [round(rate, 3) for rate in cosine_learning_rates(0.1, epochs=3, length=4)]
    [0.1, 0.085, 0.05]
    """
    if length == 0:
        return (base,) * epochs
    return tuple(base * 0.5 * (1.0 + math.cos(math.pi * epoch / length)) for epoch in range(epochs))
