"""What C libraries write to standard error by themselves: warnings about images, which name no file, each time."""

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import IO

_OF_DECODERS = re.compile(
    rb"Corrupt JPEG data|Premature end of JPEG|Improper call to JPEG|Inconsistent progression|Warning: unknown JFIF|Invalid SOS"
    rb"|Unknown Adobe|Application transferred too|libpng (warning|error)|.*\blocal_rendezvous\b|.*Local rendezvous is aborting"
)
_SECONDS_TO_END = 5
"""How long is waited for a process that was started meanwhile and still holds standard error."""


class Held:
    """What was written since the block began."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    @property
    def size(self) -> int:
        """Bytes so far."""
        return os.fstat(self._file.fileno()).st_size

    @property
    def is_about_images(self) -> bool:
        """Whether a decoder warned."""
        return any(map(_OF_DECODERS.match, self._lines()))

    def _lines(self) -> list[bytes]:
        return os.pread(self._file.fileno(), self.size, 0).splitlines(keepends=True)

    def others(self) -> bytes:
        """What no decoder wrote."""
        return b"".join(line for line in self._lines() if not _OF_DECODERS.match(line))


@contextlib.contextmanager
def held() -> Iterator[Held]:
    """Holds back what C libraries write in the block, and shows at its end what is not about images."""
    with tempfile.TemporaryFile("a+b", buffering=0) as file:
        what = Held(file)
        with _redirected(file.fileno()) as terminal:
            try:
                yield what
            finally:
                os.write(terminal, what.others())


@contextlib.contextmanager
def without_warnings_about_images() -> Iterator[None]:
    """Passes on what C libraries write in the block, but for warnings about images.

    A thread passes it on, as the block may take days: what a library says as it kills the process may be lost.
    """
    reading, writing = os.pipe()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, reading)
        terminal = stack.enter_context(_copy_of_standard_error())
        thread = threading.Thread(target=_pass_on, args=(reading, terminal), daemon=True)
        stack.callback(thread.join, _SECONDS_TO_END)
        stack.callback(os.close, writing)
        thread.start()
        stack.enter_context(_redirected(writing))
        yield


def _pass_on(reading: int, terminal: int) -> None:
    rest = b""
    with contextlib.suppress(OSError):
        while read := os.read(reading, 2**16):
            *lines, rest = (rest + read).split(b"\n")
            os.write(terminal, b"".join(line + b"\n" for line in lines if not _OF_DECODERS.match(line)))
        os.write(terminal, rest)


@contextlib.contextmanager
def _copy_of_standard_error() -> Iterator[int]:
    copy = os.dup(2)
    try:
        yield copy
    finally:
        os.close(copy)


@contextlib.contextmanager
def _redirected(target: int) -> Iterator[int]:
    """Sends what C libraries write to `target`; what Python writes goes to the terminal, whose descriptor this gives."""
    sys.stderr.flush()
    with _copy_of_standard_error() as terminal:
        own = sys.stderr
        if _descriptor(own) == 2:
            sys.stderr = open(terminal, "w", buffering=1, encoding=own.encoding, errors=own.errors, closefd=False)  # noqa: SIM115
        os.dup2(target, 2)
        try:
            yield terminal
        finally:
            os.dup2(terminal, 2)
            if sys.stderr is not own:
                sys.stderr.close()
                sys.stderr = own


def _descriptor(stream: IO[str]) -> int:
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return -1
