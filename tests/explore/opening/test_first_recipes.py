"""The start of a search: the floor of the space, and the first recipes, found by gating structures alone."""

import asyncio
from collections.abc import Callable

import pytest

from autocompress.budget import Budget
from autocompress.errors import CandidateFailed
from autocompress.explore.opening.first_recipes import default_recipes, first_recipes
from autocompress.explore.opening.floor import find_floor
from autocompress.explore.pipeline.gate import Gate
from autocompress.explore.space.space import Space
from autocompress.explore.space.space_file import SpaceFile
from autocompress.latency import Latency
from autocompress.plugin.contract import Applicable, Parameter, Stage
from autocompress.recipe import Recipe

RATIOS = tuple(round(0.05 * i, 2) for i in range(1, 20))
CARVE = Applicable("carve", (Stage.STRUCTURE,), (Parameter("ratio", RATIOS, 0.5, True),))
SHRINK = Applicable("shrink", (Stage.BUILD,), (Parameter("width", (0.8, 0.4, 0.2), 0.4, True),))
TUNE = Applicable("tune", (Stage.TRAIN,), trains_alone=True)


class FakeGate:
    """Latency ratio of a structure: what is left of the model."""

    def __init__(self, make_latency: Callable[..., Latency], breaks: Callable[[Recipe], bool] = lambda recipe: False):
        self.make_latency = make_latency
        self.breaks = breaks
        self.asked: list[Recipe] = []
        self.at_once, self.most_at_once = 0, 0

    async def __call__(self, recipe: Recipe) -> Gate:
        self.asked.append(recipe)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if self.breaks(recipe):
            raise CandidateFailed("it cannot be built")
        left = 1.0
        for step in recipe.steps:
            left *= 1 - step.values["ratio"] if step.strategy == "carve" else step.values.get("width", 1.0)
        return Gate(self.make_latency(ratio=left), ())


def first(space: Space, budget: Budget, gate: FakeGate) -> list[Recipe]:
    return asyncio.run(first_recipes(space, budget, gate))


def floor_of(space: Space, gate: Callable[..., object], target: float = 0.0) -> tuple[Recipe, Latency] | None:
    """The floor, where a latency ratio of ``target`` is enough."""
    return asyncio.run(find_floor(space, gate, lambda latency: latency.ratio <= target))


@pytest.fixture
def gate(make_latency: Callable[..., Latency]) -> FakeGate:
    return FakeGate(make_latency)


def space_of(*applicable: Applicable) -> Space:
    return Space.of(SpaceFile(name="s"), applicable, [])


def test_a_step_with_nothing_left_to_do_is_left_out_of_the_floor(make_latency: Callable[..., Latency]):
    async def gate(recipe: Recipe) -> Gate:
        if len(recipe.steps) == 4:
            raise CandidateFailed("nothing is left", "fold")
        return await FakeGate(make_latency)(recipe)

    fold = Applicable("fold", (Stage.STRUCTURE,))
    found = floor_of(space_of(CARVE, SHRINK, fold, TUNE), gate)
    assert found is not None
    assert {step.strategy for step in found[0].steps} >= {"carve", "shrink"}
    assert found[1].ratio == pytest.approx(0.2 * 0.05)


def test_structures_to_begin_with_are_timed_on_all_workers(gate: FakeGate):
    space = space_of(CARVE, SHRINK, TUNE)
    first(space, Budget(speedup=2), gate)
    assert gate.most_at_once == 2, "one for each strategy: a bisection takes one step after another"
    asyncio.run(default_recipes(space, gate))
    assert gate.most_at_once > 2


def ratios(recipes: list[Recipe]) -> list[object]:
    return [r.steps[0].values["ratio"] for r in recipes if r.step("carve")]


@pytest.mark.parametrize(("speedup", "mildest"), [(1.01, 0.05), (1.25, 0.2), (2.0, 0.5), (4.0, 0.75), (8.0, 0.9)])
def test_bisection_finds_the_mildest_structure_within_the_budget(speedup: float, mildest: float, gate: FakeGate):
    found = first(space_of(CARVE, TUNE), Budget(speedup=speedup), gate)
    assert ratios(found)[0] == mildest
    assert len(gate.asked) <= 5  # of 19 strengths


def test_a_structure_within_the_budget_by_little_ends_the_bisection(gate: FakeGate):
    found = first(space_of(CARVE, TUNE), Budget(speedup=1.97), gate)
    assert ratios(found)[0] == 0.5
    assert ratios(gate.asked) == [0.5]
    asked = 0
    for ratio in RATIOS:
        gate.asked.clear()
        first(space_of(CARVE, TUNE), Budget(speedup=0.999 / (1 - ratio)), gate)
        asked += len(gate.asked)
    assert asked <= 3.2 * len(RATIOS), "halving alone would ask for 4.3"


def test_where_latency_hardly_falls_with_strength_it_is_not_searched_to_the_end(make_latency: Callable[..., Latency]):
    asked: list[Recipe] = []

    async def gate(recipe: Recipe) -> Gate:
        asked.append(recipe)
        return Gate(make_latency(ratio=1 - 0.1 * recipe.steps[0].values["ratio"]), ())

    found = asyncio.run(first_recipes(space_of(CARVE, TUNE), Budget(speedup=2), gate))
    assert ratios(found) == [0.95]
    assert ratios(asked) == [0.5, 0.75]


def test_every_strength_that_meets_the_budget_is_found(gate: FakeGate):
    for ratio in RATIOS:
        found = first(space_of(CARVE, TUNE), Budget(speedup=0.999 / (1 - ratio)), gate)
        assert ratios(found)[0] == ratio


