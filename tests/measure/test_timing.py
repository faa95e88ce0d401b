"""Latency: the statistics on blocks made by hand, and the loop around them with timers that have no clock."""

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autocompress.arrays import Floats
from autocompress.latency import Latency
from autocompress.measure import Effort, Timer, is_quiet, measure, settled, summarise, timer
from autocompress.measure.effort import ATTEMPTS
from autocompress.measure.timing import REMEMBERED
from autocompress.plugin.contract import Feed, Runtime, Session
from autocompress.profile import HardwareProfile

AT_ONCE = Effort(seconds=60.0, blocks=16, width=1e9)
PROFILE = HardwareProfile(name="p")


def steady(level: float, blocks: int = 20, calls: int = 5) -> list[Floats]:
    return [np.full(calls, level) for _ in range(blocks)]


def slowed(blocks: Sequence[Floats], factors: Sequence[float]) -> list[Floats]:
    return [block * factor for block, factor in zip(blocks, factors, strict=True)]


# -- statistics --------------------------------------------------------------------------------------------------------


def test_steady_times_give_exact_numbers():
    latency = summarise(steady(1.0), steady(4.0), 90)
    assert (latency.ratio, latency.ratio_low, latency.ratio_high) == (0.25, 0.25, 0.25)
    assert (latency.p50, latency.p90, latency.statistic, latency.low, latency.high) == (1, 1, 1, 1, 1)
    assert latency.reliable


def test_what_slows_both_in_the_same_blocks_moves_neither_ratio_nor_interval():
    """Every block is slowed by another factor, up to tenfold; a ratio that is not of pairs has a wide interval."""
    factors = np.exp(np.random.default_rng(0).uniform(0, math.log(10), 40))
    latency = summarise(slowed(steady(1.0, 40), factors), slowed(steady(4.0, 40), factors), 90)
    assert latency.ratio == pytest.approx(0.25)
    assert latency.ratio_low == pytest.approx(0.25)
    assert latency.ratio_high == pytest.approx(0.25)
    unpaired = summarise(slowed(steady(1.0, 40), factors), slowed(steady(4.0, 40), factors[::-1]), 90)
    assert unpaired.ratio_high - unpaired.ratio_low > 0.05


def test_ratio_is_of_pairs_when_slow_blocks_are_longer():
    """Slow blocks hold more calls, in the candidate alone: medians over all calls would answer 3 instead of 1."""
    factors = [3.0 if number % 3 == 0 else 1.0 for number in range(21)]
    ours = [np.full(50 if factor > 1 else 3, factor) for factor in factors]
    theirs = [np.full(5, factor) for factor in factors]
    assert np.median(np.concatenate(ours)) / np.median(np.concatenate(theirs)) == 3
    assert summarise(ours, theirs, 90).ratio == 1


def test_single_spikes_do_not_move_the_ratio():
    ours, theirs = steady(1.0), steady(2.0)
    for block in ours[::4]:
        block[0] = 100.0
    theirs[3][:] = 900.0  # one whole block lost
    latency = summarise(ours, theirs, 90)
    assert latency.ratio == 0.5
    assert latency.p50 == 1.0


@pytest.mark.parametrize("percentile", [50, 90, 95, 99])
def test_statistic_is_the_profiles_percentile_of_all_calls(percentile: int):
    blocks = [np.arange(1.0, 101.0) for _ in range(8)]
    latency = summarise(blocks, blocks, percentile)
    assert latency.statistic == pytest.approx(np.percentile(np.arange(1.0, 101.0), percentile), rel=0.01)
    assert latency.p90 == pytest.approx(90.1, rel=0.01)
    assert latency.p50 == pytest.approx(50.5)


def test_intervals_contain_their_points_and_shrink_with_more_blocks():
    drawn = np.random.default_rng(1)
    widths = []
    for blocks in (16, 400):
        for trial in range(10):
            ours, theirs = (
                [level * drawn.lognormal(0, 0.1) * drawn.lognormal(0, 0.05, 7) for _ in range(blocks)]
                for level in (1.0, 3.0)
            )
            latency = summarise(ours, theirs, 90, seed=trial)
            assert latency.ratio_low <= latency.ratio <= latency.ratio_high
            assert latency.low <= latency.statistic <= latency.high
            assert latency.low >= 0
        widths.append(latency.ratio_high - latency.ratio_low)
    assert widths[1] < widths[0] / 2


def test_interval_covers_the_truth_about_as_often_as_it_says():
    drawn = np.random.default_rng(2)
    covered = 0
    for trial in range(200):
        ours, theirs = ([np.full(3, drawn.lognormal(0, 0.2)) for _ in range(24)] for _ in range(2))
        latency = summarise(ours, theirs, 90, seed=trial)
        covered += latency.ratio_low <= 1.0 <= latency.ratio_high
    assert 175 <= covered <= 200


