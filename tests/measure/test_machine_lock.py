"""While one measures nobody works, and a process that dies leaves the lock free."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from autocompress.errors import AutocompressError
from autocompress.measure import MachineLock

from .another import another

CHILD = """
import sys, time
from pathlib import Path
from autocompress.measure.machine_lock import MachineLock
with MachineLock(Path(sys.argv[1])).measuring():
    print("inside", flush=True)
    time.sleep(3600)
"""


@contextmanager
def another_process_measures(folder: Path) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "inside\n"
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def in_time(action: Callable[[], None], seconds: float) -> bool:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def test_who_measures_waits_until_the_others_give_way_and_is_not_starved(tmp_path: Path):
    with another(tmp_path, "working"), another(tmp_path, "working"):
        lock, times = MachineLock(tmp_path), []

        def measure() -> None:
            for _ in range(20):
                with lock.measuring():
                    times.append(time.monotonic())

        assert in_time(measure, 10)
        assert len(times) == 20


def test_who_measures_waits_until_what_is_computed_beside_it_is_done(tmp_path: Path):
    order: list[str] = []
    done = threading.Event()
    measurer = MachineLock(tmp_path)

    def measure() -> None:
        with measurer.measuring():
            order.append("measures")
        done.set()

    with MachineLock(tmp_path).working():
        assert not in_time(measure, 0.3), "it has not given way"
        order.append("computes")
    assert done.wait(10)
    assert order == ["computes", "measures"]


def test_nobody_enters_or_goes_on_while_one_measures(tmp_path: Path):
    with another_process_measures(tmp_path) as measurer:
        entered: list[float] = []

        def work() -> None:
            with MachineLock(tmp_path).working():
                entered.append(time.monotonic())

        assert not in_time(work, 0.3)
        assert not entered
        ended = time.monotonic()
        os.kill(measurer.pid, signal.SIGKILL)  # the lock is freed with it
        while not entered and time.monotonic() - ended < 5:
            time.sleep(0.01)
        assert entered


def test_two_that_work_may_both_measure_in_turn(tmp_path: Path):
    locks, inside, most = [MachineLock(tmp_path) for _ in range(2)], [], []

    def both(lock: MachineLock) -> Callable[[], None]:
        def action() -> None:
            with lock.working():
                for _ in range(10):
                    with lock.measuring():
                        inside.append(1)
                        most.append(len(inside))
                        time.sleep(0.002)
                        inside.pop()

        return action

    threads = [threading.Thread(target=both(lock), daemon=True) for lock in locks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads), "each waited for the other to leave"
    assert len(most) == 20
    assert max(most) == 1


def test_whether_others_work_is_known_without_waiting_for_them(tmp_path: Path):
    lock = MachineLock(tmp_path)
    assert not lock.others_work()
    for what in ("working", "measuring"):
        with another(tmp_path, what):
            assert lock.others_work()
    assert not lock.others_work()


def test_asking_whether_others_work_leaves_the_machine_to_them(tmp_path: Path):
    lock, entered = MachineLock(tmp_path), threading.Event()
    assert not lock.others_work()

    def work() -> None:
        with MachineLock(tmp_path).working():
            entered.set()

    assert in_time(work, 10)
    assert entered.is_set()


def test_waiting_is_told(tmp_path: Path):
    waits: list[float] = []

    @contextmanager
    def waiting() -> Iterator[None]:
        began = time.monotonic()
        yield
        waits.append(time.monotonic() - began)

    lock = MachineLock(tmp_path, waiting)
    with another(tmp_path, "measuring") as measurer:
        threading.Timer(0.3, measurer.set).start()
        with lock.working():
            lock.give_way()
    assert max(waits) >= 0.2


@pytest.mark.parametrize("what", ["working", "measuring"])
def test_an_error_inside_leaves_the_machine_free(what: str, tmp_path: Path):
    lock = MachineLock(tmp_path)
    with pytest.raises(ZeroDivisionError), getattr(lock, what)():
        raise ZeroDivisionError
    other = MachineLock(tmp_path)

    def measure() -> None:
        with other.measuring():
            pass

    assert in_time(measure, 2)


def test_process_that_outlives_its_run_folder_does_not_make_it_again(tmp_path: Path):
    with pytest.raises(AutocompressError, match="its folder was removed meanwhile; run the same command again"):
        MachineLock(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_those_that_work_know_when_another_process_measures_beside_them(tmp_path: Path):
    lock = MachineLock(tmp_path)
    assert not lock.others_measure()
    with lock.working(), another(tmp_path, "beside"):
        assert lock.others_measure()
        assert in_time(lock.give_way, 1), "they go on"
    assert not lock.others_measure(), "nobody measures any more"
