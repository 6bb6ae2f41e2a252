"""Do the predictions collapse into few classes? Then a run stops, with the flag that most likely is wrong."""

import keras
import numpy as np

from r2d2_tf.method.class_balance import labeled_shares
from r2d2_tf.method.metrics import Logs
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from r2d2_tf.runs.run_state import RunState
from r2d2_tf.training.stages import Stage

_ENOUGH_A_CLASS = 100
"""Predictions a class from which a collapse can be told in the middle of an epoch."""
_ENOUGH_EXPECTED = 10
"""Images that a class should get before it says anything that it gets none: by chance that happens once in 22,000 times."""


class RunStopped(RuntimeError):
    """Training cannot go on; the message says where it stopped and what to change.

    Attributes:
        rate_matters: whether a smaller learning rate, from an earlier checkpoint on, might help.
    """

    def __init__(self, message: str, *, rate_matters: bool = True) -> None:
        super().__init__(message)
        self.rate_matters = rate_matters


class CollapseGuard(keras.callbacks.Callback):
    """Stops a run whose predictions have collapsed into few classes; see `is_collapsed`.

    Looks at the first predictions of pseudo-labels and at every later one, and at what was predicted in training and, after
    each epoch, in evaluation (classes only: it never sees a true label). Not in stage 1, whose first epochs are allowed to
    know nothing. A long epoch is looked at after 1, 2, 4, 8, ... steps too, once it has predicted enough images.

    Raises:
        RunStopped: with the classes and the likely flag.
    """

    def __init__(self, stage: Stage, table: PseudoLabelTable, state: RunState) -> None:
        super().__init__()
        self.stage, self.table, self.state = stage, table, state

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        step = self.state.step + 1
        if self.stage.images.use_unlabeled and step & (step - 1) == 0:
            counts = np.asarray(self.model.measures.result()["predicted_classes"])
            if counts.sum() >= _ENOUGH_A_CLASS * len(counts):
                self._check(counts, "unlabeled", self.stage.words.advice)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        if epoch in self.stage.prediction_epochs and not self.state.step:
            largest = self.table.largest_classes(self.table.unlabeled_rows)
            counts = np.bincount(largest, minlength=self.table.num_classes)
            # Stage 1 is done: what it learned is not for this stage's rates to mend.
            advice = self.stage.words.advice if epoch else self.stage.words.advice_before
            self._check(counts, "unlabeled", advice, rate_matters=epoch > 0)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self.stage.images.use_unlabeled:
            self._check(np.asarray(logs["predicted_classes"]), "unlabeled", self.stage.words.advice)
            self._check(logs["evaluated_classes"], "evaluated", self.stage.words.advice)

    def _check(self, counts: np.ndarray, kind: str, advice: str, *, rate_matters: bool = True) -> None:
        shares = labeled_shares(self.table.labels, self.table.num_classes)
        if is_collapsed(counts, shares):
            top = int(counts.argmax())
            raise RunStopped(
                f"the predictions collapsed: {100 * counts[top] / counts.sum():.0f} % of the {kind} images fall into class "
                f"{top}, which has {100 * shares[top]:.0f} % of the labeled ones; {self._of_stage_1()}{advice} "
                "(--nostop_on_collapse goes on regardless, as where the images really are so unequal)",
                rate_matters=rate_matters,
            )

    def _of_stage_1(self) -> str:
        """How wrong stage 1 was, which a collapse most often comes of; nothing is decided by it."""
        errors = [row["test_error"] for row in self.state.rows if row["stage"] == 1]
        if self.state.borrowed is not None:
            errors = [self.state.borrowed["test_error_percent"]["stage_1"]]
        if not errors:
            return ""
        return (
            f"was stage 1 poor? From {len(self.table.labeled_rows):,} labels it came to {errors[-1]:.0f} % test error, and its "
            "predictions are what stage 2 learns from: have more labels, or pretrained weights (--trainable=head "
            "--weights=imagenet); else "
        )


def is_collapsed(counts: np.ndarray, shares: np.ndarray) -> bool:
    """Whether predictions have collapsed into few classes.

    A class is *lost* when it gets under a tenth of its share among the labeled images, and so few by no chance: by that share
    it would get at least _ENOUGH_EXPECTED. It is a collapse when lost classes make up a third or more of what lies outside the
    largest class (of the classes of which that can be told), which holds for unequal classes too and which no drift of
    proportions brings about; or when the total variation between the two histograms is above 0.7, with enough images.

    Args:
        counts: images predicted in each class, `[classes]`.
        shares: of each class among the labeled images, `[classes]`, adding up to 1.
    """
    total = max(1.0, counts.sum())
    predicted = counts / total
    told = shares * total >= _ENOUGH_EXPECTED
    lost = shares[told & (predicted < 0.1 * shares)].sum()
    outside = shares[told].sum() - shares.max()
    distance = 0.5 * np.abs(predicted - shares).sum()
    is_far = distance > 0.7 and total >= _ENOUGH_EXPECTED * len(counts)
    return bool(lost > 0 and lost >= outside / 3 - 1e-9) or bool(is_far)
