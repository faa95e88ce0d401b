"""Who computes for a search: a pool of worker processes, or this process itself."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Protocol

from autocompress.compute.idle import Idle
from autocompress.compute.policy import WorkerPolicy
from autocompress.compute.service import Service
from autocompress.compute.starting import failed_by, not_started
from autocompress.compute.waiting import waiting
from autocompress.compute.worker import Worker
from autocompress.errors import AutocompressError
from autocompress.machine.cores import cores
from autocompress.machine.memory import memory_bytes
from autocompress.measure import DeviceLost
from autocompress.supervisor import tell_nobody

RESTS_S = 10.0  # a worker whose device does not answer
BEGINS = "train"  # takes long, and comes after what goes on with a candidate


class Executor(Protocol):
    """``call`` runs a method of what a worker holds, and returns what it returns or raises what it raises.

    concurrency: how many calls can run at once.
    """

    concurrency: int

    async def call(self, method: str, *args: Any, limit_s: float | None = None) -> Any: ...
    def start(self) -> None: ...
    def opened(self, *args: Any) -> None: ...
    def sharing(self, calls: int) -> AbstractContextManager[None]: ...
    def spent(self) -> dict[str, float]: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...


class InProcess:
    """Computes in this process. Nothing can be killed here, so limits do not hold."""

    concurrency = 1

    def __init__(self, held: Any) -> None:
        self._service = Service(held)
        self._phases = held.supervisor.phases
        self._spent: Counter[str] = Counter()

    async def call(self, method: str, *args: Any, limit_s: float | None = None) -> Any:
        await asyncio.sleep(0)  # others may go on, as if it were another process
        self._phases.skip()
        try:
            return self._service.call(method, *args)
        except AutocompressError:
            raise
        except Exception as error:  # as in the child: this candidate fails
            raise failed_by(error) from error
        finally:
            self._spent.update(self._phases.taken())

    def start(self) -> None:
        pass  # it runs

    def opened(self, *args: Any) -> None:
        pass  # nothing here is started anew

    @contextmanager
    def sharing(self, calls: int) -> Iterator[None]:
        yield

    def spent(self) -> dict[str, float]:
        return dict(self._spent)

    def kill(self) -> None:
        pass

    def close(self) -> None:
        pass


class Pool:
    """Several workers, each with its share of the cores. Calls go to whoever is free. note: told what a user should
    read. opens: whether the first call, to the first of them, opens what all are to hold; they are free from the
    beginning else, and have calls in turn.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        policy: WorkerPolicy = WorkerPolicy(),
        note: Callable[[str], None] = tell_nobody,
        *,
        opens: bool = True,
    ) -> None:
        self._workers = list(workers)
        self._opens = opens
        self._policy = policy
        self._note = note
        self._cores = policy.cores or cores()
        self.concurrency = len(self._workers)
        self._sharing = self.concurrency
        self._waiting = ThreadPoolExecutor(self.concurrency, "worker")  # a thread waits for each
        self._idle: Idle[Worker] | None = None  # belongs to the loop that first calls
        self._opening: list[asyncio.Future[Any]] = []

    async def call(self, method: str, *args: Any, limit_s: float | None = None) -> Any:
        if self._idle is None:
            first = self._workers[: 1 if self._opens else None]  # the others have work once the task is open
            self._idle = Idle(first, in_turn=not self._opens)
            self.start()
        with waiting():
            worker = await self._idle.get(may_wait=method == BEGINS)
        return await self._run(worker, method, *args, limit_s=limit_s)

    def start(self) -> None:
        """Start all worker processes: they get ready together, before anything is measured."""
        for each in self._workers:
            each.start()

    def opened(self, *args: Any) -> None:
        """The task is open: as many workers as there is memory for open it too, with what the first one found."""
        self._leave(self._that_fit())
        for each in self._workers:
            each.opened(*args)
        for other in self._workers[1:]:
            self._opening.append(asyncio.ensure_future(self._run(other, "ready")))
            self._opening[-1].add_done_callback(lambda f: f.cancelled() or f.exception())  # its next call tells

    def _that_fit(self) -> int:
        """How many workers there is memory for, each as much as the first one took to open the task."""
        needed = self._workers[0].peak_bytes()
        if not needed:
            return len(self._workers)
        return max(1, int(self._policy.memory_share * memory_bytes() / needed))

    def _leave(self, most: int) -> None:
        """End the workers beyond the first so many, which share the memory then."""
        others = self._workers[most:]
        if not others:
            return
        self._note(f"{len(self._workers)} workers do not fit into memory: {most} of them compute")
        del self._workers[most:]
        self.concurrency = most
        for each in self._workers:
            each.share_memory(most)
        for each in others:
            each.close()

    async def _run(self, worker: Worker, method: str, *args: Any, limit_s: float | None = None) -> Any:
        """A call of one worker, which is idle afterwards."""
        assert self._idle is not None
        threads = max(1, self._cores // min(self._sharing, self.concurrency))
        call, rests_s = partial(worker.call, method, *args, limit_s=limit_s, threads=threads), 0.0
        try:
            try:
                answer = asyncio.get_running_loop().run_in_executor(self._waiting, call)
            except RuntimeError as error:  # no thread can be started to wait
                raise not_started(error) from error
            return await answer
        except DeviceLost:
            rests_s = 0.0 if self._opens or len(self._workers) == 1 else RESTS_S  # meanwhile the others have its calls
            raise
        finally:
            if rests_s:
                asyncio.get_running_loop().call_later(rests_s, self._idle.put, worker)
            else:
                self._idle.put(worker)

    @contextmanager
    def sharing(self, calls: int) -> Iterator[None]:
        """While open, at most so many calls run at once, and each has more of the cores."""
        before, self._sharing = self._sharing, max(1, min(calls, self.concurrency))
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
