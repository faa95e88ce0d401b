"""What sessions say together: intervals are right as often as they say, however much sessions spread."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from autocompress.comparison import TimingSession
from autocompress.latency import Latency, beside_itself
from autocompress.measure import Pools, ReferenceSpeed, RunTiming, counted, latency_of
from autocompress.measure.intervals import (
    ASSUMED_DF,
    ASSUMED_SD,
    LOOK_CONFIDENCE,
    Pooled,
    intervals,
    relation,
    spread_of,
)

MakeSession = Callable[..., TimingSession]
COMPARISONS = 1000
SPREADS = pytest.mark.parametrize("sd", [0.003, 0.01, 0.02, 0.04, 0.1])


def sessions_of(sd: float, count: int) -> np.ndarray:
    """Logarithms of sessions, a comparison a row. The truth is 0 everywhere."""
    return np.random.default_rng(1).normal(0, sd, (COMPARISONS, count))


def pool_of(sd: float, graphs: int = 20) -> Pooled:
    """Of graphs with three sessions each."""
    return Pooled(2 * graphs * sd**2, 2 * graphs)


# -- one graph ---------------------------------------------------------------------------------------------------------


@SPREADS
@pytest.mark.parametrize("count", [4, 8])
def test_intervals_hold_the_truth_and_the_next_session_as_often_as_they_say(sd: float, count: int):
    truths, nexts = [], []
    for row in sessions_of(sd, count + 1):
        found = intervals(row[:-1].tolist())
        truths.append(found.low <= 0 <= found.high)
        nexts.append(found.next_low <= row[-1] <= found.next_high)
    assert np.mean(truths) >= 0.93
    assert np.mean(nexts) >= 0.93


@SPREADS
def test_intervals_of_a_spread_that_the_run_knows_are_as_wide_as_they_say_and_no_wider(sd: float):
    pooled = pool_of(sd, graphs=5000)
    nexts = []
    for row in sessions_of(sd, 4):
        found = intervals(row[:-1].tolist(), pooled)
        nexts.append(found.next_low <= row[-1] <= found.next_high)
    assert 0.93 <= np.mean(nexts) <= 0.97


def test_one_session_has_the_spread_that_is_assumed():
    found = spread_of([0.3])
    assert (found.sd, found.df) == (ASSUMED_SD, ASSUMED_DF)


def test_what_is_assumed_counts_until_the_sessions_own_spread_reaches_farther():
    close, wide = [0.001, -0.001] * 4, [0.1, -0.1] * 4
    assert 0.001 < spread_of(close).sd < ASSUMED_SD
    assert (spread_of(wide).sd, spread_of(wide).df) == (pytest.approx(float(np.std(wide, ddof=1))), 7)


# -- the graphs of a run -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sd", [0.005, 0.05])
def test_one_session_has_the_spread_of_the_others_where_there_are_many(sd: float):
    found = spread_of([0.3], pool_of(sd, graphs=500))
    assert found.sd == pytest.approx(sd, rel=0.1)
    assert found.df == ASSUMED_DF + 1000


def test_all_that_is_known_is_taken_together():
    """Of the others, of the graph itself once, and what is assumed."""
    values = [0.01, -0.01, 0.0]
    others, own = Pooled(0.004, 10), Pooled(0.0002, 2)
    found = spread_of(values, others.plus(own))
    assert found.df == ASSUMED_DF + 12
    assert found.sd == pytest.approx(math.sqrt((ASSUMED_DF * ASSUMED_SD**2 + 0.0042) / found.df))


@pytest.mark.parametrize(("times", "alone"), [(1.5, False), (4.0, True)], ids=["about as wide", "clearly wider"])
def test_a_graph_that_spreads_clearly_wider_than_the_others_has_its_own_spread(times: float, alone: bool):
    values = [0.02 * times, -0.02 * times, 0.02 * times, -0.02 * times]
    own = Pooled.of(values)
    found = spread_of(values, pool_of(0.02).plus(own))
    sd = math.sqrt(own.squares / own.df)
    assert (found.df, found.sd) == ((3, pytest.approx(sd)) if alone else (ASSUMED_DF + 43, found.sd))
    assert alone or found.sd < sd


def test_a_graph_is_seldom_called_wider_that_is_not():
    """By an F test that errs in one of a hundred."""
    random = np.random.default_rng(2)
    wider = 0
    for _ in range(COMPARISONS):
        others = random.normal(0, ASSUMED_SD, (20, 3))
        pooled = Pooled(float(others.var(axis=1).sum() * 3), 40)
        values = random.normal(0, ASSUMED_SD, 4).tolist()
        wider += spread_of(values, pooled.plus(Pooled.of(values))).df == 3
    assert 0 < wider <= 0.02 * COMPARISONS


def test_a_graph_that_spreads_less_than_the_others_is_not_trusted_to():
    values = [0.001, -0.001, 0.001, -0.001]
    assert spread_of(values, pool_of(0.03).plus(Pooled.of(values))).sd > 0.025


def test_a_run_pools_the_sessions_of_each_graph_around_its_own_mean(make_session: MakeSession):
    close = [make_session(math.exp(0.01 * sign), statistic=math.exp(0.03 * sign)) for sign in (1, -1)]
    far = [make_session(5 * math.exp(0.01 * sign), statistic=9 * math.exp(0.03 * sign)) for sign in (1, -1)]
    found = RunTiming.of([Pools(tuple(group)) for group in (close, far, [make_session(0.3)], [])])
    assert (found.ratio.df, found.ratio.squares) == (2, pytest.approx(4 * 0.01**2))
    assert (found.statistic.df, found.statistic.squares) == (2, pytest.approx(4 * 0.03**2))


def test_a_busy_session_of_a_graph_that_has_quiet_ones_says_nothing_about_the_spread(make_session: MakeSession):
    quiet, busy = [make_session(1.01), make_session(0.99)], make_session(3.0, quiet=False)
    assert RunTiming.of([Pools((*quiet, busy))]) == RunTiming.of([Pools((*quiet,))])


def test_a_file_that_stands_alone_does_not_widen_the_spread_of_a_run(make_session: MakeSession):
    own, others = of_file("a", 0.80, 0.81, make=make_session), of_file("b", 0.50, 0.51, make=make_session)
    assert RunTiming.of([Pools.of((*own, *others))]) == RunTiming.of([Pools(own), Pools(others)])


# -- the reference of a run --------------------------------------------------------------------------------------------


USUAL = 1.02
KNOWN = RunTiming(slowed=USUAL)  # the reference takes 1 ms at its fastest, and that in the mean


def slowed(make: MakeSession, ratio: float, reference: float, own: float, **others: Any) -> TimingSession:
    """One in which the reference and the file took so many times as long as in the mean."""
    ms = USUAL * reference
    session = replace(make(ratio), reference=ms, slowed=ms, log_ratio=math.log(ratio * own / reference))
    return replace(session, **others)


@pytest.mark.parametrize(
    ("ratio", "own", "within"),
    [(0.2, 1.0, 0.02), (0.2, 1.02, 0.001), (0.2, 1.04, 0.02), (0.9, 1.04, 0.005), (1.6, 1.04, 0.001)],
)
def test_what_slows_the_reference_and_a_file_unequally_moves_the_ratio_by_half_of_it_at_most(
    ratio: float, own: float, within: float, make_session: MakeSession
):
    """Something slows the reference by 4 %, and a small file by nothing, by half or by as much. One of the reference's
    size is slowed as the reference is.
    """
    session = slowed(make_session, ratio, 1.04, own)
    assert latency_of([session], KNOWN).ratio == pytest.approx(ratio, rel=within)


def test_a_slow_call_takes_as_much_more_than_another_whatever_slowed_the_reference(make_session: MakeSession):
    session = replace(slowed(make_session, 0.2, 1.06, 1.0), statistic=0.20604, p90=0.20604)
    found = latency_of([session], KNOWN)
    assert found.p90 / found.p50 == pytest.approx(1.01)


@pytest.mark.parametrize(
    "others",
    [{"slowed": 0.0}, {"device": "board"}],
    ids=["as it is", "a device"],
)
def test_where_nothing_or_the_clock_alone_is_in_the_way_a_session_counts_as_it_was(
    others: dict[str, Any], make_session: MakeSession
):
    session = slowed(make_session, 0.2, 1.04, 1.04, **others)
    assert RunTiming.of([Pools((session,))]).slowed == 1.0
    assert latency_of([session], RunTiming(slowed=1.0)).ratio == pytest.approx(0.2)


def test_a_clock_that_drifts_changes_no_ratio(make_session: MakeSession):
    """Half an hour later everything takes 8 % longer: no neighbour does that, the reference never was faster then."""
    early, late = (
        replace(make_session(0.2), reference=1.02 * ms, slowed=1.02, at_s=at_s)
        for ms, at_s in ((1.0, 0.0), (1.08, 1800.0))
    )
    run = RunTiming.of([Pools((early, late))], ReferenceSpeed().after([early, late]))
    assert run.ratio.squares == pytest.approx(0.0)
    assert latency_of([early, late], run).ratio == pytest.approx(0.2)


def test_how_slow_the_reference_was_is_known_from_later_sessions_too(make_session: MakeSession):
    """The first session took the reference for as fast as it can be."""
    first = slowed(make_session, 0.2, 1.04, 1.02, slowed=1.0)
    later = replace(make_session(0.5), reference=1.0, at_s=60.0)
    assert latency_of([first], replace(KNOWN, speed=ReferenceSpeed().after([first, later]))).ratio == pytest.approx(
        0.2, rel=0.001
    )
    assert latency_of([first], replace(KNOWN, speed=ReferenceSpeed().after([first]))).ratio < 0.195


def test_ratios_of_a_run_are_in_the_mean_what_its_sessions_say(make_session: MakeSession):
    """What is told while a search goes on, and at its end."""
    random = np.random.default_rng(0)
    graphs = [[slowed(make_session, 0.2, 1 + r, 1.0) for r in random.uniform(-0.02, 0.05, 6)] for _ in range(50)]
    run = RunTiming.of([Pools(tuple(graph)) for graph in graphs])
    by_run, alone = ([latency_of(graph, known).ratio for graph in graphs] for known in (run, RunTiming()))
    assert np.mean(by_run) == pytest.approx(np.mean(alone), rel=0.002)
    assert np.std(by_run) < 0.6 * np.std(alone)


def test_where_no_session_of_a_run_was_quiet_they_are_not_taken_for_usual(make_session: MakeSession):
    busy = slowed(make_session, 0.4, 1.3, 1.28, quiet=0)
    run = RunTiming.of([Pools((busy, busy))])
    assert run.slowed < 1.08
    assert latency_of([busy], run).ratio > latency_of([busy]).ratio


def test_a_busy_session_does_not_make_a_file_look_faster_than_a_quiet_one(make_session: MakeSession):
    """Of what slowed the reference by 15 %, and the file by 12, a quiet session can have 6."""
    busy = slowed(make_session, 0.4, 1.15, 1.12, quiet=0)
    assert latency_of([busy], KNOWN).ratio == pytest.approx(0.4, rel=0.005)
    assert latency_of([busy]).ratio == pytest.approx(0.3896, rel=0.001)


def test_sessions_beside_a_slowed_reference_agree_with_the_others_of_their_run(make_session: MakeSession):
    random = np.random.default_rng(0)
    graphs = [[slowed(make_session, 0.2, 1 + r, 1.0) for r in random.uniform(0, 0.07, 6)] for _ in range(3)]
    raw = sum(Pooled.of([session.log_ratio for session in graph]).squares for graph in graphs)
    found = RunTiming.of([Pools(tuple(graph)) for graph in graphs])
    assert found.ratio.squares < 0.3 * raw
    assert 1.02 < found.reference_ms < 1.08
    assert found.slowed == pytest.approx(found.reference_ms), "1 ms at its fastest"


# -- the files of a graph ----------------------------------------------------------------------------------------------


def of_file(digest: str, *ratios: float, make: MakeSession, quiet: bool = True) -> tuple[TimingSession, ...]:
    return tuple(replace(make(ratio, quiet=quiet), file=digest) for ratio in ratios)


def test_files_whose_sessions_agree_belong_together(make_session: MakeSession):
    sessions = (*of_file("a", 0.50, 0.51, make=make_session), *of_file("b", 0.52, 0.49, make=make_session))
    assert Pools.of(sessions) == Pools(sessions)
    assert Pools.of(sessions).of_file("a") == sessions


def test_a_file_that_disagrees_twice_stands_alone_and_once_does_not(make_session: MakeSession):
    others = of_file("a", 0.50, 0.51, 0.49, make=make_session)
    twice, once = (of_file("b", *ratios, make=make_session) for ratios in ((0.60, 0.61), (0.60,)))
    found = Pools.of((*others, *twice))
    assert (found.of_file("a"), found.of_file("b")) == (others, twice)
    assert Pools.of((*others, *once)).alone == {}
    mixed = of_file("b", 0.60, 0.505, make=make_session)
    assert Pools.of((*others, *mixed)).alone == {}, "one of its sessions agrees"


def test_a_file_that_stands_alone_takes_no_sound_one_with_it(make_session: MakeSession):
    """Beside the far one, each of the others lies far from the mean of the rest."""
    sound = [of_file(name, 0.50, 0.505, make=make_session) for name in "ab"]
    far = of_file("far", 1.5, 1.49, make=make_session)
    found = Pools.of((*sound[0], *far, *sound[1]))
    assert (found.together, dict(found.alone)) == ((*sound[0], *sound[1]), {"far": far})


def test_of_two_files_that_disagree_the_one_that_was_timed_later_stands_alone(make_session: MakeSession):
    first, second = of_file("a", 0.5, 0.5, make=make_session), of_file("b", 0.6, 0.6, make=make_session)
    assert dict(Pools.of((*first, *second)).alone) == {"b": second}
    assert dict(Pools.of((*second, *first)).alone) == {"a": first}


def test_a_busy_session_does_not_make_a_file_stand_alone(make_session: MakeSession):
    others = of_file("a", 0.50, 0.51, make=make_session)
    busy = of_file("b", 0.70, 0.71, make=make_session, quiet=False)
    assert Pools.of((*others, *busy)).alone == {}


def test_ratios_and_the_percentile_have_spreads_of_their_own(make_session: MakeSession):
    sessions = [make_session(0.5, statistic=2.0)] * 3
    spreads = RunTiming(ratio=pool_of(0.005, 500), statistic=pool_of(0.05, 500))
    found = latency_of(sessions, spreads)
    assert found.ratio_high / found.ratio < 1.01
    assert found.high / found.statistic > 1.04


# -- what a graph's sessions say ---------------------------------------------------------------------------------------


def test_quiet_sessions_count_as_long_as_there_are_any(make_session: MakeSession):
    busy, quiet = [make_session(0.6, quiet=False) for _ in range(3)], make_session(0.5)
    assert counted([*busy, quiet]) == [quiet]
    assert counted(busy) == busy
    assert latency_of([*busy, quiet]).ratio == pytest.approx(0.5)
    assert latency_of(busy).ratio == pytest.approx(0.6)
    found = latency_of([*busy, quiet])
    assert (found.quiet, found.quiet_sessions, len(found.sessions)) == (True, 1, 4)
    assert not latency_of(busy).quiet


def test_of_busy_sessions_those_count_that_were_disturbed_least(make_session: MakeSession):
    """The one that was disturbed most was the first, and knew of nothing faster then."""
    much, little, as_little = (
        replace(make_session(ratio, quiet=False), reference=reference, slowed=slowed)
        for ratio, reference, slowed in ((0.45, 1.42, 1.0), (0.398, 1.13, 1.13), (0.402, 1.2, 1.2))
    )
    found = latency_of([much, little, as_little])
    assert found.ratio == pytest.approx(0.4, rel=1e-3)
    assert (len(found.sessions), found.quiet_sessions) == (3, 0)
    assert counted([much]) == [much]


def test_numbers_are_means_of_logarithms_and_lie_in_their_intervals(make_session: MakeSession):
    found = latency_of([make_session(0.4, statistic=3.0), make_session(0.9, statistic=12.0)])
    assert (found.ratio, found.statistic) == (pytest.approx(0.6), pytest.approx(6.0))
    assert found.ratio_next_low < found.ratio_low < found.ratio < found.ratio_high < found.ratio_next_high
    assert found.next_low < found.low < found.statistic < found.high < found.next_high


def test_milliseconds_of_a_call_are_the_ratio_times_the_references(make_session: MakeSession):
    sessions = [replace(make_session(0.5, statistic=9.0), reference=ms) for ms in (2.0, 8.0)]
    assert latency_of(sessions).p50 == pytest.approx(0.5 * 4.0)


def test_a_slow_call_takes_as_much_more_as_in_the_sessions(make_session: MakeSession):
    sessions = [replace(make_session(0.5, statistic=2.0), p90=3.0)] * 2
    assert latency_of(sessions).p90 == pytest.approx(3.0)


def test_what_a_busy_machine_makes_of_a_file_is_told_beside(make_session: MakeSession):
    slowed = [replace(make_session(0.2), log_ratio_of_all=math.log(0.26)) for _ in range(2)]
    found = latency_of([*slowed, replace(make_session(0.3, quiet=False), log_ratio_of_all=math.log(0.26))])
    assert (found.ratio, found.ratio_of_all) == (pytest.approx(0.2), pytest.approx(0.26))


def test_more_sessions_narrow_the_ratio_and_hardly_the_next_session(make_latency: Callable[..., Latency]):
    few, many = make_latency(0.5, sessions=2), make_latency(0.5, sessions=32)
    assert math.log(many.ratio_high / many.ratio) < math.log(few.ratio_high / few.ratio) / 4
    next_few, next_many = (math.log(one.ratio_next_high / one.ratio) for one in (few, many))
    assert next_few / 4 < next_many < next_few


def test_against_itself_a_ratio_is_one(make_latency: Callable[..., Latency]):
    found = beside_itself(make_latency(1.02, statistic=3.0))
    assert (found.ratio, found.ratio_low, found.ratio_high, found.ratio_next_high) == (1, 1, 1, 1)
    assert found.low < 3.0 < found.high


@pytest.mark.parametrize(
    ("ratio", "found"), [(1.0, "same"), (0.8, "faster"), (1.2, "slower"), (0.983, "undecided"), (1.018, "undecided")]
)
def test_a_relation_is_what_the_whole_interval_says(ratio: float, found: str, make_latency: Callable[..., Latency]):
    assert relation(make_latency(ratio, sessions=4), 0.03) == found


@SPREADS
def test_identical_files_are_seldom_called_faster_or_slower(sd: float, make_session: MakeSession):
    """Two looks, of four sessions and of eight."""
    wrong = 0
    for values in sessions_of(sd, 8)[::2]:
        for look in (4, 8):
            found = relation(
                latency_of([make_session(math.exp(value)) for value in values[:look]], confidence=LOOK_CONFIDENCE), 0.03
            )
            if found != "undecided":
                break
        wrong += found in ("faster", "slower")
    assert wrong <= 0.06 * COMPARISONS / 2
