"""Requests that wait for the model, joined into batches: one thread runs them, and each gets its own rows back."""

import asyncio
import dataclasses
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from export.serving.errors import Code, ServingError
from export.serving.server_settings import Settings
from export.serving.signatures import Arrays, Signature
from export.serving.versions import LoadedVersion

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
        self._arrival = asyncio.Event()
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
        loop = asyncio.get_running_loop()
        rows, shapes = _rows(signature, inputs), tuple((name, array.shape[1:]) for name, array in sorted(inputs.items()))
        job = Job(version, signature, inputs, rows, shapes, loop.time(), loop.create_future())
        self._waiting.append(job)
        self._arrival.set()
        try:
            return await job.answer
        finally:
            # Nobody waits for it any more: its time is over, or its client has left.
            if job.answer.cancelled() and job in self._waiting:
                self._waiting.remove(job)

    async def run(self) -> None:
        """Runs batches until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._gather()
            jobs = self._take()
            if not jobs:
                continue
            self._on_batch(sum(job.rows for job in jobs))
            answers = await loop.run_in_executor(self._thread, run_jobs, jobs)
            for job, answer in zip(jobs, answers, strict=True):
                if job.answer.done():
                    continue
                if isinstance(answer, BaseException):
                    job.answer.set_exception(answer)
                else:
                    job.answer.set_result(answer)
            # Held on to, the last batch would keep its version alive.
            del jobs, answers, job, answer

    def close(self) -> None:
        """Lets the thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _gather(self) -> None:
        """Waits until a request is there, and then for companions, until the batch is full or the time is over."""
        loop = asyncio.get_running_loop()
        while not self._waiting:
            self._arrival.clear()
            await self._arrival.wait()
        while self._waiting:
            first = self._waiting[0]
            left = first.arrived + self._settings.batch_timeout_ms / 1000 - loop.time()
            if left <= 0 or not first.joins(first):
                return
            if sum(job.rows for job in self._waiting if job.joins(first)) >= self._max_batch_size:
                return
            self._arrival.clear()
            try:
                async with asyncio.timeout(left):
                    await self._arrival.wait()
            except TimeoutError:
                return

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


def run_jobs(jobs: Sequence[Job]) -> list[Arrays | BaseException]:
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
