"""Parts of a batch: one a replica, where several processes each make their own."""

from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class Part:
    """One of `of` parts of every batch.

    Attributes:
        number: of the part, from 0.
        of: how many there are.
    """

    number: int
    of: int

    def bounds(self, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Where the part of a batch of `count` images begins and ends; the last parts may be smaller, or empty."""
        size = -(-count // self.of)
        return tf.minimum(self.number * size, count), tf.minimum((self.number + 1) * size, count)


WHOLE = Part(0, 1)
