"""What both protocols ask for: predictions of a model, in time; and errors turned into ServingErrors."""

import asyncio
import logging
import secrets

from export.serving.batching import Batcher
from export.serving.errors import Code, ServingError
from export.serving.metrics import Metrics
from export.serving.signatures import Arrays, Signature
from export.serving.versions import LoadedVersion, ModelVersions
from r2d2_tf.messages import one_line

_LOG = logging.getLogger("export.serve")


class Service:
    """A model that answers.

    Attributes:
        stopping: whether the server has been asked to stop; requests are still answered.
        closed: whether new requests are refused, as the server is about to end.
    """

    def __init__(self, versions: ModelVersions, batcher: Batcher, metrics: Metrics, *, request_timeout: float) -> None:
        self.versions = versions
        self.batcher = batcher
        self.metrics = metrics
        self.request_timeout = request_timeout
        self.stopping = self.closed = False
        metrics.watch(
            queued=lambda: batcher.queued,
            switches=lambda: versions.switches,
            model=versions.name,
            version=lambda: versions.current.number if versions.current else 0,
        )

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here."""
        return self.versions.current is not None and not self.stopping

    async def predict(self, version: LoadedVersion, signature: Signature, inputs: Arrays) -> Arrays:
        """The outputs for checked inputs.

        Raises:
            ServingError: if they are refused, or not answered in time.
        """
        try:
            async with asyncio.timeout(self.request_timeout):
                return await self.batcher.predict(version, signature, inputs)
        except TimeoutError:
            raise ServingError(
                Code.DEADLINE_EXCEEDED,
                f"not answered within {self.request_timeout:g} seconds: send fewer at a time, or raise --request_timeout",
            ) from None


def as_serving_error(error: Exception) -> ServingError:
    """What the client is told: a refusal as it is, anything else as an internal error, whose traceback goes to the log."""
    if isinstance(error, ServingError):
        return ServingError(error.code, one_line(error))
    reference = secrets.token_hex(4)
    _LOG.error("internal error %s", reference, exc_info=error)
    return ServingError(Code.INTERNAL, f"internal error {reference}: the server's log says more under this number")
