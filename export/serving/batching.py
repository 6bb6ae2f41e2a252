"""Requests that wait for the model, joined into batches: one thread runs them, and each gets its own rows back.

A request that is alone does not wait for the thread if it is a quick one.
"""

import asyncio
import dataclasses
import functools
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakKeyDictionary

import numpy as np

from export.serving.errors import Code, ServingError
from export.serving.server_settings import Settings
from export.serving.signatures import Arrays, Signature
from export.serving.versions import LoadedVersion

Answers = list[Arrays | BaseException]
QUICK_SECONDS = 0.01
"""A request that is alone and takes less is run on the event loop."""
Shapes = tuple[tuple[str, tuple[int, ...]], ...]


class NotPerRowError(Exception):
    """A signature returned another number of rows than it was given."""


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """One request.

    Attributes:
        version: held, so that it lives until the request is answered.
        rows: of all inputs; 0 if the request cannot be joined with others.
        shapes: of the inputs without their rows. Requests of the same signature and shapes can be joined.
        arrived: the loop's time.
    """

    version: LoadedVersion
    signature: Signature
    inputs: Arrays
    rows: int
    shapes: Shapes
    arrived: float
    answer: "asyncio.Future[Arrays]"

    def joins(self, other: "Job") -> bool:
        alike = self.signature is other.signature and self.shapes == other.shapes
        return alike and self.signature.merges and bool(self.rows and other.rows)


