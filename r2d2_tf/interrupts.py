"""Ctrl-C and SIGTERM: a run finishes its step, saves, and says how to go on."""

import os
import signal
from types import FrameType, TracebackType
from typing import Any

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class RunInterrupted(BaseException):
    """A signal asked the program to stop.

    Like KeyboardInterrupt no Exception, so that nothing that handles errors takes it for one.

    Attributes:
        exit_code: 128 + the signal's number, as shells have it.
        name: of the signal.
    """

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        self.name = _NAMES[signal.Signals(number)]
        super().__init__(f"stopped by {self.name}")


class StopSignals:
    """While it is entered, the first signal asks for a stop, and a second one stops the process at once.

    The request raises RunInterrupted where `check` is called next; before `defer`, while nothing has been learned, at once.
    """

    def __init__(self) -> None:
        self._requested: int | None = None
        self._deferring = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        self._before = {number: signal.signal(number, self._receive) for number in _NAMES}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def defer(self) -> None:
        """From now on only `check` raises."""
        self._deferring = True
        self.check()

    def check(self) -> None:
        """Raises RunInterrupted if a signal has come."""
        if self._requested is not None:
            raise RunInterrupted(self._requested)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._requested is not None:
            os.write(2, b"\nstopped at once\n")
            os._exit(128 + number)
        self._requested = number
        if not self._deferring:
            raise RunInterrupted(number)
        name = _NAMES[signal.Signals(number)]
        os.write(2, f"\n{name}: finishing the step and saving; once more stops at once\n".encode())
