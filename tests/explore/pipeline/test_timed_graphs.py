"""The timing sessions of each graph, and when it has enough of them."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from autocompress.comparison import TimingSession
from autocompress.explore.pipeline.timed_graphs import (
    AT_MOST,
    MOST_SHARE,
    SHORTEST_S,
    WELL_KNOWN,
    WHOLE_SHARE,
    TimedGraphs,
    session_s,
)

MakeSession = Callable[..., TimingSession]


def test_sessions_of_all_files_of_a_graph_are_of_the_graph(make_session: MakeSession):
    timed, (one, other, third) = TimedGraphs(), (make_session(0.5) for _ in range(3))
    timed.add("a", [one])
    timed.add("b", [third])
    timed.add("a", [other])
    assert timed.of("a") == (one, other)
    assert timed.of("b") == (third,)
    assert timed.of("never timed") == ()


def test_each_session_counts_once(make_session: MakeSession):
    """A file comes with all the sessions of its graph."""
    timed, (one, other) = TimedGraphs(), (make_session(0.5) for _ in range(2))
    timed.add("a", [one])
    timed.add("a", [one, other])
    assert timed.of("a") == (one, other)


def test_a_graph_is_known_with_enough_quiet_sessions(make_session: MakeSession):
    timed = TimedGraphs()
    assert not timed.known("a")
    for number in range(1, WELL_KNOWN + 1):
        timed.add("a", [make_session(0.5)])
        assert timed.known("a")
        assert timed.well_known("a") is (number >= WELL_KNOWN)
    assert not timed.known("b")


def test_on_a_machine_that_is_never_quiet_a_graph_is_not_timed_for_ever(make_session: MakeSession):
    timed = TimedGraphs()
    for number in range(1, AT_MOST + 1):
        timed.add("a", [make_session(0.5, quiet=False)])
        assert timed.known("a")
        assert timed.well_known("a") is (number >= AT_MOST)


def test_a_session_that_another_graph_shows_to_be_disturbed_is_not_enough(make_session: MakeSession):
    timed = TimedGraphs()
    slow = [replace(make_session(0.5), reference=1.3) for _ in range(WELL_KNOWN)]
    timed.add("a", slow)
    assert timed.well_known("a")
    timed.add("b", [replace(make_session(0.5), reference=1.0)])
    assert [session.busy for session in timed.of("a")] == [True] * WELL_KNOWN
    assert not timed.well_known("a")
    timed.add("a", slow)
    assert len(timed.of("a")) == WELL_KNOWN, "they are the same ones all the same"


def test_where_measuring_has_used_up_its_share_sessions_are_short():
    timed = TimedGraphs()
    assert timed.affordable_s(0.5, elapsed_s=100) == 0.5
    timed.spent_s = MOST_SHARE * 100 - 0.3
    assert timed.affordable_s(0.5, elapsed_s=100) == pytest.approx(0.3)
    timed.spent_s = 50
    assert timed.affordable_s(0.5, elapsed_s=100) == SHORTEST_S


def test_what_sessions_took_counts_once_and_also_what_an_earlier_process_timed(make_session: MakeSession):
    timed, session = TimedGraphs(), replace(make_session(0.5), seconds=0.3)
    timed.add("a", [session])
    timed.add("a", [session])
    assert timed.spent_s == session.seconds > 0
    assert timed.left_s(100) == pytest.approx(WHOLE_SHARE * 100 - session.seconds)
    assert timed.left_s(0.1) == 0


def test_on_a_busy_machine_measuring_may_take_up_to_twice_its_share(make_session: MakeSession):
    timed = TimedGraphs()
    timed.add("a", [replace(make_session(0.5, quiet=False), seconds=0.25)])
    assert timed.left_s(100) == pytest.approx(2 * WHOLE_SHARE * 100 - 0.25)
    timed.add("b", [replace(make_session(0.5), seconds=0.25)])
    assert timed.left_s(100) == pytest.approx(1.5 * WHOLE_SHARE * 100 - 0.5)


def test_a_session_takes_a_share_of_a_searchs_time():
    assert session_s(600) == pytest.approx(0.96)


@pytest.mark.parametrize(("limit_s", "seconds"), [(10, 0.1), (36_000, 1.5)])
def test_a_session_is_long_enough_to_tell_something_and_no_longer_than_needed(limit_s: float, seconds: float):
    assert session_s(limit_s) == seconds
