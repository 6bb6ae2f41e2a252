"""The processes that train one model together, perhaps on several machines; most often there is one alone."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from r2d2_tf.distributed.cluster import ALONE, Cluster
from r2d2_tf.distributed.sharding import WHOLE, Shard
from r2d2_tf.system.messages import one_line

Batches: TypeAlias = "tf.data.Dataset | tf.distribute.DistributedDataset"


class Workers:
    """What the processes of a cluster have to tell each other outside of a step.

    Every method but `part_of_this_process` must be called by all of them, in the same order: a process that waits for another
    which never comes waits until that one ends. Alone, a process gets back what it gave.

    Args:
        strategy: of the devices.
        cluster: of the processes that share it.
    """

    def __init__(self, strategy: tf.distribute.Strategy, cluster: Cluster = ALONE) -> None:
        self.strategy = strategy
        self.cluster = cluster
        self.count = len(cluster.addresses)
        jobs = strategy.cluster_resolver.cluster_spec().as_dict() if strategy.cluster_resolver else {}
        if sum(map(len, jobs.values())) not in (0, self.count):
            raise ValueError(f"the strategy joins {jobs}, which is not the cluster of {self.count} processes that was given")
        self._sum = tf.function(self._sum_over_replicas, input_signature=[tf.TensorSpec([None, None], tf.int32)])

    @property
    def is_chief(self) -> bool:
        """Whether this process writes what the run leaves."""
        return self.cluster.is_chief

    @property
    def num_local_replicas(self) -> int:
        """Replicas of this process."""
        return self.strategy.num_replicas_in_sync // self.count

    @property
    def first_replica(self) -> int:
        """Number, over all processes, of this one's first replica."""
        return self.cluster.index * self.num_local_replicas

    def exchange(self, values: np.ndarray) -> np.ndarray:
        """What each process gave: `[n]` int32 to `[processes, n]`."""
        values = np.asarray(values, np.int32)
        if self.count == 1:
            return values[None]
        # A sum to which each adds its own line: one collective, where a gather takes two.
        lines = np.zeros((self.count, len(values)), np.int32)
        lines[self.cluster.index] = values
        return self._sum(tf.constant(lines)).numpy()

    def _sum_over_replicas(self, lines: tf.Tensor) -> tf.Tensor:
        def one_replica(lines: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            is_first = context.replica_id_in_sync_group % self.num_local_replicas == 0
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.where(is_first, lines, tf.zeros_like(lines)))

        return self.strategy.experimental_local_results(self.strategy.run(one_replica, args=(lines,)))[0]

    def largest(self, values: Sequence[int]) -> list[int]:
        """The largest of what each process gave, number by number."""
        return list(values) if self.count == 1 else self.exchange(np.array(values)).max(0).tolist()

    def of_the_chief(self, number: int) -> int:
        """The number that the chief gave."""
        return int(self.exchange(np.array([number]))[0, 0])

    def wait_for_all(self) -> None:
        """Returns when all processes have called it."""
        self.exchange(np.zeros(1))

    def check_same(self, things: Mapping[str, str]) -> None:
        """Raises ValueError, in all processes, for the first of `things` (what it is -> its content) that differs in one."""
        digests = [np.frombuffer(hashlib.sha256(text.encode()).digest(), np.int32) for text in things.values()]
        found = self.exchange(np.concatenate(digests)).reshape(self.count, len(things), -1)
        differs = (found != found[0]).any(-1)
        for number, what in enumerate(things):
            if differs[:, number].any():
                worker = int(differs[:, number].argmax())
                raise ValueError(
                    f"worker {worker} has not the same {what} as worker 0: start all workers with the same flags, program and "
                    "data"
                )

    def batches(self, make: Callable[[Shard], tf.data.Dataset]) -> Batches:
        """Batches for `strategy`; each process makes those of its own replicas alone.

        Args:
            make: makes the batches of which each is the given shard of a whole batch.
        """
        if self.count == 1:
            # The strategy itself parts them among its replicas.
            return make(WHOLE)

        def of_this_process(_: tf.distribute.InputContext) -> tf.data.Dataset:
            numbers = range(self.first_replica, self.first_replica + self.num_local_replicas)
            shards = [make(Shard(number, self.strategy.num_replicas_in_sync)) for number in numbers]
            # TensorFlow hands one element after the other to the replicas of the process.
            turns = tf.data.Dataset.range(len(shards)).repeat()
            return shards[0] if len(shards) == 1 else tf.data.Dataset.choose_from_datasets(shards, turns)

        return self.strategy.distribute_datasets_from_function(of_this_process)


def of_all_processes(num_local_replicas: int, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """In a replica: `values`, `[n, ...]` each, of all replicas of all processes, for what is kept once a process.

    The first replica of each process gets all of it, the others nothing, so that a process uses it once.
    """
    context = tf.distribute.get_replica_context()
    # Of a value that is no fresh tensor, TensorFlow cannot tell the device. No filter before this: where no replica sends
    # anything, the process crashes.
    gathered = context.all_gather([tf.identity(value) for value in values], axis=0)
    is_first = context.replica_id_in_sync_group % num_local_replicas == 0
    return [value[: tf.where(is_first, tf.shape(value)[0], 0)] for value in gathered]


def lost_worker(error: Exception, cluster: Cluster) -> str | None:
    """What to tell people if `error` came of another process that ended or cannot be reached; else None."""
    if len(cluster.addresses) == 1 or not isinstance(error, tf.errors.OpError):
        return None
    signs = ("Collective ops is aborted", "coordination service", "unhealthy", "heartbeat")
    if not isinstance(error, tf.errors.UnavailableError) and not any(sign in str(error) for sign in signs):
        return None
    # TensorFlow counts each job's tasks: of a chief and workers, task 0 of the job `worker` is our worker 1.
    found = re.findall(r"job:(chief|worker)/replica:0/task:(\d+)\n", f"{error}\n")
    named = sorted({int(task) + (cluster.has_chief and job == "worker") for job, task in found})
    who = f"worker {' and '.join(map(str, named))}" if named else "another worker"
    return one_line(f"{who} stopped, or cannot be reached from {cluster.name}")