def test_same_seed_gives_the_same_interval():
    drawn = np.random.default_rng(3)
    ours = [drawn.lognormal(0, 0.2, 5) for _ in range(16)]
    assert summarise(ours, steady(1.0, 16), 90, seed=7) == summarise(ours, steady(1.0, 16), 90, seed=7)


def test_blocks_that_do_not_pair_up_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        summarise(steady(1.0, 20), steady(1.0, 19), 90)


@pytest.mark.parametrize(
    ("blocks", "quiet"),
    [
        (steady(1.0), True),
        ([np.array([1.0, 1.0, 1.0, 1.0, 1.2])] * 20, True),
        ([np.array([1.0, 1.0, 1.0, 1.0, 1.5])] * 20, False),
        ([*steady(1.0, 19), np.full(5, 50.0)], True),
        ([*steady(1.0, 10), *steady(1.1, 10)], True),
        ([*steady(1.0, 10), *steady(1.25, 10)], False),
        ([*steady(1.25, 10), *steady(1.0, 10)], False),
        (steady(1.0, 1), True),
    ],
    ids=["steady", "short tail", "long tail", "one bad block", "slow drift", "drift up", "drift down", "one block"],
)
def test_reference_tells_a_quiet_machine(blocks: list[Floats], quiet: bool):
    assert is_quiet(blocks) is quiet


# -- the loop ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scripted(Timer):
    """Each block takes ``level`` ms times what ``slowness`` says of its number; ``log`` sees who was timed."""

    call: Callable[[], float] = lambda: math.nan
    name: str = ""
    level: float = 1.0
    slowness: Callable[[int], Any] = lambda number: 1.0
    log: list[str] = field(default_factory=list)

    def block(self, calls: int) -> Floats:
        number = self.log.count(self.name)
        self.log.append(self.name)
        return self.level * np.resize(np.atleast_1d(self.slowness(number)), calls).astype(float)


WARM_UP = 2  # blocks


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    naps: list[float] = []
    monkeypatch.setattr(time, "sleep", naps.append)
    return naps


NOISY = [1.0, 1.0, 2.0]  # a third of the calls takes twice as long


def test_quiet_machine_is_measured_once(log: list[str], naps: list[float]):
    one, other = Scripted(name="us", log=log), Scripted(name="them", level=4.0, log=log)
    latency = measure(one, other, PROFILE, effort=Effort(seconds=60, blocks=16, width=0.03))
    assert (latency.ratio, latency.p50, latency.reliable) == (0.25, 1.0, True)
    assert log.count("us") == log.count("them") == 16 + WARM_UP
    assert naps == []


def test_blocks_alternate_and_so_does_who_goes_first(log: list[str]):
    measure(Scripted(name="us", log=log), Scripted(name="them", log=log), PROFILE, effort=AT_ONCE)
    timed = log[2 * WARM_UP :]
    pairs = [tuple(timed[i : i + 2]) for i in range(0, len(timed), 2)]
    assert set(pairs) == {("us", "them"), ("them", "us")}
    assert all(one != other for one, other in pairwise(pairs))


def test_disturbance_shared_by_a_pair_does_not_move_the_measured_ratio(log: list[str]):
    def slowness(number: int) -> float:
        return (1.0, 1.2, 1.1)[number % 3]

    one, other = (Scripted(name=n, level=v, slowness=slowness, log=log) for n, v in (("us", 1.0), ("them", 4.0)))
    latency = measure(one, other, PROFILE, effort=AT_ONCE)
    assert latency.reliable
    assert (latency.ratio, latency.ratio_low, latency.ratio_high) == pytest.approx((0.25, 0.25, 0.25))


def test_noise_that_stays_is_measured_again_and_marked_unreliable(log: list[str], naps: list[float]):
    noisy = Scripted(name="them", slowness=lambda number: NOISY, log=log)
    latency = measure(Scripted(name="us", log=log), noisy, PROFILE, effort=AT_ONCE)
    assert not latency.reliable
    assert log.count("us") == ATTEMPTS * (16 + WARM_UP)
    assert len(naps) == ATTEMPTS - 1
    assert naps == sorted(naps)


def test_drift_that_stays_is_marked_unreliable(log: list[str], naps: list[float]):
    drifting = Scripted(name="them", slowness=lambda number: 1.02**number, log=log)
    assert not measure(Scripted(name="us", log=log), drifting, PROFILE, effort=AT_ONCE).reliable


