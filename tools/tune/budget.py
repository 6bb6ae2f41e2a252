"""The rounds of stage 2 in fewer epochs, for hyperband. Needs no TensorFlow."""

import math
from collections.abc import Sequence

from r2d2_tf.method.schedules import Round


def total_epochs(rounds: Sequence[Round]) -> int:
    """Epochs of all rounds."""
    return sum(r.epochs for r in rounds)


def shortened(rounds: Sequence[Round], epochs: int) -> tuple[Round, ...]:
    """The rounds in `epochs` epochs, at least one each: of fewer epochs than rounds the first ones are kept.

    Each gets its share; what rounding leaves over goes to those that lost most, earlier ones first.

    Args:
        rounds: as they are.
        epochs: from 1 to what they have.
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
