"""How to serve. Imports no TensorFlow."""

import dataclasses
from pathlib import Path

from r2d2_tf.config.command_line import described


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to serve a model. What is described is a flag of export.serve.

    Attributes:
        name, folder: of the model.
        head_seconds: how long the head of a request may take, and the first one of a connection.
    """

    name: str
    folder: Path
    head_seconds: float = 15.0
    max_batch_size: int = described(32, "most rows that run at once; 1: requests are not joined", lower_bound=1)
    batch_timeout_ms: float = described(
        0.0,
        "how long a batch that is not full waits for more requests; 0: what came while the last batch ran is the next",
        lower_bound=0.0,
    )
    max_queued: int = described(1000, "most requests that wait; more are refused", lower_bound=1)
    request_timeout: float = described(30.0, "seconds until a request is given up", lower_bound=0.001)
    max_rows: int = described(1024, "most rows of a request", lower_bound=1)
    max_body_bytes: int = described(8 * 2**20, "largest request", lower_bound=1)
    max_held_bytes: int = described(64 * 2**20, "most bytes of all requests that wait", lower_bound=1)
    max_connections: int = described(1000, "most connections to REST; more are told 503, health apart", lower_bound=1)
    max_connections_per_address: int = described(
        0, "most of them from one address, such as a proxy's; 0: seven eighths of them", lower_bound=0
    )
    max_grpc_connections: int = described(1000, "most connections to gRPC; others are refused", lower_bound=1)
    poll_seconds: float = described(1.0, "seconds between two looks for a new version", lower_bound=0.01)
    stop_seconds: float = described(20.0, "most seconds that a stop may take", lower_bound=0.0)

    @property
    def most_from_one_address(self) -> int:
        """Most connections to REST from one address."""
        return self.max_connections_per_address or max(1, self.max_connections * 7 // 8)
