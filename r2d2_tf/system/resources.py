"""What a run needs of memory and disk, and what there is: a run that cannot fit is refused before its first step."""

import resource
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

CHECKPOINTS_AT_ONCE = 3
"""Two are kept while the next is written."""
_BESIDE_A_ROW = 4 + 24 + 1 + 8 + 8
"""Bytes that the table keeps beside each row: its sum when predicted, notes, whether it is labeled, its label, its number."""
_A_COMPARISON = 20
"""Bytes of the history a row and comparison."""


@dataclass(frozen=True)
class Sizes:
    """What the size of the pseudo-labels follows from.

    Attributes:
        num_rows: training images.
        num_classes: width of a row.
        num_unlabeled: training images without a label.
        num_comparisons: times that all unlabeled rows are compared with predictions.
        soft_labels: given labels are probabilities of all classes.
    """

    num_rows: int
    num_classes: int
    num_unlabeled: int
    num_comparisons: int
    soft_labels: bool = False

    @property
    def history(self) -> int:
        """Bytes of all comparisons."""
        return _A_COMPARISON * self.num_unlabeled * self.num_comparisons


def table_bytes(sizes: Sizes) -> dict[str, int]:
    """Bytes of memory that the pseudo-labels take: what -> bytes."""
    table = 4 * sizes.num_rows * sizes.num_classes
    return {
        f"the table of {sizes.num_rows:,} x {sizes.num_classes:,} pseudo-logits": table,
        **({"soft labels": table} if sizes.soft_labels else {}),
        "what is noted of its rows": _BESIDE_A_ROW * sizes.num_rows + sizes.history,
    }


def checkpoint_bytes(sizes: Sizes, *, variables: int) -> int:
    """Bytes of a checkpoint at the end of a run: of table, history and `variables` bytes of network, optimizer and metrics."""
    return 4 * sizes.num_rows * (sizes.num_classes + 1) + sizes.history + variables


def check_memory(needed: Mapping[str, int]) -> None:
    """Raises ValueError, with both numbers, if `needed`, what -> bytes beside what the process holds already, cannot fit."""
    available, whose = available_memory()
    total = sum(needed.values())
    if total > available:
        parts = ", ".join(f"{size_text(size)} for {what}" for what, size in needed.items())
        raise ValueError(
            f"the run needs at least {size_text(total)} of memory more than it holds now ({parts}), and {size_text(available)} "
            f"are available {whose}: allow it more, take a machine with more, or train on a part of the data set; batch sizes "
            "and the number of devices do not matter"
        )


def check_disk(folder: Path, size_of_checkpoint: int, *, reused: int = 0) -> None:
    """Raises ValueError, with both numbers, if the checkpoints of a run cannot fit on the disk.

    The folder need not exist; `reused` are the bytes of checkpoints that are there and will be replaced.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free, needed = shutil.disk_usage(there).free + reused, CHECKPOINTS_AT_ONCE * size_of_checkpoint
    if needed > free:
        raise ValueError(
            f"run_dir ({folder}) is on a disk with {size_text(free)} for checkpoints, and {CHECKPOINTS_AT_ONCE} of "
            f"{size_text(size_of_checkpoint)} need {size_text(needed)} (two are kept while the next is written): "
            "make room there, or choose another --run_dir"
        )


def available_memory() -> tuple[int, str]:
    """Bytes that this process may still take without swapping, and in words what limits them."""
    limits = [(psutil.virtual_memory().available, "on this machine")]
    limits += [(left, "within the limit of its control group (container)") for left in _left_in_control_groups()]
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:
        limits.append((most - psutil.Process().memory_info().vms, "within its limit of address space (ulimit -v)"))
    left, whose = min(limits)
    return max(0, left), whose


def _left_in_control_groups(root: Path = Path("/")) -> Iterator[int]:
    """What each of the control groups of this process that has a limit leaves, in bytes; version 1 and 2.

    A group's use counts without file pages that the kernel can drop. In a container the path may be one that only the host
    knows: the groups above it, up to the mount itself, are looked at too.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mount, limit, usage, pages = root / "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup/memory"
            limit, usage, pages = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        own = mount / path.lstrip("/")
        for group in (own, *own.parents):
            if group.is_relative_to(mount):
                try:
                    most = int((group / limit).read_text())
                    statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
                    used = int((group / usage).read_text()) - int(statistics.get(pages, 0))
                # No such group, or no limit: "max".
                except (OSError, ValueError):
                    continue
                yield most - max(0, used)


def size_text(num_bytes: float) -> str:
    """Bytes in the unit that suits them."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if num_bytes >= size:
            return f"{num_bytes / size:,.2f} {unit}"
    return f"{num_bytes / 2**10:,.1f} KiB"
