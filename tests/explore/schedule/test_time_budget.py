"""What there is time for: what is kept for the end is what the end will take."""

from types import SimpleNamespace
from typing import Any

import pytest

from autocompress.explore.clock.clock import Clock
from autocompress.explore.clock.durations import Durations
from autocompress.explore.pipeline.scoring_speed import SLACK, ScoringSpeed
from autocompress.explore.pipeline.timed_graphs import session_s
from autocompress.explore.policy import SearchPolicy
from autocompress.explore.schedule import rungs
from autocompress.explore.schedule.time_budget import (
    JUDGED,
    JUDGING_SESSIONS,
    LAST_LENGTHS_KEPT,
    LEAST_MORE,
    MEASURED_AGAIN,
    PATIENCE,
    TimeBudget,
)

LENGTHS = rungs.lengths(600)


def file(ms: float, name: str = "", quiet: bool = True) -> Any:
    return SimpleNamespace(id=name, latency=SimpleNamespace(p50=ms, quiet=quiet))


def time_budget(
    *front_ms: float,
    concurrency: int = 1,
    now: Any = None,
    needs: tuple[float, ...] = (),
    policy: SearchPolicy = SearchPolicy(),
    quiet: bool = True,
    speed: ScoringSpeed | None = None,
    **others: Any,
) -> Any:
    """Of a search of 600 s whose reference takes 2 ms a call. needs: seconds that finalists still have to train.
    quiet: whether the files of the front were timed in quiet moments.
    """
    prepared = SimpleNamespace(test_examples=1000, val_examples=500)
    opening = SimpleNamespace(reference=file(2.0, "reference"), prepared=prepared, applicable=())
    standings: Any = SimpleNamespace(
        opening=opening,
        front=lambda: [opening.reference, *(file(ms, quiet=quiet) for ms in front_ms)],
        files=1 + len(front_ms),
        steering=SimpleNamespace(bounded=False),
        finalists=lambda count: [SimpleNamespace(train_s=LAST_LENGTHS_KEPT * LENGTHS[-1].seconds - s) for s in needs],
    )
    vars(standings).update(others)
    clock = Clock(600.0, now=now or (lambda: 0.0))
    speed = speed or ScoringSpeed()
    return TimeBudget(
        clock, Durations(clock), standings, LENGTHS, batch=1, concurrency=concurrency, speed=speed, policy=policy
    )


def kept_for_finalists(time: TimeBudget) -> float:
    return time.reserve_s() - time.closing_s()


def test_testing_takes_what_the_files_of_the_front_and_the_reference_take() -> None:
    assert time_budget(0.5, 0.25).tested_s() == pytest.approx(2.75)


@pytest.mark.parametrize(
    ("took", "expected"),
    [(1.0, SLACK * 0.5), (2.0, SLACK), (40.0, SLACK * 20)],
    ids=["threads", "alone", "a slow metric"],
)
def test_testing_takes_what_scoring_took_for_so_many_examples(took: float, expected: float) -> None:
    speed = ScoringSpeed()
    speed.took(took, 2.0)
    assert time_budget(0.5, 0.25, speed=speed).tested_s() == pytest.approx(2.75 * expected)
    speed.took(0.1, 0.01)
    assert speed.share() == pytest.approx(expected), "too short to tell"
    for _ in range(9):
        speed.took(0.5, 0.1)
    assert speed.share() == pytest.approx(expected), "what is around a short one is not what a long one takes"
    speed.took(6.0, 3.0)
    assert speed.share() == pytest.approx(SLACK * (took + 6.0) / 5.0), "as much work tells"


@pytest.mark.parametrize(("left_s", "can"), [(600.0, True), (-27.0, True), (-29.0, False)])
def test_a_file_is_tested_while_the_search_may_still_run(left_s: float, can: bool) -> None:
    time = time_budget(0.5, now=iter([0.0, *[600.0 - left_s] * 9]).__next__)
    assert time.can_test(file(2.0)) == can, "2 s, and a twentieth of 600 s may be taken beyond"


def test_of_a_long_front_as_many_files_are_tested_as_were_measured_again() -> None:
    assert time_budget(*[0.5] * 40).tested_s() == pytest.approx(2.0 + MEASURED_AGAIN * 0.5)


def test_what_is_kept_for_closing_is_enough_to_judge_finalists_and_time_the_front() -> None:
    seconds = [0.0]
    time = time_budget(*[0.5] * 8, now=lambda: seconds[0])
    seconds[0] = 600.0 - time.closing_s()
    seconds[0] += (JUDGED * JUDGING_SESSIONS[0] + 8) * session_s(600.0)
    assert time.can_measure()
    seconds[0] = 600.0 - time.tested_s()
    assert not time.can_measure()


