"""Did unlabeled images help? In words, by images counted one against one. Pure functions; needs no TensorFlow."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from r2d2_tf.system.commands import shown

SURE = 0.05
"""A difference that chance brings about more rarely is none of chance."""
CONFIDENCE_LEVEL = 0.95
FEWEST = 6
"""Images in which two networks must differ, all to the good of one, for that: 2 / 2**6 is 0.031, and 2 / 2**5 is above."""
_FEW = 20 * FEWEST
"""With fewer images, FEWEST of them are more than 5 points: what is too small to be told may still matter."""
ADVICE = f"what would help: more labels, other weights (--weights), another recipe ({shown('tools.tune')})"


class Kind(enum.Enum):
    """What a comparison of two networks comes to, as its words begin."""

    GAIN = "Gain"
    FEWER = "Fewer errors"
    """So many as are counted: nothing is known that would tell them from chance."""
    SLIGHT_GAIN = "Slight gain"
    CANNOT_TELL = "cannot tell"
    NO_GAIN = "No gain"
    WORSE = "Worse"


@dataclass(frozen=True)
class Comparison:
    """How many of the same images two networks take for a wrong class.

    Attributes:
        first: wrong by the first network.
        second: wrong by the second.
        of: images.
        p_value: how often chance alone would set them so far apart, or further, if neither were better: the exact two-sided
            sign test on the images that one alone gets right (McNemar's). None: only the counts are known.
    """

    first: int
    second: int
    of: int
    p_value: float | None

    @property
    def is_sure(self) -> bool:
        return self.p_value is not None and self.p_value < SURE

    @property
    def kind(self) -> Kind:
        """What the second network is beside the first."""
        is_better = self.second < self.first
        if self.p_value is None:
            return Kind.FEWER if is_better else Kind.NO_GAIN
        if self.is_sure:
            return Kind.GAIN if is_better else Kind.WORSE
        if self.of < _FEW and abs(self.second - self.first) < FEWEST:
            return Kind.CANNOT_TELL
        return Kind.SLIGHT_GAIN if is_better else Kind.NO_GAIN


def sign_test(fewer: int, more: int) -> float:
    """The exact two-sided p value of so many images for one side and so many for the other, 0..1."""
    count, term, total = fewer + more, 1, 0
    for number in range(min(fewer, more) + 1):
        total += term
        term = term * (count - number) // (number + 1)
    # Of whole numbers, which may have thousands of digits, a float is made last.
    return float(min(Fraction(1), Fraction(2 * total, 2**count)))


def sign_test_of(one: np.ndarray, other: np.ndarray) -> float:
    """The same of which images two networks get wrong, `[images]` bool each."""
    return sign_test(int((one & ~other).sum()), int((other & ~one).sum()))


def error_interval(wrong: int, images: int) -> tuple[float, float]:
    """Wilson's 95 % interval of an error, in percent."""
    # A run tells its verdict without it, and need not wait for SciPy.
    from scipy import stats

    interval = stats.binomtest(wrong, images).proportion_ci(CONFIDENCE_LEVEL, method="wilson")
    return 100.0 * float(interval.low), 100.0 * float(interval.high)


def compared(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> Comparison:
    """Of predicted classes of the same images and their labels, `[images]` each."""
    first_wrong, second_wrong = first != labels, second != labels
    p_value = sign_test_of(first_wrong, second_wrong)
    return Comparison(int(first_wrong.sum()), int(second_wrong.sum()), len(labels), p_value)


def told_p(p_value: float) -> str:
    """A p value for people."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}" if p_value < 0.995 else "p = 1"


def words_of(found: Comparison, *, first: int, images: str = "test images") -> str:
    """What the stages after stage `first` brought, in a line, where the network of a later one is the result."""
    counted = f"{found.first:,} -> {found.second:,} wrong of {found.of:,} {images}"
    as_good, kind = f"stage {first} is as good; {ADVICE}", found.kind
    if found.p_value is None:
        return f"{kind.value}: {counted} (no predictions were kept to tell it from chance)"
    p = told_p(found.p_value)
    if kind is Kind.GAIN:
        return f"Gain: {counted} ({100 * (found.first - found.second) / found.first:.0f} % fewer; {p})"
    if kind is Kind.WORSE:
        return f"Worse: {counted}, more than chance ({p}): use stage {first} (export --stage={first}); {ADVICE}"
    if kind is Kind.CANNOT_TELL:
        return f"{found.of:,} {images} cannot tell: {counted}, and a difference below {FEWEST} may be chance ({p})"
    if kind is Kind.SLIGHT_GAIN:
        return f"Slight gain: {counted}, within chance ({p})"
    return f"No gain: {counted}, within chance ({p}); {as_good}"


def is_harm(words: str) -> bool:
    """Whether a verdict says that the result is worse than the first stage's network by more than chance."""
    return words.startswith(f"{Kind.WORSE.value}:")


def words_of_no_gain(found: Comparison, *, first: int, last: int, images: str = "test images") -> str:
    """The same where stage `first` is the result, by what is held out or by the flag, and `last` was trained after it."""
    p = f" ({told_p(found.p_value)})" if found.p_value is not None else ""
    counted = f"{found.first:,} wrong of {found.of:,} {images}, and {found.second:,} after stage {last}{p}"
    text = f"Stage {first} is the result: {counted}"
    return text if found.second < found.first else f"{text}; {ADVICE}"


def words_of_one(wrong: int, of: int, stage: int, images: str = "test images") -> str:
    """Of a run of one stage."""
    return f"Stage {stage} alone: {wrong:,} wrong of {of:,} {images} ({100 * wrong / of:.1f} %)"


def held_out_words(wrong: Mapping[int, int], of: int, chosen: int, p_value: float) -> str:
    """Why the network of stage `chosen` is the result, by errors on held-out labels, stage -> how many wrong, in a line."""
    others = [f"{count:,} after stage {stage}" for stage, count in wrong.items() if stage != chosen]
    text = f"the network of stage {chosen}: {wrong[chosen]:,} of {of:,} held-out labels wrong"
    if not others:
        return text
    if p_value < SURE:
        how_sure = "hardly chance"
    elif p_value < 0.5:
        how_sure = "a slight sign only"
    else:
        how_sure = "no sign that it is better"
    return f"{text}, against {' and '.join(others)} ({told_p(p_value)}: {how_sure})"


def surer_words(wrong: int, of: int, test_wrong: int, num_test: int) -> str:
    """How wrong a network is by its held-out labels, where these are more than the test images, in a line."""

    def share(wrong: int, of: int) -> str:
        return "{:.0f} % (95 %: {:.0f} to {:.0f})".format(100 * wrong / of, *error_interval(wrong, of))

    return (
        f"How wrong is it? About {share(wrong, of)} of the {of:,} held-out labels, which are more than the {num_test:,} test "
        f"images; these say {share(test_wrong, num_test)}"
    )


def too_few(held_out: int) -> str | None:
    """What to tell, before training, of held-out labels that can hardly tell networks apart."""
    if held_out >= 5 * FEWEST:
        return None
    return (
        f"{held_out} held-out labels hardly tell networks apart: only a difference of {FEWEST} errors or more is no chance; "
        "have more labels, or train on all of them by --held_out=none, and the last stage is the result"
    )


@dataclass(frozen=True)
class Outcome:
    """The first stage of a run beside the one that it is held against.

    Attributes:
        first: number of the run's first stage.
        other: that of its result or, where the first stage is the result, of its last one; `first` in a run of one stage.
        result: stage whose network is the result.
        found: their errors on the test images; of one stage, with itself.
    """

    first: int
    other: int
    result: int
    found: Comparison


def outcome_of(
    errors: Mapping[int, float], predictions: Mapping[str, np.ndarray], labels: np.ndarray | None, num_test: int, result: int
) -> Outcome:
    """What a run came to.

    Args:
        errors: percent of the test images after each stage, stage -> error, in order.
        predictions: of the test images, `stage_N` -> classes `[images]`, of the stages of which they are known.
        labels: of the test images; None: they are not known, nor are predictions.
        num_test: test images.
        result: stage whose network is the result.
    """
    first, last = next(iter(errors)), list(errors)[-1]
    other = result if result != first else last
    names = f"stage_{first}", f"stage_{other}"
    if labels is not None and all(name in predictions for name in names):
        found = compared(predictions[names[0]], predictions[names[1]], labels)
    else:
        counts = {stage: round(errors[stage] * num_test / 100) for stage in (first, other)}
        found = Comparison(counts[first], counts[other], num_test, None)
    return Outcome(first, other, result, found)


def verdict_of(
    errors: Mapping[int, float], predictions: Mapping[str, np.ndarray], labels: np.ndarray, result: int, images: str
) -> str:
    """The verdict on a run, in a line; see `outcome_of`. `images` is what the test images are called."""
    outcome = outcome_of(errors, predictions, labels, len(labels), result)
    first, found = outcome.first, outcome.found
    if outcome.other == first:
        return words_of_one(found.first, found.of, first, images)
    if result == first:
        return words_of_no_gain(found, first=first, last=outcome.other, images=images)
    return words_of(found, first=first, images=images)
