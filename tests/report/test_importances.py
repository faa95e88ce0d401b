"""Which choices mattered: told where trials tell it, and why not where they do not."""

from collections.abc import Callable
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, create_trial

from autocompress.evaluation import Rejected
from autocompress.explore.history.facts import Fact
from autocompress.recipe import Recipe
from autocompress.report.importances import choice_importances

CHOICES = (True, False, 0.1, 0.3, 0.5, 0.9, "a", "b", 2.0, 3.0, 4.0)  # 0.0 and 1.0 are False and True
Ended = list[tuple[Fact, FrozenTrial]]


@pytest.fixture
def ended() -> Callable[..., Ended]:
    """``ended(20)``: so many structures, as fast as ``shrink.keep`` says, whatever the others are."""

    def make(count: int, **fixed: Any) -> Ended:
        found: Ended = []
        for n in range(count):
            params = {"shrink": True, "shrink.keep": (0.1, 0.3, 0.5, 0.9)[n % 4], "shrink.how": "ab"[n // 4 % 2]}
            params |= {"distil": n % 3 == 0, "distil.heat": float(n % 5)}
            params |= fixed
            choices = {name: CategoricalDistribution(CHOICES) for name in params}
            if not params["distil"]:
                del params["distil.heat"], choices["distil.heat"]
            fact = Rejected(Recipe(), "over the budget", 1.0, params["shrink.keep"])
            found.append((fact, create_trial(params=params, distributions=choices, value=0.0)))
        return found

    return make


def test_what_decides_the_latency_explains_it(ended: Callable[..., Ended]) -> None:
    found = {one.group: one for one in choice_importances(ended(24), ["shrink"]) if one.target == "latency"}
    shares = dict(found["every recipe"].shares)
    assert found["every recipe"].trials == 24
    assert max(shares, key=lambda name: shares[name]) == "shrink.keep"
    assert shares["shrink.keep"] > 0.9
    assert sum(shares.values()) <= 1.001
    assert "shrink" not in shares, "it was in every recipe"


def test_what_only_trains_has_no_part_in_the_latency(ended: Callable[..., Ended]) -> None:
    found = choice_importances(ended(24), ["shrink"])
    assert not [name for one in found if one.target == "latency" for name, _ in one.shares if "distil" in name]
    assert "distil" in {one.group for one in choice_importances(ended(24), ["shrink", "distil"])}


def test_choices_that_changed_on_the_way_are_told_and_lose_nothing_else(ended: Callable[..., Ended]) -> None:
    trials = ended(24)
    trials[3][1].distributions["shrink.how"] = CategoricalDistribution(("a", "c", "b"))
    (found,) = (one for one in choice_importances(trials, ["shrink"]) if one.target == "latency")
    assert found.why == "its choices changed during 24 trials"


def test_where_it_cannot_be_told_it_is_said_why(ended: Callable[..., Ended]) -> None:
    def why(trials: Ended) -> list[str]:
        return [one.why for one in choice_importances(trials, ["shrink"]) if one.target == "latency"]

    assert why(ended(9)) == ["9 trials, too few to say"]
    fixed = {"shrink.keep": 0.5, "shrink.how": "a"}
    assert why(ended(12, **fixed)) == ["nothing of it was varied in 12 trials"]
    assert why(ended(12, **{"shrink.keep": 0.5})) == ["all 12 trials reached the same"]
    assert choice_importances([], ["shrink"]) == []
