"""When a search gives up on gaining more."""

from types import SimpleNamespace
from typing import Any

from autocompress.evaluation import Rejected
from autocompress.explore.history.facts import Failed
from autocompress.explore.schedule.early_stopping import FEWEST_FAMILIES, EarlyStopping, causes_of_nothing
from autocompress.recipe import Recipe, Step


def test_a_search_that_gains_goes_on():
    stall = EarlyStopping()
    for number in range(100):
        stall.seen(0.5 + number / 100, searched_s=10.0 * number)
        assert not stall.stalled(number, 10.0 * number)


def test_half_of_the_time_without_a_gain_is_a_stall():
    stall = EarlyStopping()
    stall.seen(0.7, 100.0)
    assert not stall.stalled(FEWEST_FAMILIES, 150.0)
    assert not stall.stalled(FEWEST_FAMILIES, 199.0)
    assert stall.stalled(FEWEST_FAMILIES, 201.0)


def test_noise_is_no_gain_but_small_gains_add_up():
    stall = EarlyStopping()
    stall.seen(0.7, 100.0)
    stall.seen(0.7019, 190.0)
    assert stall.stalled(FEWEST_FAMILIES, 250.0)
    stall.seen(0.7021, 260.0)
    assert not stall.stalled(FEWEST_FAMILIES, 300.0)


def test_few_families_say_nothing():
    stall = EarlyStopping()
    stall.seen(0.7, 1.0)
    assert not stall.stalled(FEWEST_FAMILIES - 1, 1000.0)


def test_nothing_feasible_yet_is_no_gain_and_the_first_that_is_one():
    stall = EarlyStopping()
    stall.seen(float("-inf"), 10.0)
    assert not stall.stalled(FEWEST_FAMILIES, 1000.0), "there is everything to be gained"
    stall.seen(0.5, 90.0)
    assert not stall.stalled(FEWEST_FAMILIES, 170.0)


def test_a_search_that_builds_structures_does_not_give_up_because_some_fail():
    failed = [Failed(Recipe(), None, "nothing to do")] * 5
    built, variant = Rejected(Recipe(), "over", 1.0, 0.5), Rejected(Recipe((), Step.of("int8")), "slower", 1.0, 1.1)

    def causes(*rejected: Rejected) -> str:
        standings: Any = SimpleNamespace(failed=failed, rejected=rejected, families={})
        return causes_of_nothing(standings)

    assert causes(*[variant] * 9, *[built] * 2) == "5x nothing to do"
    assert causes(*[built] * 29) == ""
