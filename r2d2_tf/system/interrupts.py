"""Ctrl-C and SIGTERM: a run finishes its step, saves, and says how to go on."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class RunInterrupted(BaseException):
    """A signal asked the program to stop.

    Like KeyboardInterrupt no Exception, so that nothing that handles errors takes it for one.

    Attributes:
        exit_code: 128 + the signal's number, as shells have it.
    """

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(f"stopped by {_NAMES[signal.Signals(number)]}")


class StopSignals:
    """While it is entered, the first signal asks for a stop, and a second one stops at once.

    The request raises RunInterrupted where `check` is called next; before `defer`, while nothing has been learned, at once.
    A second one ends the process, or, where it is not the program's own (`ends_process=False`), raises RunInterrupted.

    A thread counts the signals: Python's own handlers run between two bytecodes alone, so that a step of TensorFlow would hold
    them back and merge two of a kind.
    """

    def __init__(self, *, ends_process: bool = True) -> None:
        self._ends_process = ends_process
        self._requested: int | None = None
        self._deferring = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._wakeup_before = signal.set_wakeup_fd(self._writer)
        threading.Thread(target=self._count, args=[reader], daemon=True).start()
        self._before = self._install()
        return self

    def _install(self) -> dict[signal.Signals, Any]:
        return {number: signal.signal(number, self._receive) for number in _NAMES}

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._writer)

    def defer(self) -> None:
        """From now on only `check` raises."""
        self._deferring = True
        self.check()

    @property
    def requested(self) -> int:
        """Number of the first signal that has come; 0: none."""
        return self._requested or 0

    def check(self) -> None:
        """Raises RunInterrupted if a signal has come."""
        if self._requested is not None:
            raise RunInterrupted(self._requested)

    @contextlib.contextmanager
    def of_the_system(self) -> Iterator[None]:
        """Within it a signal ends the process, as if nobody handled it: for a long call in which Python can do nothing.

        Afterwards the signals are handled here again, whoever else has taken them meanwhile: TensorFlow, as it connects several
        processes, takes SIGTERM, and then only takes note of it.
        """
        for number in self._before:
            signal.signal(number, signal.SIG_DFL)
        try:
            yield
        finally:
            if self._before:
                self._install()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        is_second, self._requested = self._requested is not None, self._requested or number
        if not self._deferring or (is_second and not self._ends_process):
            raise RunInterrupted(number)

    def _count(self, reader: int) -> None:
        asked = False
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            while byte := pipe.read(1):
                if byte[0] not in _NAMES:
                    continue
                if asked and self._ends_process:
                    os.write(2, b"\nstopped at once\n")
                    os._exit(128 + byte[0])
                asked = True
                if self._deferring:
                    name = _NAMES[signal.Signals(byte[0])]
                    os.write(2, f"\n{name}: saving the run; once more stops at once\n".encode())


@contextlib.contextmanager
def signals_of_a_call() -> Iterator[StopSignals]:
    """StopSignals while a function runs that a user's program called: they do not end its process.

    Handled in the main thread alone: Python lets other threads set no handlers.
    """
    signals = StopSignals(ends_process=False)
    with signals if threading.current_thread() is threading.main_thread() else contextlib.nullcontext():
        yield signals
