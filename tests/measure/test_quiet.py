"""Sessions on machines that slow files unequally: quiet blocks say what the file takes on a quiet one."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from autocompress.comparison import TimingSession
from autocompress.machine.blocks import Blocks
from autocompress.machine.quiet import MINUTES, RecentBlocks, quiet, quietest
from autocompress.measure import latency_of
from autocompress.measure.quiet import ReferenceSpeed, requalified
from autocompress.measure.statistics import session_of

from .simulated import Machine

SMALL = 0.33, 1.7  # ms, and how many times as long beside a neighbour; the reference: 1 ms and 1.3
MACHINES: dict[str, dict[str, object]] = {
    "never a neighbour": {"busy_ms": (0, 0)},
    "a neighbour half of the time": {},
    "a neighbour most of the time": {"quiet_ms": (15, 60), "busy_ms": (30, 200)},
    "it slows down over the minutes": {"speed": lambda ms: 1 - 0.1 * min(ms, 20_000) / 20_000},
}


def ratios(machine: Machine, count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    sessions = [machine.session(SMALL) for _ in range(count)]
    return np.exp([s.log_ratio for s in sessions]), np.exp([s.log_ratio_of_all for s in sessions])


@pytest.mark.parametrize("machine", MACHINES)
def test_sessions_agree_on_the_ratio_of_a_quiet_machine(machine: str):
    found, _ = ratios(Machine(**MACHINES[machine]))
    assert float(np.mean(found)) == pytest.approx(0.33, rel=0.01)
    assert float(np.std(np.log(found))) < 0.012


def test_three_quiet_blocks_tell_what_a_file_takes_on_a_quiet_machine():
    machine = Machine(quiet_ms=(14, 30), busy_ms=(300, 900))
    sessions = [session for session in (machine.session(SMALL) for _ in range(40)) if 3 <= session.quiet < 8]
    assert len(sessions) > 10
    assert not any(session.busy for session in sessions)
    assert [math.exp(session.log_ratio) for session in sessions] == pytest.approx([0.33] * len(sessions), rel=0.03)
    assert all(math.exp(session.log_ratio_of_all) > 0.4 for session in sessions)


def test_a_percentile_of_few_quiet_calls_is_one_of_all_calls():
    """Of calls that are blocks of their own: three of them say little about the slowest tenth."""
    reference = np.array([10.0] * 4 + [20.0] * 5)
    blocks = Blocks(tuple(np.array([ms]) for ms in [5.0] * 3 + [9.0] * 5), reference)
    found = session_of(blocks, 10.0, 90)
    assert (found.busy, math.exp(found.log_ratio)) == (False, pytest.approx(0.5))
    assert found.statistic == 9.0


def test_what_others_on_the_same_processor_take_is_no_part_of_a_call():
    """In time slices of 3 ms a call of 4 ms is interrupted each time, and one of 0.8 ms hardly ever."""
    in_turns = {"turn_ms": (3, 3)}
    found, untold = (
        float(np.exp(np.mean([machine.session((0.8, 1.7), (4.0, 1.3)).log_ratio for _ in range(10)])))
        for machine in (Machine(busy_ms=(0, 0), **in_turns), Machine(busy_ms=(0, 0), **in_turns, tells=False))
    )
    assert found == pytest.approx(0.2, rel=0.01)
    assert untold < 0.15, "a wait that nobody tells of makes the file look faster than it is"


def test_what_they_take_between_two_calls_makes_none_faster_nor_the_machine_busy():
    """One block in which all calls were too fast would make every session of the next minutes a busy one."""
    machine = Machine(busy_ms=(0, 0), turn_ms=(3, 1), between_ms=0.02)
    sessions = [machine.session((0.1, 1), (0.13, 1)) for _ in range(20)]
    assert not any(session.busy for session in sessions)
    assert [np.exp(session.log_ratio) for session in sessions] == pytest.approx([0.1 / 0.13] * 20, rel=0.04)


def test_what_a_neighbour_makes_of_the_file_is_kept_beside():
    found, of_all = ratios(Machine(quiet_ms=(15, 60), busy_ms=(30, 200)))
    assert float(np.mean(of_all)) > 1.15 * float(np.mean(found))


def test_after_a_step_in_frequency_sessions_are_busy_and_agree_as_before():
    machine = Machine(busy_ms=(0, 0), speed=lambda ms: 1 if ms < 1500 else 0.8)
    sessions = [machine.session(SMALL) for _ in range(20)]
    assert sum(session.busy for session in sessions) >= 5
    assert all(np.exp(session.log_ratio) == pytest.approx(0.33, rel=0.04) for session in sessions)


def test_the_busy_state_is_known_by_what_the_reference_took_in_earlier_sessions():
    machine = Machine(busy_ms=(0, 0))
    assert not machine.session(SMALL).busy
    neighbour = Machine(quiet_ms=(0, 0), recent=machine.recent)
    session = neighbour.session(SMALL)
    assert session.busy
    assert session.statistic == session.statistic_of_all
    assert session.statistic > 1.5 * machine.session(SMALL).statistic


def test_of_a_busy_session_the_quietest_blocks_count():
    """Those beside the fastest calls of the reference, although it was faster yet in earlier sessions."""
    before = RecentBlocks()
    before.add(0, np.full(20, 0.8))
    machine = Machine(quiet_ms=(15, 60), busy_ms=(30, 200), recent=before)
    sessions = [machine.session(SMALL) for _ in range(10)]
    assert all(session.busy for session in sessions)
    assert all(s.p50 / s.reference == pytest.approx(math.exp(s.log_ratio), rel=0.03) for s in sessions)
    found, of_all = (
        [math.exp(value) for value in values]
        for values in zip(*((s.log_ratio, s.log_ratio_of_all) for s in sessions), strict=True)
    )
    assert float(np.mean(found)) == pytest.approx(0.33, rel=0.03)
    assert float(np.mean(of_all)) > 1.1 * 0.33


def test_the_quietest_blocks_are_a_quarter_of_all_and_a_few_at_least():
    reference = np.array([1.0, 1.0, 1.5, 1.2, 1.2, 1.3, 1.1, 1.1, 1.4])
    assert np.flatnonzero(quietest(reference, 1)).tolist() == [0, 6]
    assert np.flatnonzero(quietest(reference, 3)).tolist() == [0, 3, 6]
    assert quietest(np.array([1.0, 1.2, 1.1]), 3).all(), "of two"


def test_a_percentile_is_of_the_calls_of_quiet_blocks():
    calls = tuple(np.full(4, 5.0 if number % 3 == 1 else 0.5) for number in range(30))
    reference = np.ones(31)
    reference[[number for number in range(31) if number % 3 == 1]] = 1.5
    session = session_of(Blocks(calls, reference), fastest=1.0, percentile=90)
    assert session.statistic == session.p50 == 0.5
    assert session.reference == 1.0
    assert session.quiet == sum(number % 3 == 2 for number in range(30))


def test_a_block_is_quiet_when_the_reference_was_before_it_and_after_it():
    reference = np.array([1.0, 1.07, 1.2, 1.0, 1.0])
    assert quiet(reference, 1.0).tolist() == [True, False, False, True]


def test_how_fast_the_reference_can_be_is_forgotten_after_some_minutes():
    recent = RecentBlocks()
    recent.add(0, np.full(20, 0.5))
    recent.add(100, np.full(20, 1.0))
    assert recent.fastest(200, np.full(20, 1.1)) == pytest.approx(0.5)
    assert recent.fastest(60 * MINUTES + 1, np.full(20, 1.1)) == pytest.approx(1.0), "without a session in between"
    assert recent.fastest(1e5, np.full(20, 1.1)) == pytest.approx(1.1)


def beside(make_session: Callable[..., TimingSession], reference: float, at_s: float = 0.0) -> TimingSession:
    """A quiet session beside a reference that took so many milliseconds, then its fastest of late."""
    return replace(make_session(0.5), reference=reference, slowed=1.0, at_s=at_s)


def seen(*sessions: TimingSession) -> ReferenceSpeed:
    return ReferenceSpeed().after(sessions)


def test_a_session_is_busy_once_another_shows_that_the_reference_can_be_faster(
    make_session: Callable[..., TimingSession],
):
    slow, fast = beside(make_session, 1.3), beside(make_session, 1.0, 60.0)
    assert not slow.busy
    (found,) = requalified((slow,), seen(fast))
    assert found.busy
    assert (found.log_ratio, found.blocks) == (slow.log_ratio, slow.blocks), "what it measured stays"
    assert [session.busy for session in requalified((slow, fast), seen(slow, fast))] == [True, False]


def test_of_a_session_that_turns_out_busy_the_percentile_is_of_all_calls(make_session: Callable[..., TimingSession]):
    """As of one that was known to be busy from the first; its quiet blocks are the quietest that it had."""
    by_all = {"log_ratio_of_all": math.log(0.7), "statistic_of_all": 0.9}
    slow = replace(beside(make_session, 1.3), **by_all)
    found = latency_of(requalified((slow,), seen(beside(make_session, 1.0, 60.0))))
    assert (found.ratio, found.statistic) == (pytest.approx(0.5), pytest.approx(0.9))


def test_a_busy_session_too_tells_how_fast_the_reference_can_be(make_session: Callable[..., TimingSession]):
    """It ran 1.5 times as long as its fastest of late: that was 1 ms."""
    slow = beside(make_session, 1.3)
    neighbour = replace(make_session(0.5, quiet=False), reference=1.5, slowed=1.5, at_s=60.0)
    assert requalified((slow,), seen(neighbour))[0].busy


@pytest.mark.parametrize(
    ("reference", "at_s"),
    [(1.07, 60.0), (1.3, 60.0 + MINUTES * 60 + 60), (0.5, 60.0)],
    ids=["nearly as fast", "too long ago", "faster"],
)
def test_a_session_that_counts_as_before_is_the_same_value(
    reference: float, at_s: float, make_session: Callable[..., TimingSession]
):
    sessions = (beside(make_session, reference, at_s),)
    assert requalified(sessions, seen(beside(make_session, 1.0, 60.0))) is sessions


def test_nothing_is_said_again_of_a_session_that_is_busy_already(make_session: Callable[..., TimingSession]):
    busy = (replace(make_session(0.5, quiet=False), reference=2.0),)
    assert requalified(busy, seen(beside(make_session, 1.0))) is busy