class Batcher:
    """Runs requests on the model, several at a time.

    While a batch runs, requests gather; the next batch is what has gathered by then. A request of more rows than a batch is
    run in parts, each of which waits anew: others come in between, and a request that nobody waits for any more is run no
    further. `on_batch` is told the rows of each batch.
    """

    def __init__(self, settings: Settings, on_batch: Callable[[int], None]) -> None:
        self._settings, self._max_batch_size = settings, settings.max_batch_size
        self._on_batch = on_batch
        self._waiting: deque[Job] = deque()
        self._running: asyncio.Future[tuple[Answers, float]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._coming = 0
        self._seconds: WeakKeyDictionary[Signature, dict[int, float]] = WeakKeyDictionary()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    @property
    def queued(self) -> int:
        return len(self._waiting)

    async def predict(self, version: LoadedVersion, signature: Signature, inputs: Arrays) -> Arrays:
        """The outputs for checked `inputs`.

        Raises:
            ServingError: if too many requests wait, or the model refuses the inputs.
        """
        if len(self._waiting) >= (most := self._settings.max_queued):
            raise ServingError(Code.UNAVAILABLE, f"{most} requests wait already: try again later")
        if (rows := _rows(signature, inputs)) > self._max_batch_size:
            try:
                return await self._in_parts(version, signature, inputs, rows)
            except NotPerRowError:
                signature.merges = False
        return await self._answer(version, signature, inputs)

    async def _in_parts(self, version: LoadedVersion, signature: Signature, inputs: Arrays, rows: int) -> Arrays:
        parts = []
        for start in range(0, rows, self._max_batch_size):
            part = {name: array[start : start + self._max_batch_size] for name, array in inputs.items()}
            parts.append(await self._answer(version, signature, part))
            _check_rows(parts[-1], min(self._max_batch_size, rows - start))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    async def _answer(self, version: LoadedVersion, signature: Signature, inputs: Arrays) -> Arrays:
        rows = _rows(signature, inputs)
        if await self._is_alone(signature, rows):
            self._on_batch(rows)
            started = time.perf_counter()
            outputs = signature.run(inputs)
            self._note(signature, rows, time.perf_counter() - started)
            return outputs
        loop = asyncio.get_running_loop()
        shapes = tuple((name, array.shape[1:]) for name, array in sorted(inputs.items()))
        job = Job(version, signature, inputs, rows, shapes, loop.time(), loop.create_future())
        self._waiting.append(job)
        try:
            await asyncio.sleep(0)  # What has come at the same time is read first, and joins this batch.
            self._run_next()
            return await job.answer
        except asyncio.CancelledError:
            # Nobody waits for it any more: its time is over, or its client has left.
            if job in self._waiting:
                self._waiting.remove(job)
            raise

    async def _is_alone(self, signature: Signature, rows: int) -> bool:
        """Whether a request that has come by itself can be run at once, on the event loop.

        To hand it to a thread and back takes as long as a small network. Whoever comes meanwhile waits for it, so its time must
        be known: it is that of the last batch of as many rows, where no input has a size of its own, as image files have.
        """
        is_quick = self._seconds.get(signature, {}).get(rows, math.inf) < QUICK_SECONDS
        if not is_quick or not self._is_free or not all(spec.has_fixed_size for spec in signature.inputs.values()):
            return False
        self._coming += 1
        try:
            await asyncio.sleep(0)  # Of what has come at the same time all is read before anything is run.
        finally:
            self._coming -= 1
        return self._is_free and not self._coming

    @property
    def _is_free(self) -> bool:
        """Whether nothing runs or waits, nor should wait for others."""
        return self._running is None and not self._waiting and not self._settings.batch_timeout_ms

    def _note(self, signature: Signature, rows: int, seconds: float) -> None:
        self._seconds.setdefault(signature, {})[rows] = seconds

    def close(self) -> None:
        """Lets the thread end, and forgets what it runs."""
        if self._running is not None:
            self._running.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _run_next(self) -> None:
        """Runs what waits, unless a batch runs already, or the next one waits for more requests."""
        if self._running is not None or not self._waiting or self._waits_for_more():
            return
        jobs = self._take()
        self._on_batch(sum(job.rows for job in jobs))
        self._running = asyncio.get_running_loop().run_in_executor(self._thread, _timed, jobs)
        self._running.add_done_callback(functools.partial(self._finish, jobs))

    def _finish(self, jobs: Sequence[Job], batch: "asyncio.Future[tuple[Answers, float]]") -> None:
        """Gives each job of a batch its answer, and runs the next batch."""
        self._running = None
        if batch.cancelled():
            return
        answers, seconds = batch.result()
        # What is refused takes no time, and says nothing of what is not.
        if not any(isinstance(answer, BaseException) for answer in answers):
            self._note(jobs[0].signature, sum(job.rows for job in jobs), seconds)
        for job, answer in zip(jobs, answers, strict=True):
            if job.answer.done():
                continue
            if isinstance(answer, BaseException):
                job.answer.set_exception(answer)
            else:
                job.answer.set_result(answer)
        self._run_next()

    def _waits_for_more(self) -> bool:
        """Whether the first request waits for companions: until the batch is full or its time is over."""
        loop, first = asyncio.get_running_loop(), self._waiting[0]
        left = first.arrived + self._settings.batch_timeout_ms / 1000 - loop.time()
        if left <= 0 or not first.joins(first):
            return False
        if sum(job.rows for job in self._waiting if job.joins(first)) >= self._max_batch_size:
            return False
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(left, self._run_next)
        return True

    def _take(self) -> list[Job]:
        """The first request, and those that can be joined to it, taken out of the queue."""
        jobs, rows, others = list[Job](), 0, deque[Job]()
        for job in self._waiting:
            if not jobs or (rows + job.rows <= self._max_batch_size and job.joins(jobs[0])):
                jobs.append(job)
                rows += job.rows
            else:
                others.append(job)
        self._waiting = others
        return jobs


def _rows(signature: Signature, inputs: Arrays) -> int:
    """The rows that all inputs share; 0 if the request cannot be joined with others."""
    lengths = {len(array) if array.ndim else 0 for array in inputs.values()}
    return lengths.pop() if signature.merges and len(lengths) == 1 else 0


def _timed(jobs: Sequence[Job]) -> tuple[Answers, float]:
    started = time.perf_counter()
    return run_jobs(jobs), time.perf_counter() - started


def run_jobs(jobs: Sequence[Job]) -> Answers:
    """The answer to each job, or the error of those that fail: halved again and again, a bad one stands alone."""
    signature = jobs[0].signature
    try:
        if len(jobs) == 1:
            return [signature.run(jobs[0].inputs)]
        outputs = signature.run({name: np.concatenate([job.inputs[name] for job in jobs]) for name in jobs[0].inputs})
        _check_rows(outputs, sum(job.rows for job in jobs))
        ends = np.cumsum([job.rows for job in jobs])[:-1]
        parts = {name: np.split(array, ends) for name, array in outputs.items()}
        return [{name: part[place] for name, part in parts.items()} for place in range(len(jobs))]
    except NotPerRowError:
        signature.merges = False
        return [answer for job in jobs for answer in run_jobs([job])]
    except Exception as error:
        if len(jobs) == 1:
            return [error]
    middle = len(jobs) // 2
    return run_jobs(jobs[:middle]) + run_jobs(jobs[middle:])


def _check_rows(outputs: Arrays, rows: int) -> None:
    if any(array.ndim == 0 or len(array) != rows for array in outputs.values()):
        raise NotPerRowError
