"""The block loop, on models whose calls take what a clock of their own says."""

import gc
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from autocompress.arrays import Floats
from autocompress.machine.blocks import BLOCK_MS, HURRIED_MS, MOST_CALLS, BlockLimits, Blocks, TooCoarse, record_blocks

LIMITS = BlockLimits()


@dataclass
class Clock:
    """Goes on by what the calls of its models take. called: which of them, in order."""

    now_s: float = 0.0
    called: list[str] = field(default_factory=list)

    def model(self, name: str, ms: float) -> Callable[[], float]:
        def call() -> float:
            self.called.append(name)
            self.now_s += ms / 1e3
            return ms

        return call

    def __call__(self) -> float:
        return self.now_s


def all_quiet(medians: Floats) -> int:
    return len(medians) - 1


def none_quiet(medians: Floats) -> int:
    return 0


def recorded(
    candidate_ms: float,
    reference_ms: float = 1.0,
    quiet_blocks: Callable[[Floats], int] = all_quiet,
    limits: BlockLimits = LIMITS,
) -> tuple[Blocks, Clock]:
    clock = Clock()
    models = clock.model("candidate", candidate_ms), clock.model("reference", reference_ms)
    return record_blocks(*models, quiet_blocks, limits, clock), clock


def test_blocks_alternate_and_the_reference_is_first_and_last():
    blocks, clock = recorded(8.0, 8.0, limits=BlockLimits(quiet=3, fewest=1))  # a call is a block
    assert len(blocks.candidate) == 3
    assert clock.called[-7:] == ["reference", *["candidate", "reference"] * 3]
    assert blocks.reference.tolist() == [8.0] * 4


@pytest.mark.parametrize(("ms", "calls"), [(0.0001, MOST_CALLS), (0.05, 80), (0.5, 8), (1.0, 4), (30.0, 1), (500.0, 1)])
def test_a_block_lasts_about_as_long_whatever_the_model(ms: float, calls: int):
    blocks, _ = recorded(ms)
    assert {len(block) for block in blocks.candidate} == {calls}
    assert calls in (1, MOST_CALLS) or calls * ms == pytest.approx(BLOCK_MS)


def test_a_slow_model_is_called_once_to_warm_up():
    limits = BlockLimits(quiet=2, seconds=0.0, fewest=2)
    blocks, clock = recorded(500.0, 500.0, none_quiet, limits)
    assert len(blocks.candidate) == 2
    assert clock.called.count("candidate") == 1 + 2


def test_a_session_ends_with_enough_quiet_blocks():
    def every_other(medians: Floats) -> int:
        return (len(medians) - 1) // 2

    assert len(recorded(1.0, limits=BlockLimits(quiet=20))[0].candidate) == 20
    assert len(recorded(1.0, quiet_blocks=every_other, limits=BlockLimits(quiet=20))[0].candidate) == 40


def test_a_session_without_quiet_blocks_ends_when_its_time_is_up():
    limits = BlockLimits(quiet=20, seconds=1.0, fewest=10)
    blocks, _ = recorded(1.0, quiet_blocks=none_quiet, limits=limits)
    assert len(blocks.candidate) == pytest.approx(1000 / (2 * BLOCK_MS), abs=1)


def test_a_slow_model_has_a_fewest_number_of_blocks_however_long_they_take():
    limits = BlockLimits(quiet=20, seconds=1.0, fewest=10)
    assert len(recorded(500.0, 500.0, none_quiet, limits)[0].candidate) == 10


def test_the_garbage_collector_rests_and_is_switched_on_again():
    collects: list[bool] = []

    def noted() -> float:
        collects.append(gc.isenabled())
        return 1.0

    assert gc.isenabled()
    record_blocks(noted, noted, all_quiet, BlockLimits(), lambda: 0.0)
    assert len(collects) > 100
    assert not any(collects)
    assert gc.isenabled()


def test_the_garbage_collector_is_switched_on_again_after_an_error_and_left_off_where_it_was():
    def fails() -> float:
        raise RuntimeError("the device is gone")

    with pytest.raises(RuntimeError, match="the device is gone"):
        record_blocks(fails, lambda: 1.0, all_quiet, BlockLimits(), lambda: 0.0)
    assert gc.isenabled()
    gc.disable()
    try:
        record_blocks(lambda: 1.0, lambda: 1.0, all_quiet, BlockLimits(), lambda: 0.0)
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("times", [(0.0, 1.0), (1.0, 0.0)], ids=["candidate", "reference"])
def test_a_call_that_takes_no_time_fails_in_one_line(times: tuple[float, float]):
    with pytest.raises(TooCoarse) as failed:
        recorded(*times)
    assert str(failed.value) == "a call took no time by the runtime's clock: it is too coarse to time this file"


@pytest.mark.parametrize(("quiet_blocks", "count"), [(all_quiet, 4), (none_quiet, 8)])
def test_a_session_that_has_hardly_any_time_goes_on_where_too_few_of_its_blocks_were_quiet(
    quiet_blocks: Callable[[Floats], int], count: int
):
    limits = BlockLimits.within(4 * 2 * HURRIED_MS / 1e3)
    assert len(recorded(0.5, 0.5, quiet_blocks, limits)[0].candidate) == count


def test_a_session_that_has_more_time_takes_no_longer_and_has_blocks_enough_to_judge_by():
    limits = BlockLimits.within(0.2)
    assert len(recorded(1.0, quiet_blocks=none_quiet, limits=limits)[0].candidate) == pytest.approx(25, abs=1)
    assert len(recorded(500.0, 500.0, none_quiet, limits)[0].candidate) == 10
