"""Is a model right as often as it is sure? Reliability in bins of its confidence, and the expected calibration error."""

from dataclasses import dataclass

import numpy as np

NUM_BINS = 15
"""Of Guo et al. 2017, and of most numbers in the literature."""


@dataclass(frozen=True)
class Reliability:
    """Images in bins of equal width of their confidence, the probability of the class that was predicted.

    Attributes:
        edges: of the bins, from 0 to 1, `[bins + 1]`; a confidence on an edge is in the bin below it.
        counts: images in each bin, `[bins]`.
        confidence: mean confidence in each bin, `[bins]`; NaN where it is empty.
        accuracy: share of right predictions in each bin, in 0..1, `[bins]`; NaN where it is empty.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def reliability(confidence: np.ndarray, correct: np.ndarray, num_bins: int = NUM_BINS) -> Reliability:
    """Puts images into bins of their confidence.

    Args:
        confidence: probability of the predicted class, in 0..1, `[images]`.
        correct: whether the prediction is right, `[images]` bool.
        num_bins: how many there are, of equal width.
    """
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    # A confidence of 0, or a hair above 1, belongs to the first or last bin.
    bins = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    there = np.where(counts, counts, np.nan)
    sums = (np.bincount(bins, weights=values, minlength=num_bins) for values in (confidence, correct))
    mean_confidence, accuracy = (total / there for total in sums)
    return Reliability(edges, counts, mean_confidence, accuracy)


def expected_calibration_error(found: Reliability) -> float:
    """Mean distance (0..1) of accuracy and confidence over the bins, each weighing by its images (Guo et al. 2017, eq. 3)."""
    gaps = np.nan_to_num(np.abs(found.accuracy - found.confidence))
    return float(np.average(gaps, weights=found.counts))
