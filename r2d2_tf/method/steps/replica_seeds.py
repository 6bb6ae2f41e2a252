"""Random numbers within a network, as dropout's, on several replicas."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

_SEED_STATE = "seed_generator_state"
"""What Keras calls the variable of a SeedGenerator: a seed and a count, `[2]`."""
_APART = 1_013_904_242
"""Between the seeds of two replicas. Keras takes seeds modulo 2^31 - 2, so that replicas of any number have their own."""


@contextlib.contextmanager
def own_numbers(network: keras.Model) -> Iterator[None]:
    """Lets what is drawn in a call of `network` depend on the replica, too; replica 0 draws what a single one would.

    Keras' seeds are the same in all replicas, which would leave out the same features, and mix branches alike. They are the
    same again after the call: so a run may go on with any number of replicas, and each draws on.
    """
    seeds = [variable for variable in network.variables if variable.name == _SEED_STATE]
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    offset = tf.stack([tf.cast(replica, tf.int64) * _APART, 0])
    for seed in seeds:
        seed.assign(seed + tf.cast(offset, seed.dtype))
    try:
        yield
    finally:
        for seed in seeds:
            seed.assign(seed - tf.cast(offset, seed.dtype))
