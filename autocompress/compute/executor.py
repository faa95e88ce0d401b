"""Who computes for a search: a pool of worker processes, or this process itself."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Protocol

from autocompress.compute.worker import Worker, cores
from autocompress.errors import AutocompressError, CandidateFailed, one_line


class Executor(Protocol):
    """``call`` runs a LocalComputation's method and returns what it returns, or raises what it raises.

    concurrency: how many calls can run at once.
    """

    concurrency: int

    async def call(self, method: str, *args: Any, limit_s: float | None = None) -> Any: ...
    def sharing(self, concurrency: int) -> AbstractContextManager[None]: ...
    def spent(self) -> dict[str, float]: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...


class InProcess:
    """Computes in this process. Nothing can be killed here, so limits do not hold."""

    concurrency = 1

    def __init__(self, computation: Any) -> None:
        self._computation = computation
        self._spent: Counter[str] = Counter()

    async def call(self, method: str, *args: Any, limit_s: float | None = None) -> Any:
        await asyncio.sleep(0)  # others may go on, as if it were another process
        phases = self._computation.supervisor.phases
        phases.skip()
        try:
            return getattr(self._computation, method)(*args)
        except AutocompressError:
            raise
        except Exception as error:  # as in the child: this candidate fails
            raise CandidateFailed(f"{type(error).__name__}: {one_line(error)}") from error
        finally:
            self._spent.update(phases.taken())

    @contextmanager
    def sharing(self, concurrency: int) -> Iterator[None]:
        yield

    def spent(self) -> dict[str, float]:
        return dict(self._spent)

    def kill(self) -> None:
        pass

    def close(self) -> None:
        pass


class Pool:
    """Several workers, each with its share of the cores. Calls go to whoever is free."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = list(workers)
        self.concurrency = len(self._workers)
        self._sharing = self.concurrency
        self._waiting = ThreadPoolExecutor(self.concurrency, "worker")  # a thread waits for each
        self._idle: asyncio.LifoQueue[Worker] | None = None  # belongs to the loop that first calls
        self._opening: list[asyncio.Future[Any]] = []

    async def call(self, method: str, *args: Any, limit_s: float | None = None) -> Any:
        if self._idle is None:
            self._idle = asyncio.LifoQueue()
            self._idle.put_nowait(self._workers[0])  # the others have work once the task is open
            for each in self._workers:
                each.start()  # all get ready together, before anything is measured
        worker = await self._idle.get()
        result = await self._run(worker, method, *args, limit_s=limit_s)
        if method == "open":
            for other in self._workers[1:]:
                other.opened(result, *args[1:])
                self._opening.append(asyncio.ensure_future(self._run(other, "ready")))
                self._opening[-1].add_done_callback(lambda f: f.cancelled() or f.exception())  # its next call tells
        return result

    async def _run(self, worker: Worker, method: str, *args: Any, limit_s: float | None = None) -> Any:
        """A call of one worker, which is idle afterwards."""
        assert self._idle is not None
        threads = max(1, cores() // self._sharing)
        call = partial(worker.call, method, *args, limit_s=limit_s, threads=threads)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._waiting, call)
        finally:
            self._idle.put_nowait(worker)

    @contextmanager
    def sharing(self, concurrency: int) -> Iterator[None]:
        """While open, at most so many calls run at once, and each has more of the cores."""
        before, self._sharing = self._sharing, max(1, min(concurrency, self.concurrency))
        try:
            yield
        finally:
            self._sharing = before

    def spent(self) -> dict[str, float]:
        """Seconds of all workers by what they went into."""
        return dict(sum((worker.spent for worker in self._workers), Counter()))

    def kill(self) -> None:
        """End all workers at once; calls that wait for them fail."""
        for worker in self._workers:
            worker.kill()

    def close(self) -> None:
        self.kill()
        self._waiting.shutdown()
        for worker in self._workers:
            worker.close()
