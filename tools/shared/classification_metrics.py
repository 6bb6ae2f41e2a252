"""How wrong is a classifier? Measures of its predictions, gathered a batch at a time."""

from dataclasses import dataclass, field

import numpy as np
from sklearn import metrics

from r2d2_tf.runs.outcome.verdict import error_interval

TOP = 5
_EPSILON = float(np.finfo(np.float32).eps)
"""What scikit-learn raises a probability of 0 to, in float32, before it takes the logarithm."""


@dataclass(frozen=True)
class ClassificationMetrics:
    """What was measured. Errors are in percent.

    Attributes:
        labels: true class of each image, `[images]`.
        predicted: class of each image that was given the largest probability, `[images]`.
        confidence: that probability, `[images]` float32.
        confusion: images by true class (rows) and predicted class, `[classes, classes]`.
        nll: mean negative log-likelihood of the true class, in nats.
        brier: mean squared distance of probabilities and truth, 0 to 2.
        top5_error: share of images whose class is not among the five likeliest; None with five classes or fewer.
        impossible: images whose true class was given a probability of 0 (under 1.2e-7), at which `nll` is cut off.
    """

    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    confusion: np.ndarray
    nll: float
    brier: float
    top5_error: float | None
    impossible: int

    @property
    def error(self) -> float:
        return 100.0 * float(1.0 - metrics.accuracy_score(self.labels, self.predicted))

    @property
    def error_interval(self) -> tuple[float, float]:
        """Wilson's interval: what errors on endless such images would go well with the one on these."""
        return error_interval(int(np.sum(self.labels != self.predicted)), len(self.labels))

    @property
    def class_errors(self) -> np.ndarray:
        """Error of each class, `[classes]`; NaN where it has no image."""
        classes = np.arange(len(self.confusion))
        recall = metrics.recall_score(self.labels, self.predicted, labels=classes, average=None, zero_division=np.nan)
        return 100.0 * (1.0 - recall)

    @property
    def balanced_error(self) -> float:
        """Mean over the classes of their errors, those without images aside."""
        return float(np.nanmean(self.class_errors))

    @property
    def reliability(self) -> "Reliability":
        return reliability(self.confidence, self.labels == self.predicted)

    @property
    def calibration_error(self) -> float:
        return 100.0 * expected_calibration_error(self.reliability)


def largest_confusions(confusion: np.ndarray, count: int) -> list[tuple[int, int, int]]:
    """The `count` largest numbers off the diagonal of a confusion matrix, as (row, column, number), the largest first."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(int(i), int(j), int(wrong[i, j])) for i, j in pairs if wrong[i, j]]


@dataclass
class MetricsAccumulator:
    """Gathers predictions. Of each image it keeps label, prediction and confidence, not its probabilities."""

    num_classes: int
    _images: list[tuple[np.ndarray, ...]] = field(default_factory=list)
    _sums: np.ndarray = field(default_factory=lambda: np.zeros(4))
    """Over the images: negative log-likelihood, Brier score, right among the first five, and given no probability."""

    def add(self, probabilities: np.ndarray, labels: np.ndarray) -> None:
        """Adds a batch of predictions.

        Args:
            probabilities: `[batch, classes]`; each row is divided by its sum, which is not quite 1 where they are quantized.
            labels: true classes, `[batch]`.

        Raises:
            ValueError: if a probability is not finite, or a row has none.
        """
        sums = probabilities.sum(1, dtype=np.float64, keepdims=True)
        if not np.isfinite(sums).all() or (sums <= 0).any():
            raise ValueError("it gives probabilities that are not finite, or all 0")
        p, classes = (probabilities / sums).astype(np.float32), np.arange(self.num_classes)
        self._images.append((labels, p.argmax(1), p.max(1)))
        nll = metrics.log_loss(labels, p, normalize=False, labels=classes)
        brier = len(labels) * metrics.brier_score_loss(labels, p, labels=classes, scale_by_half=False)
        few = self.num_classes <= TOP
        top = 0 if few else metrics.top_k_accuracy_score(labels, p, k=TOP, normalize=False, labels=classes)
        self._sums += nll, brier, top, np.sum(p[np.arange(len(labels)), labels] < _EPSILON)

    def result(self) -> ClassificationMetrics:
        """Of all batches, at least one."""
        labels, predicted, confidence = (np.concatenate(own) for own in zip(*self._images, strict=True))
        nll, brier, top, _ = (self._sums / len(labels)).tolist()
        return ClassificationMetrics(
            labels,
            predicted,
            confidence,
            confusion=metrics.confusion_matrix(labels, predicted, labels=np.arange(self.num_classes)),
            nll=nll,
            brier=brier,
            top5_error=100.0 * (1.0 - top) if self.num_classes > TOP else None,
            impossible=int(self._sums[-1]),
        )


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
