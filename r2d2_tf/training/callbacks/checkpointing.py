"""When a run is saved, and when it stops because somebody asked."""

import time
from collections.abc import Callable, Collection

import keras

from r2d2_tf.method.metrics import Logs
from r2d2_tf.runs.run_state import RunState

_CHEAP = 0.02
"""Share of a run's time that checkpoints may take beyond those that --checkpoint_minutes asks for."""


class RunCheckpoint(keras.callbacks.Callback):
    """Keeps the place of the run true and saves it; the last callback in the list.

    A checkpoint is written when `minutes` have gone since the last one; at the end of an epoch if that is cheap (the last
    one took less than a fiftieth of the time since then); and always before the pseudo-labels are predicted, as a prediction
    that is interrupted cannot be gone back from, and where a round ends that is kept. After each step a stop that was asked for
    takes place.

    Args:
        always: numbers of epochs done at which it is saved in any case.
        steps: in an epoch.
        state: of the run.
        save: writes a checkpoint.
        minutes: between checkpoints, at most.
        ask: whether to stop and whether to save, as all processes agree: takes whether this one would save, and returns
            whether all do; raises RunInterrupted where a stop was asked for.
    """

    def __init__(
        self,
        always: Collection[int],
        steps: int,
        state: RunState,
        save: Callable[[], None],
        minutes: float,
        ask: Callable[[bool], bool],
    ) -> None:
        super().__init__()
        self.always, self.steps, self.state = always, steps, state
        self.save, self.minutes, self.ask = save, minutes, ask
        self._saved, self._cost = time.monotonic(), 0.0

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self.state.step += 1
        self.state.consistent = True
        # An epoch that is resumed has fewer steps than Keras was told.
        self.model.stop_training = self.state.step == self.steps
        if self.ask(time.monotonic() - self._saved >= 60 * self.minutes):
            self._save()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.model.stop_training = False
        self.state.begin_epoch()
        since = time.monotonic() - self._saved
        if self.ask(self.state.epoch in self.always or self._cost < _CHEAP * since or since >= 60 * self.minutes):
            self._save()

    def _save(self) -> None:
        began = time.monotonic()
        self.save()
        self._saved = time.monotonic()
        self._cost = self._saved - began
        self.ask(False)