def test_the_next_two_stronger_ones_follow(gate: FakeGate):
    assert ratios(first(space_of(CARVE, TUNE), Budget(speedup=1.9), gate)) == [0.5, 0.55, 0.6]
    assert ratios(first(space_of(CARVE, TUNE), Budget(speedup=9.5), gate)) == [0.9, 0.95]


def test_strongest_is_tried_when_none_meets_the_budget(gate: FakeGate):
    assert ratios(first(space_of(CARVE, TUNE), Budget(speedup=1000.0), gate)) == [0.95]


def test_strategies_take_turns(gate: FakeGate):
    found = first(space_of(CARVE, SHRINK, TUNE), Budget(speedup=2.0), gate)
    assert [r.steps[0].strategy for r in found] == ["shrink", "carve", "shrink", "carve", "carve"]
    assert all(r.step("tune") for r in found)


def test_of_more_than_two_strategies_fewer_strengths_are_tried_first(gate: FakeGate):
    fold = Applicable("fold", (Stage.STRUCTURE,), (Parameter("depth", (1, 2, 3, 4, 5), 1, True),))
    found = first(space_of(CARVE, fold, TUNE), Budget(speedup=1.9), gate)
    assert [r.steps[0].strategy for r in found].count("carve") == 3
    found = first(space_of(CARVE, SHRINK, fold, TUNE), Budget(speedup=1.9), gate)
    assert [r.steps[0].strategy for r in found].count("carve") == 2


def test_structure_that_cannot_be_built_counts_as_outside_the_budget(make_latency: Callable[..., Latency]):
    def breaks(recipe: Recipe) -> bool:
        return recipe.steps[0].values["ratio"] < 0.7

    found = first(space_of(CARVE, TUNE), Budget(speedup=2.0), FakeGate(make_latency, breaks))
    assert ratios(found)[0] == 0.7


def defaults(space: Space, gate: FakeGate) -> list[Recipe]:
    return asyncio.run(default_recipes(space, gate))


def test_without_a_budget_defaults_come_first_and_the_smallest_structures_are_timed_too(gate: FakeGate):
    found = defaults(space_of(CARVE, SHRINK, TUNE), gate)
    assert [(r.steps[0].strategy, list(r.steps[0].values.values())) for r in found] == [
        ("shrink", [0.4]),
        ("carve", [0.5]),
    ]
    assert all(r.step("tune") for r in found)
    strongest = {tuple(s.strategy for s in r.steps[:-2]) for r in gate.asked if r not in found}
    assert strongest == {("shrink", "carve"), ("shrink",), ("carve",)}


def test_in_a_small_space_enough_is_timed_to_aim_by(gate: FakeGate):
    assert [r.steps[0].values["ratio"] for r in defaults(space_of(CARVE, TUNE), gate)] == [0.5]
    assert [r.steps[0].values["ratio"] for r in gate.asked] == [0.95, 0.5, 0.25, 0.75]


def test_defaults_keep_their_order_where_one_is_the_strongest_too(gate: FakeGate):
    fold = Applicable("fold", (Stage.STRUCTURE,), (Parameter("count", (1,), 1, True),))
    assert [r.steps[0].strategy for r in defaults(space_of(CARVE, SHRINK, fold, TUNE), gate)] == [
        "shrink",
        "carve",
        "fold",
    ]


def test_a_default_that_cannot_be_built_is_passed_over(make_latency: Callable[..., Latency]):
    found = defaults(space_of(CARVE, SHRINK, TUNE), FakeGate(make_latency, lambda r: r.step("shrink") is not None))
    assert [r.steps[0].strategy for r in found] == ["carve"]


def test_without_structures_there_are_no_first_recipes(gate: FakeGate):
    assert first(space_of(TUNE), Budget(speedup=2.0), gate) == []


def test_floor_is_the_fastest_of_the_smallest_structures(gate: FakeGate):
    found = floor_of(space_of(CARVE, SHRINK, TUNE), gate)
    assert found is not None
    recipe, floor = found
    assert {s.strategy for s in recipe.steps} >= {"carve", "shrink"}
    assert floor.ratio == pytest.approx(0.05 * 0.2)


def test_floor_is_found_by_one_gate_when_all_together_meets_the_budget(gate: FakeGate):
    found = floor_of(space_of(CARVE, SHRINK, TUNE), gate, target=0.02)
    assert found is not None
    assert found[1].ratio == pytest.approx(0.01)
    assert len(gate.asked) == 1


def test_floor_leaves_out_what_cannot_be_built(make_latency: Callable[..., Latency]):
    found = floor_of(space_of(CARVE, SHRINK, TUNE), FakeGate(make_latency, lambda r: r.step("carve") is not None))
    assert found is not None
    assert found[1].ratio == pytest.approx(0.2)


def test_where_no_structure_is_smaller_the_floor_is_the_model_as_it_is(make_latency: Callable[..., Latency]):
    for space, breaks in ((space_of(TUNE), None), (space_of(CARVE, TUNE), "carve")):
        found = floor_of(space, FakeGate(make_latency, lambda recipe: recipe.step(breaks or "") is not None))  # noqa: B023
        assert found is not None
        assert found[0] == Recipe()
        assert found[1].ratio == 1.0


def test_there_is_no_floor_when_nothing_can_be_built(make_latency: Callable[..., Latency]):
    assert floor_of(space_of(CARVE, TUNE), FakeGate(make_latency, lambda recipe: True)) is None
