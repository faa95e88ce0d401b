"""Aiming at the budget: what is predicted from what was timed, and which strengths that gives."""

import math
from itertools import product

import pytest

from autocompress.explore.space.space import Space
from autocompress.explore.space.space_file import SpaceFile
from autocompress.explore.space.structure_model import FEWEST_TIMED, StructureModel
from autocompress.plugin.contract import Applicable, Parameter, Stage
from autocompress.recipe import TRAIN, Recipe, Step

RATIOS = tuple(round(0.05 * i, 2) for i in range(1, 20))
WIDTHS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
CARVE = Applicable(
    "carve", (Stage.STRUCTURE,), (Parameter("ratio", RATIOS, 0.5, True), Parameter("kind", ("a", "b"), "a"))
)
SHRINK = Applicable("shrink", (Stage.BUILD,), (Parameter("width", WIDTHS, 0.5, True),))
TUNE = Applicable("tune", (Stage.TRAIN,), trains_alone=True)
SPACE = Space.of(SpaceFile(name="s"), [CARVE, SHRINK, TUNE], [])


def carve(ratio: float, kind: str = "a") -> Step:
    return Step.of("carve", ratio=ratio, kind=kind)


def shrink(width: float) -> Step:
    return Step.of("shrink", width=width)


def taken(recipe: Recipe) -> float:
    """The true latency ratio of a structure."""
    ratio = 1.0
    for step in recipe.steps:
        ratio *= {"carve": lambda s: 1 - s.values["ratio"], "shrink": lambda s: s.values["width"] ** 1.5}.get(
            step.strategy, lambda s: 1.0
        )(step)
    return ratio


def computed(recipe: Recipe) -> float:
    """The share of the multiply-accumulates that a structure keeps: carving takes more of them than of the time."""
    ratio = 1.0
    for step in recipe.steps:
        if step.strategy == "carve":
            ratio *= (1 - step.values["ratio"]) ** 2
        elif step.strategy == "shrink":
            ratio *= step.values["width"]
    return ratio


TIMED: dict[Recipe, float] = {
    recipe: taken(recipe)
    for recipe in (
        *(Recipe((carve(ratio),)) for ratio in (0.1, 0.3, 0.5, 0.7, 0.9)),
        *(Recipe((shrink(width),)) for width in (0.9, 0.7, 0.5, 0.3)),
        *(Recipe((shrink(width), carve(ratio))) for width, ratio in ((0.8, 0.2), (0.5, 0.5), (0.7, 0.8))),
    )
}


def model_of(timed: dict[Recipe, float]) -> StructureModel:
    found = StructureModel(SPACE)
    for recipe, ratio in timed.items():
        found.add(recipe, ratio, computed(recipe))
    return found


MODEL = model_of(TIMED)


def test_what_was_never_timed_is_predicted_from_its_parts():
    unseen = [Recipe((shrink(w), carve(r))) for w, r in product((0.8, 0.6, 0.4), (0.2, 0.4, 0.6))]
    for recipe, ratio in zip(unseen, MODEL.latencies(unseen), strict=True):
        assert abs(math.log(ratio / taken(recipe))) < 0.25


@pytest.mark.parametrize("target", [0.5, 0.25, 0.1])
def test_a_proposal_is_made_as_strong_as_the_budget_needs(target: float):
    for proposal in (Recipe((shrink(0.9), carve(0.1))), Recipe((shrink(0.2), carve(0.9)))):
        found = taken(MODEL.aimed(proposal, target))
        assert 0.4 * target < found < 1.25 * target


@pytest.mark.parametrize("target", [0.5, 0.35, 0.2])
def test_of_equally_fast_structures_the_one_that_computes_most_is_taken(target: float):
    """Where one strength alone comes to the target, the one that costs fewer multiply-accumulates is moved."""
    found = MODEL.aimed(Recipe((shrink(0.9), carve(0.1))), target)
    width, ratio = found.steps[0].values["width"], found.steps[1].values["ratio"]
    assert ratio == 0.1
    assert width < 0.7
    assert 0.7 * target < taken(found) < 1.25 * target


def test_only_strengths_are_moved():
    proposal = Recipe((shrink(0.9), carve(0.1, "b"), Step.of("tune"), Step.of(TRAIN, lr=0.001, batch_size=64)))
    better = MODEL.aimed(proposal, 0.2)
    assert better != proposal
    assert [s.strategy for s in better.steps] == [s.strategy for s in proposal.steps]
    assert better.steps[1].values["kind"] == "b"
    assert better.steps[2:] == proposal.steps[2:]


def test_an_unreachable_budget_gets_the_strongest():
    assert MODEL.aimed(Recipe((carve(0.3),)), 0.001) == Recipe((carve(0.95),))


def test_little_knowledge_and_no_strength_leave_the_proposal_alone():
    few = model_of(dict(list(TIMED.items())[: FEWEST_TIMED - 1]))
    assert few.aimed(Recipe((carve(0.1),)), 0.1) == Recipe((carve(0.1),))
    plain = Recipe((Step.of("tune"), Step.of(TRAIN, lr=0.001, batch_size=64)))
    assert MODEL.aimed(plain, 0.1) == plain
