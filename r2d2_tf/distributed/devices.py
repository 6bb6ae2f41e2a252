"""Which devices a run uses."""

import faulthandler
import functools
import os

import tensorflow as tf

from r2d2_tf.distributed.cluster import ALONE, Cluster

_SECONDS_TO_CONNECT = 300


def make_strategy(choice: str, num_logical_cpus: int, cluster: Cluster = ALONE) -> tf.distribute.Strategy:
    """The strategy for `--strategy`: all visible GPUs or one CPU (auto), one device (none), mirrored, or several processes.

    Args:
        choice: `auto`, `none`, `mirrored` or `multi_worker`.
        num_logical_cpus: split the CPU into so many devices; 0 leaves it whole.
        cluster: the processes of multi_worker; this call returns when all of them have made it.

    Raises:
        ValueError: if TensorFlow has started already with another number of CPUs.
    """
    if num_logical_cpus:
        _split_cpu(num_logical_cpus)
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if choice == "multi_worker":
        return _multi_worker(cluster)
    if choice == "mirrored" or (choice == "auto" and len(gpus) > 1):
        kind = "GPU" if gpus else "CPU"
        return _mirrored(tuple(device.name for device in tf.config.list_logical_devices(kind)))
    return tf.distribute.get_strategy()


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    # One a process: two of them number their collective operations alike, and networks of different shapes then clash.
    return tf.distribute.MirroredStrategy(devices)


@functools.cache
def _multi_worker(cluster: Cluster) -> tf.distribute.MultiWorkerMirroredStrategy:
    print(f"{cluster.name} connects to the others; it gives up after {_SECONDS_TO_CONNECT // 60} minutes", flush=True)
    # Where a process has died since it was met, TensorFlow would wait for ever, and hold the lock that Python needs.
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(_SECONDS_TO_CONNECT, exit=True, file=nowhere)
        try:
            # It reads TF_CONFIG itself, from which the cluster was made.
            return tf.distribute.MultiWorkerMirroredStrategy()
        finally:
            faulthandler.cancel_dump_traceback_later()


def describe(strategy: tf.distribute.Strategy) -> str:
    """The devices in words: `1 replica on CPU`, `2 replicas on CPU:0, CPU:1`, `2 replicas on the CPUs of 2 workers`."""
    count = strategy.num_replicas_in_sync
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        kind = "GPUs" if tf.config.list_physical_devices("GPU") else "CPUs"
        jobs = strategy.cluster_resolver.cluster_spec().as_dict().values()
        return f"{count} replicas on the {kind} of {sum(map(len, jobs))} workers"
    if count == 1:
        return f"1 replica on {'GPU' if tf.config.list_physical_devices('GPU') else 'CPU'}"
    names = [":".join(device.split(":")[-2:]) for device in strategy.extended.worker_devices]
    return f"{count} replicas on {', '.join(names)}"


def _split_cpu(count: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    current = tf.config.get_logical_device_configuration(cpu)
    if current is not None and len(current) == count:
        return
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError as error:
        raise ValueError(
            f"num_logical_cpus ({count}) cannot be changed once TensorFlow has started: start a new process"
        ) from error
