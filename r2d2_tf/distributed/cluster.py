"""TF_CONFIG: which processes train together (`--strategy=multi_worker`). Needs no TensorFlow."""

import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
_JOBS = ("chief", "worker")


@dataclass(frozen=True)
class Cluster:
    """The processes that train together, and which of them this one is.

    Attributes:
        addresses: `host:port` of each, the chief first.
        index: of this process among them.
        has_chief: whether the first is of the job `chief`, not `worker`.
    """

    addresses: tuple[str, ...]
    index: int
    has_chief: bool = False

    @property
    def is_chief(self) -> bool:
        """Whether this process writes what the run leaves; the others only read it."""
        return self.index == 0

    @property
    def name(self) -> str:
        """This process in words; counted from 0."""
        return f"worker {self.index} (of {len(self.addresses)})"


_SECONDS_BETWEEN_MESSAGES = 10
SECONDS_TO_SEE = 60
"""Network file systems remember for a while that a file was not there."""

ALONE = Cluster(("localhost:0",), 0)


def cluster_from_environment(environment: Mapping[str, str]) -> Cluster:
    """The cluster of TF_CONFIG, as TensorFlow's MultiWorkerMirroredStrategy reads it.

    Raises:
        ValueError: if it is missing or malformed, with an example.
    """
    text = environment.get("TF_CONFIG", "")
    if not text:
        raise ValueError(_message("is not set"))
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise ValueError(_message(f"is no JSON ({error})")) from error
    cluster, task = (parsed.get(part) if isinstance(parsed, dict) else None for part in ("cluster", "task"))
    if not isinstance(cluster, dict) or not isinstance(task, dict):
        raise ValueError(_message("needs the parts `cluster` and `task`"))
    others = [name for name in cluster if name not in _JOBS]
    if others:
        raise ValueError(_message(f"lists {others[0]!r} in its cluster, where only 'worker' and 'chief' can train"))
    addresses: list[str] = []
    first: dict[str, int] = {}
    for name in _JOBS:
        listed = cluster.get(name, [])
        if not isinstance(listed, list) or not all(isinstance(address, str) for address in listed):
            raise ValueError(_message(f"must give {name!r} as a list of 'host:port'"))
        first[name] = len(addresses)
        addresses += listed
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise ValueError(_message(f"lists {address!r}, which is not 'host:port'"))
    if len(cluster.get("chief", [])) > 1:
        raise ValueError(_message("lists more than one chief"))
    if len(set(addresses)) < len(addresses):
        raise ValueError(_message("lists an address twice"))
    kind, index = task.get("type"), task.get("index")
    if kind not in _JOBS or type(index) is not int or not 0 <= index < len(cluster.get(kind, [])):
        raise ValueError(_message(f"says that this process is {kind!r} number {index!r}, which its cluster does not list"))
    return Cluster(tuple(addresses), first[kind] + index, has_chief=bool(cluster.get("chief")))


def meet(cluster: Cluster) -> None:
    """Returns when all processes of the cluster are there, and says on the way for whom it waits.

    TensorFlow's own waiting, which follows, lets no thread of Python run: no message, and no Ctrl-C. So each process first
    listens at its own address here, where the others look for it; later they find TensorFlow listening there.

    Raises:
        ValueError: if this process cannot listen at its address.
    """
    port = int(cluster.addresses[cluster.index].rpartition(":")[2])
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
            listener.listen(len(cluster.addresses))
        except OSError as error:
            raise ValueError(
                f"{cluster.name} cannot listen at port {port} ({error.strerror}): another program may use it; give another "
                "port in TF_CONFIG"
            ) from error
        missing = [address for number, address in enumerate(cluster.addresses) if number != cluster.index]
        began = told = time.monotonic()
        while missing := [address for address in missing if not _is_there(address)]:
            if time.monotonic() - told > _SECONDS_BETWEEN_MESSAGES:
                told = time.monotonic()
                print(f"{cluster.name} has waited {told - began:.0f} s for {', '.join(missing)}; Ctrl-C stops it", flush=True)
            time.sleep(0.2)


def _is_there(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        # Its name may not be known yet, either.
        return False
    return True


def wait_to_see(path: Path) -> None:
    """Waits until a file of the run's folder, which the chief has written, is seen by this process.

    Raises:
        ValueError: if it is not within a minute.
    """
    deadline = time.monotonic() + SECONDS_TO_SEE
    while not (path.is_file() and path.read_text()):
        if time.monotonic() > deadline:
            raise ValueError(
                f"run_dir ({path.parent}): this process does not see {path.name}, which worker 0 wrote there: give all workers "
                "a --run_dir on a file system that they share"
            )
        time.sleep(0.2)


def _message(what: str) -> str:
    return (
        f"strategy multi_worker: the environment variable TF_CONFIG {what}; each process needs its own, "
        f"as in TF_CONFIG='{_EXAMPLE}' (or use another --strategy)"
    )