def test_where_the_machine_was_busy_finalists_have_time_to_wait_for_quiet_moments() -> None:
    left, busy = time_budget(*[0.5] * 8), time_budget(*[0.5] * 8, quiet=False)
    longer = (PATIENCE - 1) * JUDGED * JUDGING_SESSIONS[0] * session_s(600.0)
    assert busy.closing_s() - left.closing_s() >= longer
    assert busy.reserve_s() - left.reserve_s() >= longer


@pytest.mark.parametrize("left_s", [600.0, 60.0, 30.0, 1.0])
def test_a_session_of_a_finalist_is_as_long_as_there_is_time_for_and_as_any_other_at_least(left_s: float) -> None:
    time = time_budget(*[0.5] * 8, now=iter([0.0, *[600.0 - left_s] * 99]).__next__)
    usual, each_s = session_s(600.0), time.patient_s(9, measuring_s=600.0)
    assert usual <= each_s <= PATIENCE * usual
    assert each_s == usual or 9 * each_s + 8 * usual + time.tested_s() < left_s
    assert (each_s > 2 * usual) == (left_s > 30)
    assert 9 * each_s <= 0.08 * 600


def test_a_session_of_a_finalist_is_no_longer_than_usual_where_measuring_has_had_its_share() -> None:
    time = time_budget(*[0.5] * 8)
    assert time.patient_s(9, measuring_s=0.0) == session_s(600.0)
    assert session_s(600.0) < time.patient_s(9, measuring_s=25.0) < time.patient_s(9, measuring_s=600.0)


def test_finalists_that_train_at_the_same_time_need_less_of_it() -> None:
    alone, two, many = (
        kept_for_finalists(time_budget(0.5, concurrency=n, needs=(30.0, 30.0, 30.0))) for n in (1, 2, 8)
    )
    assert alone == pytest.approx(3 * many)
    assert two == pytest.approx(alone / 2)


@pytest.mark.parametrize(("share", "kept"), [(LEAST_MORE + 0.01, True), (LEAST_MORE - 0.01, False)])
def test_nothing_is_kept_for_a_finalist_that_would_not_train_on_for_it(share: float, kept: bool) -> None:
    full = LAST_LENGTHS_KEPT * LENGTHS[-1].seconds
    assert (kept_for_finalists(time_budget(0.5, needs=(full * share / (1 + share),))) > 0) == kept


def test_nothing_is_kept_where_the_share_of_finalists_is_too_short_for_each_of_them() -> None:
    needs, policy = (LAST_LENGTHS_KEPT * LENGTHS[-1].seconds - 60.0,) * 3, SearchPolicy(most_for_front=0.03)
    assert kept_for_finalists(time_budget(0.5, needs=needs, policy=policy)) == 0.0


@pytest.mark.parametrize(("under_way", "concurrency", "times"), [(0, 1, 1), (1, 1, 2), (1, 2, 1), (3, 2, 2)])
def test_a_family_takes_longer_beside_others_that_share_the_workers(
    under_way: int, concurrency: int, times: int
) -> None:
    seconds = [0.0]
    time = time_budget(0.5, concurrency=concurrency, now=lambda: seconds[0])
    time.durations.family(10.0, 8.0)
    for spare_s, expected in ((12.1 * times, True), (11.9 * times, False)):
        seconds[0] += time.spare_s() - spare_s
        assert time.affords_family(under_way) == expected
        assert time.affords(8.0, under_way) == (spare_s > 11.6 * times)


def test_the_one_finalist_that_has_far_to_go_has_the_time_for_it() -> None:
    assert kept_for_finalists(time_budget(0.5, concurrency=3, needs=(100.0, 0.0, 0.0))) >= 100.0


def test_under_a_budget_one_finalist_has_all_the_cores() -> None:
    bounded = SimpleNamespace(bounded=True)
    contender = SimpleNamespace(within=True)
    common: Any = {"steering": bounded, "contending": lambda: [contender], "standing": lambda family: family}
    one, other = (time_budget(0.5, concurrency=n, needs=(50.0, 50.0), **common).reserve_s() for n in (1, 2))
    assert one == other > 100


def test_no_more_than_its_share_of_the_time_is_kept_for_finalists() -> None:
    policy = SearchPolicy(most_for_front=0.1, most_finishing=0.2)
    assert kept_for_finalists(time_budget(0.5, needs=(500.0,), policy=policy)) == pytest.approx(60.0)
    bounded = SimpleNamespace(bounded=True)
    contender = SimpleNamespace(within=True)
    common: Any = {"steering": bounded, "contending": lambda: [contender], "standing": lambda family: family}
    assert kept_for_finalists(time_budget(0.5, needs=(500.0,), policy=policy, **common)) == pytest.approx(120.0)
