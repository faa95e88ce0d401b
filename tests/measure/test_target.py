"""A session on this machine: beside what is computed, or while that stands still where it must."""

import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, cycle, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from autocompress.candidate.export import export
from autocompress.comparison import TimingSession
from autocompress.data import feeds_to_store
from autocompress.errors import CandidateFailed
from autocompress.machine.blocks import HURRIED, HURRIED_S
from autocompress.machine.cores import cores
from autocompress.measure import CompareRequest, MachineLock, Sessions, Target, target
from autocompress.measure.repeats import REPEATED_AFTER, REPEATED_IN_VAIN, REPEATED_S
from autocompress.plugin.contract import Feed, Session
from autocompress.profile import HardwareProfile
from autocompress.storage.store import Store
from autocompress.supervisor import Supervisor
from tests.layouts import layout_of

from .another import another

ALL_CORES = cores()


class Watched(MachineLock):
    """alone: whether it has the machine now."""

    alone = False

    @contextmanager
    def measuring(self) -> Iterator[None]:
        with super().measuring():
            self.alone = True
            try:
                yield
            finally:
                self.alone = False


@dataclass
class Place:
    """A target with files of one layer and of three. beside, alone: how many times as long calls take, in turn, while
    others may compute and while they stand still. sessions: whether each had the machine alone.
    """

    folder: Path
    target: Target
    reference: Path
    candidate: Path
    beside: list[float] = field(default_factory=lambda: [1.0])
    alone: list[float] = field(default_factory=lambda: [1.0])
    sessions: list[bool] = field(default_factory=list)

    def compare(self, candidate: Path | None = None, seconds: float = HURRIED_S) -> TimingSession:
        return self.target.compare(CompareRequest(candidate or self.candidate, self.reference, "feeds-0", seconds))


DISTURBED = [1.0, 1.3, 1.6]  # no two calls of the reference in a row are quick


@pytest.fixture
def place(fake_runtime: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Place]:
    """``place(threads=2)``: of that profile."""

    def make(threads: int = 1, **others: Any) -> Place:
        files = []
        for layers in (1, 3):
            model = nn.Sequential(*(nn.Linear(16, 16) for _ in range(layers)))
            files.append(tmp_path / f"{layers}.onnx")
            export(model, layout_of(model, torch.zeros(1, 16)), torch.zeros(1, 16), files[-1], "torchscript")
        store, lock = Store(tmp_path / "store"), Watched(tmp_path)
        store.save("feeds-0", feeds_to_store([torch.zeros(1, 16)]))
        profile = HardwareProfile(name="fake", runtime="fake", threads=threads, **others)
        made = Place(tmp_path, Target(profile, fake_runtime, store, lock, Supervisor()), *files)

        clock: Callable[[Session, Feed], float] = fake_runtime.clock
        open_file: Callable[[Path, HardwareProfile], Session] = fake_runtime.open
        turns: dict[bool, Iterator[float]] = {}

        def slowed(session: Session, feed: Feed) -> float:
            return clock(session, feed) * next(turns[lock.alone])

        def opened(path: Path, profile: HardwareProfile) -> Session:
            turns.update({False: cycle(made.beside), True: cycle(made.alone)})
            if path == made.reference:
                made.sessions.append(lock.alone)
            return open_file(path, profile)

        fake_runtime.ms_per_mac = 0.04  # a call is a block
        monkeypatch.setattr(fake_runtime, "clock", slowed)
        monkeypatch.setattr(fake_runtime, "open", opened)
        return made

    return make


def test_a_file_is_timed_in_one_session_beside_the_reference(place: Callable[..., Place]):
    here = place()
    session = here.compare()
    assert math.exp(session.log_ratio) == pytest.approx(3.0)
    assert (session.busy, here.sessions) == (False, [False])
    assert session.statistic == pytest.approx(3 * session.reference)


def test_computing_goes_on_while_blocks_are_quiet(place: Callable[..., Place]):
    here = place()
    with another(here.folder, "working"):
        assert not here.compare().busy
    assert here.sessions == [False]


def test_a_busy_session_is_repeated_while_others_that_work_stand_still(place: Callable[..., Place]):
    here = place()
    here.beside = DISTURBED
    with another(here.folder, "working"):
        session = here.compare(seconds=REPEATED_S)
    assert here.sessions == [False, True]
    assert not session.busy
    assert math.exp(session.log_ratio) == pytest.approx(3.0)