def test_noise_that_goes_away_leaves_a_reliable_latency(log: list[str], naps: list[float]):
    """The first attempt is disturbed and slow, the second is quiet: its numbers are the answer."""

    def slowness(number: int) -> Any:
        return NOISY if number < 16 + WARM_UP else 1.0

    def slower(number: int) -> float:
        return 5.0 if number < 16 + WARM_UP else 1.0

    one = Scripted(name="us", slowness=slower, log=log)
    latency = measure(one, Scripted(name="them", level=2.0, slowness=slowness, log=log), PROFILE, effort=AT_ONCE)
    assert latency.reliable
    assert (latency.ratio, latency.p50) == (0.5, 1.0)
    assert len(naps) == 1


def test_a_reference_that_was_faster_before_says_that_the_machine_is_disturbed(log: list[str], naps: list[float]):
    """In a slow spell the small model loses more; it ends with the second attempt."""
    block = 16 + WARM_UP

    def spell(slow: float) -> Callable[[int], float]:
        return lambda number: slow if block <= number < 2 * block else 1.0

    one = Scripted(name="us", slowness=spell(1.7), log=log)
    other = Scripted(name="them", level=4.0, slowness=spell(1.4), log=log)
    assert measure(one, other, PROFILE, effort=AT_ONCE).ratio == 0.25
    latency = measure(one, other, PROFILE, effort=AT_ONCE)
    assert (latency.ratio, latency.p50, latency.reliable) == (0.25, 1.0, True)
    assert log.count("us") == 3 * block
    assert len(naps) == 1


@pytest.mark.parametrize(("enough", "attempts"), [(True, 1), (False, 4)])
def test_a_disturbed_measurement_that_says_all_there_is_to_know_is_not_repeated(
    enough: bool, attempts: int, log: list[str], naps: list[float]
):
    noisy = Scripted(name="them", slowness=lambda number: NOISY, log=log)
    asked: list[Latency] = []
    latency = measure(
        Scripted(name="us", log=log), noisy, PROFILE, effort=AT_ONCE, anyway=lambda m: asked.append(m) or enough
    )
    assert len(asked) == attempts
    assert not any(m.reliable for m in (latency, *asked))


def test_of_disturbed_measurements_the_one_with_the_fastest_reference_is_kept(log: list[str], naps: list[float]):
    levels = iter([1.0, 1.5, 1.3, 1.6, 1.4])

    def slowness(number: int) -> float:
        nonlocal level
        level = next(levels) if number % (16 + WARM_UP) == 0 else level
        return level

    level = 0.0
    one, other = Scripted(name="us", log=log), Scripted(name="them", slowness=slowness, log=log)
    measure(one, other, PROFILE, effort=AT_ONCE)
    latency = measure(one, other, PROFILE, effort=AT_ONCE)
    assert not latency.reliable
    assert latency.ratio == pytest.approx(1 / 1.3)


def test_a_machine_that_has_become_slower_for_good_is_known_as_that(log: list[str], naps: list[float]):
    slow = Scripted(name="them", slowness=lambda number: 1.0 if number < 16 + WARM_UP else 2.0, log=log)
    one = Scripted(name="us", log=log)
    found = [measure(one, slow, PROFILE, effort=AT_ONCE).reliable for _ in range(REMEMBERED)]
    assert found[:2] == [True, False]
    assert found[-1]


def test_noisy_candidate_beside_a_quiet_reference_is_its_own_latency(log: list[str], naps: list[float]):
    one = Scripted(name="us", slowness=lambda number: NOISY, log=log)
    latency = measure(one, Scripted(name="them", log=log), PROFILE, effort=AT_ONCE)
    assert latency.reliable
    assert latency.p90 == 2.0


def test_measuring_goes_on_until_the_interval_is_narrow(log: list[str]):
    drawn = np.random.default_rng(0)
    one = Scripted(name="us", slowness=lambda number: drawn.lognormal(0, 0.1), log=log)
    latency = measure(one, Scripted(name="them", log=log), PROFILE, effort=Effort(seconds=60, blocks=8, width=0.05))
    assert log.count("us") > 8 + WARM_UP
    assert latency.ratio_high - latency.ratio_low <= 0.05 * latency.ratio


def test_gate_stops_as_soon_as_it_is_answered(log: list[str]):
    drawn = np.random.default_rng(0)
    one = Scripted(name="us", slowness=lambda number: drawn.lognormal(0, 0.5), log=log)
    seen: list[Latency] = []

    def stop(latency: Latency) -> bool:
        seen.append(latency)
        return len(seen) == 2

    effort = Effort(seconds=60, blocks=8, width=1e-9)
    latency = measure(one, Scripted(name="them", log=log), PROFILE, effort=effort, stop=stop)
    assert latency == seen[-1]
    assert log.count("us") == 12 + WARM_UP


