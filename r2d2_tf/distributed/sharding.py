"""Shards of a batch: one a replica, where several processes each make their own."""

from dataclasses import dataclass

import numpy as np

from r2d2_tf.data.photographs import NO_ROW


@dataclass(frozen=True)
class Shard:
    """One of `of` shards of every batch, `number` of them, from 0."""

    number: int
    of: int

    def size_of(self, batch_size: int) -> int:
        """Images of the shard, at most."""
        return -(-batch_size // self.of)

    def of_batches(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The shard of each batch; of a short one all are short, and the last ones perhaps empty.

        Args:
            rows: `[batches, batch]`, filled up with NO_ROW.

        Returns:
            Its rows, `[batches, size_of(batch)]`, filled up with NO_ROW; and where it begins in the batch and how many rows
            the batch has, `[batches, 2]`.
        """
        count = (rows != NO_ROW).sum(1)
        share = -(-count // self.of)
        first, end = (np.minimum(number * share, count) for number in (self.number, self.number + 1))
        places = first[:, None] + np.arange(self.size_of(rows.shape[1]))
        # Behind the shard there may be another's rows, and behind the batch nothing.
        own = np.take_along_axis(rows, np.minimum(places, rows.shape[1] - 1), 1)
        return np.where(places < end[:, None], own, NO_ROW), np.stack([first, count], 1)


WHOLE = Shard(0, 1)
