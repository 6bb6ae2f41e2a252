"""What the server counts, for Prometheus, and the requests that are on their way."""

import functools
import time
from collections import Counter as Counts

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds."""
ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The counters of one server.

    Attributes:
        read: requests that were read, by protocol.
        answered: requests whose answer was given to the connection, by protocol.
        batch: counts the rows of a batch.
        queued, switches, version: are read where they are, by `set_function`, whenever somebody asks.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.read: Counts[str] = Counts()
        self.answered: Counts[str] = Counts()
        ProcessCollector(registry=self.registry)
        self._requests = Counter("serving_requests", "Answered requests", ["protocol", "code"], registry=self.registry)
        self._seconds = Histogram(
            "serving_request_seconds",
            "From the head of a request to its answer",
            ["protocol"],
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.batch = Histogram("serving_batch_rows", "Rows of a batch", buckets=ROW_BUCKETS, registry=self.registry).observe
        self.queued = Gauge("serving_queued_requests", "Requests that wait for the model", registry=self.registry)
        self.version = Gauge("serving_model_version", "The version that answers", ["model"], registry=self.registry)
        self.switches = Gauge("serving_version_switches", "How often a version took over", registry=self.registry)

    @property
    def under_way(self) -> int:
        """Requests that were read and are not answered yet."""
        return self.read.total() - self.answered.total()

    def started(self, protocol: str) -> float:
        """Counts a request that was read, and returns the time."""
        self.read[protocol] += 1
        return time.monotonic()

    def finished(self, protocol: str, code: str, started: float) -> None:
        """Counts an answer that was given."""
        self.answered[protocol] += 1
        requests, seconds = self._of(protocol, code)
        requests.inc()
        seconds.observe(time.monotonic() - started)

    @functools.cache  # noqa: B019 - as many as there are protocols and codes
    def _of(self, protocol: str, code: str) -> tuple[Counter, Histogram]:
        return self._requests.labels(protocol, code), self._seconds.labels(protocol)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self.registry)
