"""Whether a budget can be met: what is said of the smallest structures, and when nothing can be said."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from autocompress.budget import Budget
from autocompress.errors import CandidateFailed
from autocompress.explore.clock.clock import Clock
from autocompress.explore.opening.floor import Floor, time_floor
from autocompress.explore.pipeline.gate import Gate
from autocompress.explore.space.space import Space
from autocompress.explore.space.space_file import SpaceFile
from autocompress.latency import Latency
from autocompress.plugin.contract import Applicable, Parameter, Stage
from autocompress.recipe import Recipe

CARVE = Applicable("carve", (Stage.STRUCTURE,), (Parameter("ratio", (0.5, 0.9), 0.5, True),))
SPACE = Space.of(SpaceFile(name="s"), [CARVE], [])


class FakeGating:
    """Every structure takes ``latency``."""

    def __init__(self, latency: Latency | None) -> None:
        self.latency = latency

    async def time(self, recipe: Recipe, budget: Budget) -> Gate:
        assert budget.bounded, "the first variant that is fast enough is enough"
        if self.latency is None:
            raise CandidateFailed("it cannot be built")
        return Gate(self.latency, ())


def timed(latency: Latency | None, budget: Budget) -> Floor:
    return asyncio.run(time_floor(SPACE, FakeGating(latency), budget, Clock(60)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ratio", "quiet", "said"),
    [
        (0.3, True, "can be met: the smallest"),
        (0.9, True, "cannot be met here"),
        (0.4, False, ""),
        (0.9, False, ""),
        (0.3, False, "can be met: the smallest"),
    ],
)
def test_a_busy_machine_says_of_what_is_far_within_a_budget_alone_that_it_can_be_met(
    ratio: float, quiet: bool, said: str, make_latency: Callable[..., Latency]
) -> None:
    floor = timed(make_latency(ratio=ratio, quiet=quiet), Budget(speedup=2))
    note = floor.note()
    assert (note is not None and said in note) if said else note is None
    assert floor.is_over is ("cannot" in said)


def test_without_a_budget_nothing_is_timed(make_latency: Callable[..., Latency]) -> None:
    floor = timed(make_latency(ratio=0.3), Budget())
    assert (floor.found, floor.answers, floor.note()) == (None, {}, None)


def test_what_cannot_be_built_is_remembered_as_that() -> None:
    floor = timed(None, Budget(speedup=2))
    assert floor.found is None
    assert floor.note() is None
    assert floor.answers
    assert all(isinstance(answer, CandidateFailed) for answer in floor.answers.values())


def test_a_stored_floor_is_the_same_floor(make_latency: Callable[..., Latency]) -> None:
    floor = timed(make_latency(ratio=0.9), Budget(speedup=2))
    again = Floor.from_json(Budget(speedup=2), floor.to_json())
    assert again is not None
    assert again.found == floor.found
    assert Floor.from_json(Budget(speedup=2), None) is None


def test_what_is_far_within_the_budget_is_enough_on_a_busy_machine_too(make_latency: Callable[..., Latency]) -> None:
    space = Space.of(SpaceFile(name="s"), [CARVE, Applicable("small", (Stage.STRUCTURE,))], [])
    gated = []
    for ratio in (0.2, 0.4):
        gating = FakeGating(make_latency(ratio=ratio, quiet=False))
        floor = asyncio.run(time_floor(space, gating, Budget(speedup=2), Clock(60)))  # type: ignore[arg-type]
        gated.append(len(floor.answers))
    assert gated[0] == 1 < gated[1]


# -- sets of strategies ------------------------------------------------------------------------------------------------


class DeclaredGating:
    """``ratios``: of a structure, by the first letters of its strategies; of any other that of the reference."""

    def __init__(self, ratios: Mapping[str, float], make_latency: Callable[..., Latency], seconds: float) -> None:
        self.ratios, self.make_latency, self.seconds = ratios, make_latency, seconds
        self.gated: list[str] = []
        self.now = 0.0

    async def time(self, recipe: Recipe, budget: Budget) -> Gate:
        self.gated.append("".join(sorted(step.strategy[0] for step in recipe.steps)))
        self.now += self.seconds
        return Gate(self.make_latency(self.ratios.get(self.gated[-1], 1.0)), ())


Search = Callable[..., tuple[str, Floor, DeclaredGating]]


@pytest.fixture
def searched(make_latency: Callable[..., Latency]) -> Search:
    """``searched("ab", {"a": 0.4}, speedup=5)``: the floor of the space of these strategies, and how it was found."""

    def search(
        names: str,
        ratios: Mapping[str, float],
        speedup: float,
        seconds: float = 0.0,
        excludes: Mapping[str, str] | None = None,
    ) -> tuple[str, Floor, DeclaredGating]:
        own = [
            Applicable(
                name, (Stage.STRUCTURE,), provides=frozenset(name), excludes=frozenset((excludes or {}).get(name, ""))
            )
            for name in names
        ]
        gating = DeclaredGating(ratios, make_latency, seconds)
        space, clock = Space.of(SpaceFile(name="s"), own, []), Clock(60, now=lambda: gating.now)
        floor = asyncio.run(time_floor(space, gating, Budget(speedup=speedup), clock))  # type: ignore[arg-type]
        assert floor.found is not None
        return "".join(step.strategy for step in floor.found[0].steps), floor, gating

    return search


def test_what_together_is_slower_than_alone_is_not_the_floor(searched: Search) -> None:
    ratios = {"a": 0.3, "b": 0.4, "ab": 0.6}
    assert searched("ab", ratios, speedup=100)[0] == "a"
    found, floor, gating = searched("ab", ratios, speedup=3)
    assert (found, floor.is_over, gating.gated) == ("a", False, ["ab", "a"])


@pytest.mark.parametrize("pair", ["ab", "ac", "bc"])
def test_the_only_pair_that_meets_the_budget_is_found(pair: str, searched: Search) -> None:
    ratios = {"a": 0.4, "b": 0.5, "c": 0.6, "abc": 0.7, pair: 0.15}
    found, floor, gating = searched("abc", ratios, speedup=5)
    assert (found, floor.is_over, floor.subset) == (pair, False, True)
    assert gating.gated[-1] == pair, "nothing more is to be proved"
    assert len(gating.gated) == len(set(gating.gated)), "each is timed once"


def test_several_are_left_out_one_after_another(searched: Search) -> None:
    ratios = {"abcde": 0.9, "abcd": 0.7, "abc": 0.4, "ab": 0.1}
    assert searched("abcde", ratios, speedup=5)[0] == "ab"


def test_what_does_not_go_with_the_first_is_tried_with_the_others(searched: Search) -> None:
    ratios = {"ac": 0.5, "a": 0.6, "b": 0.7, "c": 0.8, "bc": 0.1}
    assert searched("abc", ratios, speedup=5, excludes={"a": "b"})[0] == "bc"


def test_one_that_every_other_makes_slower_is_combined_from_there(searched: Search) -> None:
    """Leaving out one of all does not come near it."""
    ratios = {"abcd": 0.5, "a": 0.3, "ac": 0.1}
    assert searched("abcd", ratios, speedup=5)[0] == "ac"


def test_where_one_of_the_first_meets_the_budget_no_set_is_timed(searched: Search) -> None:
    found, floor, gating = searched("abc", {"abc": 0.1}, speedup=5)
    assert (found, floor.subset, gating.gated) == ("abc", False, ["abc"])
    assert searched("abc", {"c": 0.1}, speedup=5)[2].gated == ["abc", "a", "b", "c"]


def test_where_every_strategy_helps_each_is_left_out_once(searched: Search) -> None:
    names = "abcde"
    ratios = {"abcde": 0.2, **{names.replace(name, ""): 0.4 for name in names}, **dict.fromkeys(names, 0.8)}
    found, floor, gating = searched(names, ratios, speedup=10)
    assert (found, floor.is_over, floor.subset) == (names, True, False)
    assert len(gating.gated) == 1 + 5 + 1 + 5, "together, alone, as it is, and without each"


def test_sets_take_half_of_the_time_that_is_left(searched: Search) -> None:
    _, floor, gating = searched("abcde", {}, speedup=10, seconds=5)
    assert gating.now <= 7 * 5 + (60 - 7 * 5) / 2 + 5
    assert floor.cut_off
    assert "is met by nothing that there was time to look at" in (floor.note() or "")
    assert not searched("abcde", {}, speedup=10)[1].cut_off


def test_that_the_floor_is_a_set_of_some_is_stored(searched: Search) -> None:
    *_, floor, _ = searched("abc", {"bc": 0.1}, speedup=5)
    again = Floor.from_json(Budget(speedup=5), floor.to_json())
    assert again is not None
    assert again.subset
