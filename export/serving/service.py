"""What both protocols ask for: predictions of a model, in time and within bounds; and errors turned into ServingErrors."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import numpy as np

from export.serving import lookup
from export.serving.batching import Batcher
from export.serving.errors import Code, ServingError
from export.serving.server_metrics import Metrics
from export.serving.server_settings import Settings
from export.serving.signatures import Arrays, Signature
from export.serving.versions import LoadedVersion, ModelVersions
from r2d2_tf.system.messages import one_line

_LOG = logging.getLogger("export.serve")
SMALL_BYTES = 2**16
"""What is smaller is read and written at once, on the event loop; anything else in a thread or a process."""

Result = TypeVar("Result")


class Service:
    """A model that answers.

    Attributes:
        stopping: whether the server has been asked to stop; requests are still answered.
        closed: whether new requests are refused, as the server is about to end.
    """

    def __init__(self, settings: Settings, versions: ModelVersions, metrics: Metrics) -> None:
        self.settings, self.versions, self.metrics = settings, versions, metrics
        self.batcher = Batcher(settings, metrics.batch)
        self.stopping = self.closed = False
        self._held_bytes = 0
        # One thread: what a message takes in Python, many times its size, is then there once.
        self._converter = ThreadPoolExecutor(1, thread_name_prefix="converter")
        metrics.queued.set_function(lambda: self.batcher.queued)
        metrics.switches.set_function(lambda: versions.switches)
        metrics.version.labels(versions.name).set_function(lambda: versions.current.number if versions.current else 0)

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here."""
        return self.versions.current is not None and not self.stopping

    def check_rows(self, rows: int) -> None:
        """Raises ServingError if a request has more than it may."""
        lookup.check_rows(rows, self.settings.max_rows)

    @contextlib.contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """Counts the bytes of a request while it is in memory, as they come; what is yielded is told each time how many.

        It raises ServingError if there are too many; a request that is alone is never refused.
        """
        own = 0

        def hold(size: int) -> None:
            nonlocal own
            if self._held_bytes > own and self._held_bytes + size > self.settings.max_held_bytes:
                raise ServingError(Code.UNAVAILABLE, f"{self._held_bytes:,} bytes of requests wait already: try again later")
            own += size
            self._held_bytes += size

        try:
            yield hold
        finally:
            self._held_bytes -= own

    def in_time(self) -> "_InTime":
        """Gives a request up when its time, from its last byte to its answer, is over, by a ServingError."""
        return _InTime(self.settings.request_timeout)

    async def convert(self, size: int, function: Callable[[], Result]) -> Result:
        """What `function` makes of about `size` bytes, which hold up the other requests as little as can be."""
        if size <= SMALL_BYTES:
            return function()
        return await asyncio.get_running_loop().run_in_executor(self._converter, function)

    async def predict(self, version: LoadedVersion, signature: Signature, inputs: Arrays) -> Arrays:
        """The outputs for checked inputs.

        Raises:
            ServingError: if they are refused.
        """
        self.check_rows(signature.rows({name: array.shape for name, array in inputs.items()}))
        return await self.batcher.predict(version, signature, inputs)

    def close(self) -> None:
        """Lets the threads end."""
        self.batcher.close()
        self._converter.shutdown(wait=False, cancel_futures=True)


class _InTime:
    """asyncio.timeout with an error for the client; a generator's context would take three times as long."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._timeout = seconds, asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            message = f"not answered within {self._seconds:g} seconds: send fewer at a time"
            raise ServingError(Code.DEADLINE_EXCEEDED, message) from None


def size_of(arrays: Iterable[np.ndarray]) -> int:
    """Bytes of arrays; of strings their length."""
    return sum(sum(map(len, array.flat)) if array.dtype == object else array.nbytes for array in arrays)


def as_serving_error(error: Exception) -> ServingError:
    """What the client is told: a refusal as it is, anything else as an internal error, whose traceback goes to the log."""
    if isinstance(error, ServingError):
        return ServingError(error.code, one_line(error))
    reference = secrets.token_hex(4)
    _LOG.error("internal error %s", reference, exc_info=error)
    return ServingError(Code.INTERNAL, f"internal error {reference}: the server's log says more under this number")
