"""Which structures are trained: each is timed once, and what can add nothing is turned away."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from autocompress.budget import Budget
from autocompress.errors import CandidateFailed
from autocompress.evaluation import Evaluation, Outcome, Score
from autocompress.explore.history.facts import Evaluated
from autocompress.explore.history.history import History
from autocompress.explore.pipeline.gate import Gate
from autocompress.explore.policy import SearchPolicy
from autocompress.explore.schedule import rungs
from autocompress.explore.space.ladders import default_recipe
from autocompress.explore.space.space import Space
from autocompress.explore.space.space_file import SpaceFile
from autocompress.explore.space.structure_model import StructureModel
from autocompress.explore.standings.standings import Standings
from autocompress.explore.training.admission import Admission
from autocompress.latency import Latency
from autocompress.plugin.contract import Applicable, Parameter, Stage
from autocompress.recipe import Recipe, Step

CARVE = Applicable("carve", (Stage.STRUCTURE,), (Parameter("ratio", (0.1, 0.3, 0.5, 0.7, 0.9), 0.5, True),))
FOLD = Applicable("fold", (Stage.STRUCTURE,), (Parameter("depth", (1, 2, 3), 1, True),))
TUNE = Applicable("tune", (Stage.TRAIN,), (Parameter("kind", ("soft", "hard"), "soft"),), trains_alone=True)
SPACE = Space.of(SpaceFile(name="s"), [CARVE, FOLD, TUNE], [])
CARVED = default_recipe(SPACE, [Step.of("carve", ratio=0.5)])
STRONGER = default_recipe(SPACE, [Step.of("carve", ratio=0.7)])
FOLDED = default_recipe(SPACE, [Step.of("fold", depth=2)])

Make = Callable[..., tuple[Admission, list[Recipe]]]


@pytest.fixture
def admission(make_latency: Callable[..., Latency], make_history: Callable[..., History]) -> Make:
    """With the reference's int8 file at 0.4 that loses nothing, and carving by a half trained: 0.2 at 0.89. beside:
    other families that are trained, each with its score and its ratio. rung: that carving by a half reached.
    """

    def evaluation(recipe: Recipe, score: float, ratio: float, macs: int) -> Evaluation:
        own = Score(score, score, score)
        return Evaluation(
            recipe.id, recipe, 1.0, 0, own, make_latency(ratio), 10, 8, 5, macs, "a", recipe.id, str(recipe), "v"
        )

    def make(
        budget: Budget,
        gate: Gate | None = None,
        beside: Sequence[tuple[Recipe, float, float]] = (),
        rung: int = rungs.TRAINED,
        **policy: Any,
    ) -> tuple[Admission, list[Recipe]]:
        int8 = evaluation(Recipe().rewritten(Step.of("squeeze")), 0.9, 0.4, 1000)
        history = make_history(evaluation(Recipe(), 0.9, 1.0, 1000), int8)
        carved = Outcome((evaluation(CARVED, 0.89, 0.2, 500),), rung=rung, checkpoint="w")
        history.enter(Evaluated(CARVED, carved))
        for recipe, score, ratio in beside:
            history.enter(Evaluated(recipe, Outcome((evaluation(recipe, score, ratio, 500),), checkpoint="w")))
        asked: list[Recipe] = []

        async def timed(recipe: Recipe) -> Gate:
            asked.append(recipe)
            await asyncio.sleep(0)
            if gate is None:
                raise CandidateFailed("it cannot be built")
            return gate

        standings, structures = Standings(history, budget), StructureModel(SPACE)
        return Admission(SPACE, standings, structures, timed, SearchPolicy(**policy)), asked

    return make


def test_a_structure_is_timed_once_however_it_is_trained(admission: Make, make_latency: Callable[..., Latency]):
    made, asked = admission(Budget(speedup=2), Gate(make_latency(0.3), (), macs=400))
    other = Recipe((STRONGER.steps[0], Step.of("tune", kind="hard"), *STRONGER.steps[2:]))
    assert asyncio.run(made.gate(STRONGER)) is asyncio.run(made.gate(other))
    assert asked == [STRONGER]


@pytest.mark.parametrize(("rung", "waits"), [(rungs.UNTRAINED, True), (rungs.TRAINED, False)])
def test_a_structure_that_waits_for_its_training_is_not_looked_at_again(admission: Make, rung: int, waits: bool):
    made, _ = admission(Budget(speedup=2), rung=rung)
    otherwise = Recipe((CARVED.steps[0], Step.of("tune", kind="hard"), *CARVED.steps[2:]))
    assert made.awaits_training(otherwise) == waits
    assert not made.awaits_training(STRONGER), "another structure says something new"
    assert not made.awaits_training(Recipe(CARVED.steps[:1])), "what nothing trains is reconstructed, and scores more"


def test_two_workers_that_ask_for_one_structure_time_it_once(admission: Make, make_latency: Callable[..., Latency]):
    made, asked = admission(Budget(speedup=2), Gate(make_latency(0.3), (), macs=400))

    async def both() -> tuple[Gate, Gate]:
        return await asyncio.gather(made.gate(STRONGER), made.gate(STRONGER))

    one, other = asyncio.run(both())
    assert one is other
    assert asked == [STRONGER]


def test_a_structure_that_cannot_be_built_is_not_built_again(admission: Make):
    made, asked = admission(Budget(speedup=2))
    for _ in range(2):
        with pytest.raises(CandidateFailed):
            asyncio.run(made.gate(STRONGER))
    assert asked == [STRONGER]


@pytest.mark.parametrize(
    ("recipe", "ratio", "macs", "trained"),
    [
        (FOLDED, 0.1, 300, True),
        (FOLDED, 0.45, 900, False),  # slower than what loses nothing
        (FOLDED, 0.38, 900, False),  # hardly faster than that
        (FOLDED, 0.25, 300, True),
        (STRONGER, 0.21, 300, False),  # carving by less is as fast, and more is left
        (STRONGER, 0.21, 450, False),
        (STRONGER, 0.21, 460, True),  # by less than a tenth more
        (STRONGER, 0.15, 300, True),
        (FOLDED, 0.21, 300, True),  # of other strategies that says nothing
    ],
)
def test_without_a_budget_what_can_add_next_to_nothing_is_not_trained(
    recipe: Recipe, ratio: float, macs: int, trained: bool, admission: Make, make_latency: Callable[..., Latency]
):
    made, _ = admission(Budget(max_drop=1))
    refused = made.refusal(recipe, Gate(make_latency(ratio), (), macs=macs), cheap=True)
    assert (refused is None) == trained


def folded(count: int) -> list[Recipe]:
    """So many families of one structure."""
    return [Recipe((*FOLDED.steps[:-1], Step.of("train", lr=0.001 * (1 + n), batch_size=64))) for n in range(count)]


@pytest.mark.parametrize(("better", "trained"), [(29, False), (30, True)])
def test_a_structure_is_compared_with_the_thirty_best_families(
    better: int, trained: bool, admission: Make, make_latency: Callable[..., Latency]
):
    beside = [
        (recipe, 0.8901 + 1e-6 * n, 0.2) for n, recipe in enumerate(folded(better))
    ]  # all better than what is carved
    made, _ = admission(Budget(max_drop=1), beside=beside)
    refused = made.refusal(STRONGER, Gate(make_latency(0.21), (), macs=300), cheap=True)
    assert (refused is None) == trained


@pytest.mark.parametrize(
    ("families", "ratio", "cheap", "trained"),
    [
        (10, 0.70, True, True),
        (10, 0.72, True, False),
        (10, 0.70, False, False),
        (9, 0.70, True, True),
        (8, 0.70, True, False),
    ],
)
def test_one_family_in_ten_may_be_over_the_budget_by_up_to_three_times(
    families: int, ratio: float, cheap: bool, trained: bool, admission: Make, make_latency: Callable[..., Latency]
):
    made, _ = admission(Budget(speedup=4), beside=[(recipe, 0.88, 0.2) for recipe in folded(families - 1)])
    gate = Gate(make_latency(ratio), (), macs=300)
    assert (made.refusal(STRONGER, gate, cheap=cheap) is None) == trained
    assert made.refusal(STRONGER, gate, cheap=cheap) is not None, "it was the turn of one"


def test_where_nothing_has_to_add_anything_all_is_trained_and_scored(
    admission: Make, make_latency: Callable[..., Latency]
):
    slower = Gate(make_latency(0.45), (), macs=900)
    made, _ = admission(Budget(max_drop=1))
    assert made.refusal(FOLDED, slower, cheap=True) is not None
    assert made.worth_below() == pytest.approx(0.409, rel=0.001)
    made, _ = admission(Budget(max_drop=1), least_gain=None)
    assert made.refusal(FOLDED, slower, cheap=True) is None
    assert made.worth_below() is None


@pytest.mark.parametrize(("ratio", "trained"), [(0.6, True), (1.0, False)])
def test_a_disturbed_latency_turns_away_only_what_is_far_over_the_budget(
    ratio: float, trained: bool, admission: Make, make_latency: Callable[..., Latency]
):
    made, _ = admission(Budget(speedup=2))
    refused = made.refusal(STRONGER, Gate(make_latency(ratio, quiet=False), (), macs=300), cheap=False)
    assert (refused is None) == trained


def test_within_a_budget_only_the_latency_counts(admission: Make, make_latency: Callable[..., Latency]):
    made, _ = admission(Budget(speedup=2))
    assert made.refusal(STRONGER, Gate(make_latency(0.45), (), macs=300), cheap=False) is None
    assert made.refusal(STRONGER, Gate(make_latency(0.6), (), macs=300), cheap=False) is not None
