"""A pool of workers: calls go to whoever is free, each with its share of the cores."""

import asyncio
import threading
from collections import Counter
from typing import Any

import pytest

from autocompress.compute import executor
from autocompress.compute.executor import InProcess, Pool
from autocompress.compute.policy import WorkerPolicy
from autocompress.compute.starting import WorkerNotStarted
from autocompress.errors import CandidateFailed, UsageError
from autocompress.supervisor import Supervisor

EIGHT_CORES = WorkerPolicy(cores=8)


class FakeWorker:
    """Answers after a moment, with what it was called with."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[tuple[str, int]] = []
        self.known: tuple[Any, ...] | None = None
        self.dead = threading.Event()
        self.closed = False
        self.peak: int | None = None
        self.memory_shared_by: int | None = None
        self.spent = Counter({"train": 1.0, name: 2.0})
        self.together: threading.Barrier | None = None  # set: evaluate returns when as many run at once

    def call(self, method: str, *args: Any, limit_s: float | None = None, threads: int = 0) -> Any:
        self.calls.append((method, threads))
        if method == "hang":
            assert self.dead.wait(60), "nobody killed it"
            raise CandidateFailed("killed")
        if method == "fail":
            raise CandidateFailed("as it does")
        if self.together and method == "evaluate":
            self.together.wait(60)
        return self.name

    def start(self) -> None:
        pass

    def opened(self, opening: Any, *args: Any) -> None:
        self.known = (opening, *args)

    def peak_bytes(self) -> int | None:
        return self.peak

    def share_memory(self, workers: int) -> None:
        self.memory_shared_by = workers

    def kill(self) -> None:
        self.dead.set()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def workers() -> list[FakeWorker]:
    return [FakeWorker("a"), FakeWorker("b")]


def test_calls_run_side_by_side_each_with_its_share_of_the_cores(workers: list[FakeWorker]):
    pool = Pool(workers, EIGHT_CORES)

    async def four() -> list[str]:
        await pool.call("prepare", None)
        pool.opened("the task", None)
        for worker in workers:
            worker.calls.clear()
            worker.together = both
        return await asyncio.gather(*(pool.call("evaluate", n) for n in range(4)))

    both = threading.Barrier(2)  # broken, and the call with it, when one waits alone
    assert set(asyncio.run(four())) == {"a", "b"}
    assert {threads for worker in workers for _, threads in worker.calls} == {4}
    pool.close()


def test_workers_that_open_nothing_have_calls_in_turn_from_the_beginning(workers: list[FakeWorker]):
    pool = Pool(workers, EIGHT_CORES, opens=False)

    async def two() -> list[str]:
        return await asyncio.gather(*(pool.call("evaluate") for _ in range(2)))

    workers[0].together = workers[1].together = threading.Barrier(2)
    assert set(asyncio.run(two())) == {"a", "b"}, "side by side"
    pool.close()


def test_after_a_failure_another_worker_has_the_next_call(workers: list[FakeWorker]):
    pool = Pool(workers, EIGHT_CORES, opens=False)

    async def calls() -> list[Any]:
        return [(await asyncio.gather(pool.call(m), return_exceptions=True))[0] for m in ("fail", "compare", "compare")]

    assert asyncio.run(calls())[1:] == ["b", "a"]
    pool.close()


def test_one_call_alone_has_all_the_cores(workers: list[FakeWorker]):
    pool = Pool(workers, EIGHT_CORES)

    async def alone() -> None:
        with pool.sharing(1):
            await pool.call("evaluate")
        await pool.call("evaluate")

    asyncio.run(alone())
    assert [threads for worker in workers for _, threads in worker.calls] == [8, 4]
    pool.close()


def test_what_one_opened_every_other_opens_with(workers: list[FakeWorker]):
    pool = Pool(workers, EIGHT_CORES)

    async def opened() -> None:
        pool.opened(await pool.call("prepare", None, ["carve"]), ["carve"])

    asyncio.run(opened())
    assert [worker.known for worker in workers] == [("a", ["carve"])] * 2
    pool.close()


@pytest.mark.parametrize(("gib", "fit"), [(2.0, 4), (4.0, 2), (5.0, 1), (40.0, 1), (None, 4)])
def test_as_many_workers_compute_as_there_is_memory_for(
    gib: float | None, fit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten GiB nine tenths: each worker takes what the first one took to open the task."""
    monkeypatch.setattr(executor, "memory_bytes", lambda: 10 * 2**30)
    workers, noted = [FakeWorker(name) for name in "abcd"], list[str]()
    workers[0].peak = None if gib is None else int(gib * 2**30)
    pool = Pool(workers, WorkerPolicy(cores=8, memory_share=0.9), noted.append)

    async def opened() -> list[str]:
        with pool.sharing(1):
            pool.opened(await pool.call("prepare", None), None)
        return await asyncio.gather(*(pool.call("evaluate", n) for n in range(8)))

    assert set(asyncio.run(opened())) <= set("abcd"[:fit])
    assert pool.concurrency == fit
    assert [worker.closed for worker in workers] == [False] * fit + [True] * (4 - fit)
    assert {threads for method, threads in workers[0].calls if method == "evaluate"} == {8 // fit}
    assert noted == ([] if fit == 4 else [f"4 workers do not fit into memory: {fit} of them compute"])
    if fit < 4:
        assert workers[0].memory_shared_by == fit
    pool.close()


def test_a_thread_that_cannot_be_started_is_told(workers: list[FakeWorker], monkeypatch: pytest.MonkeyPatch):
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = Pool(workers, EIGHT_CORES)
    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(WorkerNotStarted, match=r"can't start new thread; the limit of processes"):
        asyncio.run(pool.call("prepare", None))
    pool.kill()


def test_a_failed_call_leaves_its_worker_free(workers: list[FakeWorker]):
    pool = Pool(workers[:1])

    async def twice() -> str:
        with pytest.raises(CandidateFailed, match="as it does"):
            await pool.call("fail")
        return await pool.call("evaluate")

    assert asyncio.run(twice()) == "a"
    pool.close()


def test_kill_ends_the_waiting_for_a_worker_that_hangs(workers: list[FakeWorker]):
    pool = Pool(workers)

    async def hang() -> None:
        call = asyncio.ensure_future(pool.call("hang"))
        await asyncio.sleep(0.05)
        pool.kill()
        with pytest.raises(CandidateFailed, match="killed"):
            await call

    asyncio.run(hang())
    pool.close()
    assert workers
    assert all(worker.closed for worker in workers)


def test_time_of_all_workers_is_added_up(workers: list[FakeWorker]):
    assert Pool(workers).spent() == {"train": 2.0, "a": 2.0, "b": 2.0}


class Unopened:
    def __init__(self) -> None:
        self.supervisor = Supervisor()

    def prepare(self, known: str) -> tuple["Opened", str]:
        return Opened(self.supervisor, known), f"opened with {known}"


class Opened:
    def __init__(self, supervisor: Supervisor, known: str = "") -> None:
        self.supervisor, self.known = supervisor, known

    def whose(self) -> str:
        return self.known

    def double(self, number: int) -> int:
        with self.supervisor.during("train", "double"):
            return 2 * number

    def refuse(self) -> None:
        raise UsageError("not like this")

    def crash(self) -> None:
        raise ZeroDivisionError("as it does")


def test_once_a_call_has_opened_the_task_others_go_to_what_it_opened():
    executor = InProcess(Unopened())
    with pytest.raises(CandidateFailed, match="no attribute 'whose'"):
        asyncio.run(executor.call("whose"))
    for known in ("a", "b"):
        assert asyncio.run(executor.call("prepare", known)) == f"opened with {known}"
        assert asyncio.run(executor.call("whose")) == known


def test_in_process_calls_what_is_held_itself():
    executor = InProcess(Opened(Supervisor()))
    assert asyncio.run(executor.call("double", 21, limit_s=1.0)) == 42
    assert executor.spent()["train"] >= 0
    with pytest.raises(UsageError, match="not like this"):
        asyncio.run(executor.call("refuse"))
    with pytest.raises(CandidateFailed, match="ZeroDivisionError: as it does"):
        asyncio.run(executor.call("crash"))
    executor.close()
