"""What happens to a server in the middle of load: a higher version takes over, and it is killed and started again."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import aiohttp

from export.inference import saved_model_folder
from tools.load_test.load import Connections
from tools.shared.server_process import ServerProcess

Action = Callable[[], Awaitable[None]]
_MOST_SECONDS = 60.0
"""Until a version must have taken over."""
_POLL_SECONDS = 0.2


def copied_model(model: Path, folder: Path) -> Path:
    """A copy of the highest version alone, in `folder`, to which versions can be added."""
    source = saved_model_folder(model)
    if source is None:
        raise ValueError(f"{model} holds no SavedModel")
    shutil.copytree(source, folder / "1")
    return folder


class Disturber:
    """Disturbs `process` while requests are answered, at the places that `plan` has spread over them.

    Attributes:
        swaps, kills: how many began, and were made.
        failed: what did not come true, a line each.
    """

    def __init__(self, process: ServerProcess, model: Path, connections: Connections, name: str) -> None:
        self._process, self._model, self._connections, self._name = process, model, connections, name
        self._answered = 0
        self._due: list[tuple[int, Action]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._lock = asyncio.Lock()
        self.swaps = self.kills = 0
        self.failed: list[str] = []

    def plan(self, requests: int, *, swaps: int, kills: int) -> None:
        """Spreads what is to happen evenly over so many requests."""
        actions = _interleaved([self._swap] * swaps, [self._kill] * kills)
        for place, action in enumerate(actions, 1):
            self._due.append((requests * place // (len(actions) + 1), action))

    def answered(self) -> None:
        """Counts a request, after which something may happen."""
        self._answered += 1
        while self._due and self._answered >= self._due[0][0]:
            _, action = self._due.pop(0)
            self._tasks.append(asyncio.create_task(self._one_at_a_time(action)))

    async def wait(self) -> None:
        """Waits until all that began is over."""
        await asyncio.gather(*self._tasks)

    async def _one_at_a_time(self, action: Action) -> None:
        async with self._lock:
            await action()

    async def _kill(self) -> None:
        await asyncio.to_thread(self._process.restart)
        self.kills += 1

    async def _swap(self) -> None:
        number = 2 + self.swaps
        self.swaps += 1
        await asyncio.to_thread(shutil.copytree, self._model / str(number - 1), self._model / str(number))
        end = time.monotonic() + _MOST_SECONDS
        while time.monotonic() < end:
            # A connection may be one to the server that was killed.
            with contextlib.suppress(aiohttp.ClientError, OSError):
                if f'serving_model_version{{model="{self._name}"}} {number}.0' in await self._connections.text("/metrics"):
                    return
            await asyncio.sleep(_POLL_SECONDS)
        self.failed.append(f"version {number} did not take over within {_MOST_SECONDS:.0f} s")


def _interleaved(some: Sequence[Action], others: Sequence[Action]) -> list[Action]:
    """The items of both, those of each spread over the whole."""
    placed = [((place + 0.5) / len(items), item) for items in (some, others) for place, item in enumerate(items)]
    return [item for _, item in sorted(placed, key=lambda pair: pair[0])]