def test_what_a_session_takes_is_without_waiting_for_those_that_work(
    place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
):
    here, seconds = place(threads=ALL_CORES), count()
    recorded, measuring = Sessions.record, here.target.lock.measuring

    def pass_by(some: int) -> int:
        return len(list(islice(seconds, some)))

    def in_ten_seconds(*given: Any) -> Any:
        pass_by(10)
        return recorded(*given)

    @contextmanager
    def after_a_hundred() -> Iterator[None]:
        here.target.lock.waited_s += pass_by(100)
        with measuring():
            yield

    monkeypatch.setattr(target, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    monkeypatch.setattr(Sessions, "record", in_ten_seconds)
    monkeypatch.setattr(here.target.lock, "measuring", after_a_hundred)
    assert here.compare().seconds == pytest.approx(10, abs=2)


def test_a_busy_session_is_not_repeated_where_nobody_works(place: Callable[..., Place]):
    """What disturbs it would not stand still."""
    here = place()
    here.beside = DISTURBED
    assert here.compare().busy
    assert here.sessions == [False]


def test_one_that_is_shorter_than_waiting_for_them_is_not(place: Callable[..., Place]):
    here = place()
    here.beside = DISTURBED
    with another(here.folder, "working"):
        assert here.compare(seconds=REPEATED_S / 2).busy
    assert here.sessions == [False]


def test_of_two_busy_sessions_the_one_with_more_quiet_blocks_counts(place: Callable[..., Place]):
    here = place()
    here.beside, here.alone = (
        DISTURBED,
        [1.0] * 14 + [1.3] * 100_000,
    )  # quiet while both warm up, and for a block or two
    with another(here.folder, "working"):
        session = here.compare(seconds=REPEATED_S)
    assert here.sessions == [False, True]
    assert session.busy
    assert session.quiet > 0
    here.beside, here.alone = here.alone, DISTURBED
    with another(here.folder, "working"):
        assert here.compare(seconds=REPEATED_S).quiet > 0, "whichever it is"


@pytest.mark.parametrize("alone", [[1.0], DISTURBED], ids=["quiet", "busy"])
def test_a_profile_that_takes_all_cores_has_the_machine_alone_from_the_beginning(
    alone: list[float], place: Callable[..., Place]
):
    here = place(threads=ALL_CORES)
    here.beside, here.alone = DISTURBED, alone
    with another(here.folder, "working"):
        assert here.compare().busy == (alone == DISTURBED)
    assert here.sessions == [True], "and once: nobody worked beside it"


def test_a_session_without_quiet_blocks_takes_no_longer_than_it_may(place: Callable[..., Place]):
    here = place()
    here.beside = DISTURBED
    assert here.compare(seconds=0.0).blocks == HURRIED
    assert here.compare(seconds=HURRIED_S).blocks > HURRIED


def test_how_fast_the_reference_can_be_is_remembered_as_long_as_its_file_is_the_same(place: Callable[..., Place]):
    here = place()
    assert not here.compare().busy
    here.beside = [1.5]
    assert here.compare().busy
    written = here.reference.stat().st_mtime_ns
    os.utime(here.reference, ns=(written + 10**9, written + 10**9))
    assert not here.compare().busy


@pytest.mark.parametrize("threads", [1, ALL_CORES])
def test_a_file_that_does_not_open_fails_and_leaves_the_machine_free(
    threads: int, place: Callable[..., Place], tmp_path: Path
):
    here, broken = place(threads), tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(CandidateFailed, match="cannot load the file"):
        here.compare(broken)
    assert not MachineLock(here.folder).others_work()


def test_where_every_moment_counts_what_a_search_computes_stands_still(place: Callable[..., Place]):
    """It would not run beside the model later; what else the machine does would."""
    here = place(machine="as it is")
    here.alone = DISTURBED
    with another(here.folder, "working"):
        session = here.compare()
    assert here.sessions == [True]
    assert (session.busy, session.quiet) == (False, session.blocks)


def test_what_standing_still_does_not_help_is_tried_again_now_and_then(
    place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autocompress.measure.repeats.REPEATED_S", HURRIED_S)
    here = place()
    here.beside = here.alone = DISTURBED
    with another(here.folder, "working"):
        for _ in range(REPEATED_IN_VAIN + 1 + REPEATED_AFTER):
            here.compare()
        assert here.sessions.count(True) == REPEATED_IN_VAIN + 1
        here.alone = [1.0]
        for _ in range(REPEATED_AFTER + 3):
            here.compare()
    assert here.sessions[-4:] == [False, True] * 2, "it helps by now"


def test_of_several_shapes_a_call_of_each_counts_by_its_weight(
    place: Callable[..., Place], fake_runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = place(shapes=[{"length": 1, "weight": 3}, {"length": 2}])
    made.target.store.save("feeds-1", feeds_to_store([torch.zeros(1, 16), torch.ones(1, 16)] * 2))
    monkeypatch.setattr(fake_runtime, "clock", lambda session, feed: 8.0 if feed["input"].any() else 4.0)
    session = made.target.compare(CompareRequest(made.candidate, made.reference, "feeds-1", 0.0))
    assert session.reference == pytest.approx((3 * 4.0 + 8.0) / 4)


def test_every_stream_of_a_profile_calls_the_file(
    place: Callable[..., Place], fake_runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers: set[int] = set()
    made = place(streams=3)
    clock = fake_runtime.clock

    def seen(session: Session, feed: Feed) -> float:
        callers.add(threading.get_ident())
        return float(clock(session, feed))

    monkeypatch.setattr(fake_runtime, "clock", seen)
    made.compare()
    assert len(callers) >= 3
