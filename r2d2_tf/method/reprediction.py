"""Repetitive reprediction (R2) as a callback for any `fit` of an R2D2Model."""

from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

import keras

from r2d2_tf.distributed.workers import Batches
from r2d2_tf.method.class_balance import repredict_balanced
from r2d2_tf.method.metrics import Logs
from r2d2_tf.method.model import R2D2Model

Condition: TypeAlias = Callable[[int, R2D2Model], bool]
"""Of the epoch (from 0) that is to begin and the model: whether predictions replace the rows first.

It is asked once an epoch. Where it depends on nothing but the epoch, the weights and the table, all of which a checkpoint has,
a run that is resumed predicts when an undisturbed one does.
"""


def when_settled(share: float, *, every: int = 1) -> Condition:
    """Whether at most `share` (0..1) of the unlabeled rows changed their largest class in the epoch before.

    The first time of all, when the rows hold nothing, it is true. Just after a prediction rows move least, so that a condition
    that held once would hold again and again: with `every`, only each epoch is asked whose number it divides.
    """

    def is_settled(epoch: int, model: R2D2Model) -> bool:
        changed = model.table.share_changed()
        return changed is None or (epoch % every == 0 and changed <= share)

    return is_settled


class Reprediction(keras.callbacks.Callback):
    """Before some epochs the network's predictions replace the unlabeled rows (R2), and the learning rate falls.

        model.fit(batches, epochs=9, callbacks=[Reprediction(unlabeled, epochs=(0, 3, 6), learning_rates=rates)])

    It remembers nothing from one epoch to the next, so `fit` can begin at any (`initial_epoch`). An epoch that goes on in its
    middle (`model.resumes_epoch`) has had its prediction.

    Args:
        batches: (unaugmented images, rows) of all unlabeled images, for a pass each time.
        epochs: those (from 0) to predict before; or a function of (epoch, model) that says whether, as `when_settled` makes
            one. The table then marks its rows' classes at each epoch's beginning, for its `share_changed`.
        learning_rates: of each epoch, in order, or by a function of the epoch; None: the optimizer's is left alone.
        before: called before a prediction, with the epoch.
        after: called after it, with the epoch and the number of rows whose largest class it changed.
        balances_classes: the predictions are shifted to the labels' shares of the classes (`class_balance`).

    Raises:
        ValueError: if `epochs` or `learning_rates` is a single number, or `batches` a single pair; when an epoch begins that
            has no learning rate.
    """

    def __init__(
        self,
        batches: Batches,
        epochs: Collection[int] | Condition,
        learning_rates: Sequence[float] | Callable[[int], float] | None = None,
        *,
        before: Callable[[int], object] = lambda epoch: None,
        after: Callable[[int, int], object] = lambda epoch, changes: None,
        balances_classes: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("epochs", epochs), ("learning_rates", learning_rates)):
            if isinstance(value, int | float):
                raise ValueError(f"{name} ({value}) is one number: give several, as in [{value}], or a function")
        if isinstance(batches, tuple):
            raise ValueError("batches is one pair: give many, as a tf.data.Dataset does, or a list of one, [(images, rows)]")
        self.batches = batches
        self.epochs = epochs
        self.learning_rates = learning_rates
        self.before = before
        self.after = after
        self.balances_classes = balances_classes
        self._resumes = False

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._resumes = self.model.resumes_epoch

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        if self.learning_rates is not None:
            self.model.optimizer.learning_rate.assign(_rate_of(epoch, self.learning_rates))
        resumes, self._resumes = self._resumes, False
        if resumes:
            return
        if self.epochs(epoch, self.model) if callable(self.epochs) else epoch in self.epochs:
            self.before(epoch)
            self.after(epoch, (repredict_balanced if self.balances_classes else R2D2Model.repredict)(self.model, self.batches))
        if callable(self.epochs):
            self.model.table.mark_classes()


def _rate_of(epoch: int, learning_rates: Sequence[float] | Callable[[int], float]) -> float:
    if callable(learning_rates):
        return learning_rates(epoch)
    if epoch >= len(learning_rates):
        raise ValueError(
            f"learning_rates has {len(learning_rates)} rates, and epoch {epoch} (from 0) has none: give one an epoch"
        )
    return learning_rates[epoch]