def test_garbage_collection_waits_and_is_switched_on_again(log: list[str]):
    collecting: list[bool] = []

    def slowness(number: int) -> float:
        collecting.append(gc.isenabled())
        return 1.0

    measure(Scripted(name="us", slowness=slowness, log=log), Scripted(name="them", log=log), PROFILE, effort=AT_ONCE)
    assert len(collecting) > WARM_UP
    assert not any(collecting[WARM_UP:])
    assert gc.isenabled()

    def fails(number: int) -> float:
        if number > 5:
            raise RuntimeError("the device is gone")
        return 1.0

    with pytest.raises(RuntimeError, match="the device is gone"):
        measure(Scripted(name="us", slowness=fails, log=[]), Scripted(name="them", log=log), PROFILE, effort=AT_ONCE)
    assert gc.isenabled()


def test_blocks_last_about_as_long_whatever_the_model():
    asked: dict[float, int] = {}

    class Counting(Scripted):
        def block(self, calls: int) -> Floats:
            asked[self.level] = calls
            return super().block(calls)

    for level in (0.0001, 0.06, 1.0, 50.0):
        measure(Counting(name="us", level=level), Scripted(name="them"), PROFILE, effort=AT_ONCE)
    assert asked == {0.0001: 200, 0.06: 100, 1.0: 6, 50.0: 3}


# -- timers ------------------------------------------------------------------------------------------------------------


class Recorder(Session):
    input_names = ("x",)

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.fed = seconds, []

    def run(self, feed: Feed) -> list[Any]:
        self.fed.append(feed["x"])
        time.sleep(self.seconds)
        return []


class Clocked(Runtime):
    name = "clocked"

    def __init__(self, own_ms: float | None) -> None:
        self.own_ms = own_ms

    def open(self, path: Path, profile: HardwareProfile) -> Session:
        return Recorder()

    def clock(self, session: Session, feed: Feed) -> float | None:
        if self.own_ms is not None:
            session.fed.append(feed["x"])
        return self.own_ms


def test_timer_reads_the_targets_own_clock():
    session = Recorder(seconds=10)
    assert timer(Clocked(own_ms=7.5), session, [{"x": 0}]).call() == 7.5


def test_timer_waits_for_a_call_in_milliseconds():
    assert 5 <= timer(Clocked(own_ms=None), Recorder(seconds=0.005), [{"x": 0}]).call() < 500


@pytest.mark.parametrize("own_ms", [None, 1.0])
def test_timer_takes_the_feeds_in_turn(own_ms: float | None):
    session = Recorder()
    timed = timer(Clocked(own_ms), session, [{"x": n} for n in range(3)])
    timed.block(7)
    assert session.fed == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize(
    ("sound", "disturbed", "expected"),
    [
        ([], [], None),
        ([0.3, 0.2], [0.1], 0.3),
        ([0.4, 0.2, 0.3], [], 0.3),
        ([], [0.2, 0.2], None),
        ([], [0.21, 0.2, 0.205], 0.21),
        ([], [0.2, 0.2, 0.25], None),
        ([], [0.1, 0.2, 0.21, 0.2], 0.21),
        ([], [0.1, 0.1, 0.2, 0.2, 0.2, 0.3], None),
    ],
    ids=["none", "the slower", "the middle", "too few", "they agree", "they do not", "most agree", "half of them"],
)
def test_several_measurements_say_one_latency(
    sound: list[float], disturbed: list[float], expected: float | None, make_latency: Callable[..., Latency]
):
    measured = [make_latency(ratio=ratio) for ratio in sound]
    measured += [make_latency(ratio=ratio, reliable=False) for ratio in disturbed]
    found = settled(measured)
    assert (found and found.ratio) == expected
    assert found is None or found.reliable


def test_of_disturbed_measurements_that_agree_neither_ratio_nor_milliseconds_flatter(
    make_latency: Callable[..., Latency],
):
    measured = [make_latency(ratio, ms, reliable=False) for ratio, ms in ((0.2, 5.0), (0.205, 9.0), (0.21, 3.5))]
    found = settled(measured)
    assert found is not None
    assert (found.ratio, found.statistic, found.p50) == (0.21, 9.0, measured[1].p50)


def test_a_slow_model_is_not_measured_again_for_longer_than_the_effort_allows(
    log: list[str], naps: list[float], monkeypatch: pytest.MonkeyPatch
):
    noisy = Scripted(name="them", slowness=lambda number: NOISY, log=log)
    effort = Effort(seconds=0.0, blocks=4, width=1e9)
    assert not measure(Scripted(name="us", log=log), noisy, PROFILE, effort=effort).reliable
    assert naps == []
