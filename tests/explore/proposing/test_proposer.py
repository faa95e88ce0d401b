"""What comes next: the first recipes, then proposals moved to the latency that is wanted."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from autocompress.budget import Budget
from autocompress.evaluation import Evaluation, Outcome, Score
from autocompress.explore.history.facts import Evaluated
from autocompress.explore.history.history import History
from autocompress.explore.policy import SearchPolicy
from autocompress.explore.proposing.proposer import LEAST_OVER_FASTEST, Proposer, halton
from autocompress.explore.proposing.sampler import Sampler
from autocompress.explore.space.ladders import default_recipe
from autocompress.explore.space.space import Space
from autocompress.explore.space.space_file import SpaceFile
from autocompress.explore.space.structure_model import StructureModel
from autocompress.explore.standings.standings import Standings
from autocompress.latency import Latency
from autocompress.plugin.contract import Applicable, Parameter, Stage
from autocompress.recipe import Recipe, Step

RATIOS = tuple(round(0.05 * i, 2) for i in range(1, 20))
CARVE = Applicable("carve", (Stage.STRUCTURE,), (Parameter("ratio", RATIOS, 0.5, True),))
TUNE = Applicable("tune", (Stage.TRAIN,), (Parameter("kind", ("soft", "hard"), "soft"),), trains_alone=True)
SPACE = Space.of(SpaceFile(name="s"), [CARVE, TUNE], [])


def carved(ratio: float) -> Recipe:
    return default_recipe(SPACE, [Step.of("carve", ratio=ratio)])


def evaluation(recipe: Recipe, score: float, latency: Latency) -> Evaluation:
    return Evaluation(
        recipe.id, recipe, 1.0, 0, Score(score, score, score), latency, 10, 8, 5, 7, "a", recipe.id, str(recipe), "v"
    )


@pytest.fixture
def proposer(make_latency: Callable[..., Latency], make_history: Callable[..., History]) -> Callable[..., Proposer]:
    """After the latency of every strength was timed, 1 - ratio, and families of these (ratio, score) were trained."""

    def make(
        budget: Budget,
        *trained: tuple[float, float],
        ratios: Sequence[float] = RATIOS,
        waiting: Any = (),
        defaults: Any = (),
        **policy: Any,
    ) -> Proposer:
        history = make_history(evaluation(Recipe(), 0.9, make_latency(1.0)))
        space = Space.of(
            SpaceFile(name="s"), [replace(CARVE, parameters=(Parameter("ratio", ratios, 0.5, True),)), TUNE], []
        )
        standings, structures = Standings(history, budget), StructureModel(space)
        for ratio in ratios:
            structures.add(carved(ratio), 1 - ratio, 1 - ratio)
        for ratio, score in trained:
            found = evaluation(carved(ratio), score, make_latency(1 - ratio))
            history.enter(Evaluated(carved(ratio), Outcome(evaluations=(found,), checkpoint="w")))
        return Proposer(
            Sampler(space, (), seed=0),
            standings,
            structures,
            lambda recipe: False,
            SearchPolicy(**policy),
            waiting=waiting,
            defaults=defaults,
        )

    return make


def left(recipe: Recipe) -> float:
    step = recipe.step("carve")
    return 1 - float(step.values["ratio"]) if step else 1.0


def test_first_recipes_come_first_and_known_ones_never_again(proposer: Callable[..., Proposer]):
    made = proposer(Budget(max_drop=1), (0.5, 0.9), waiting=[carved(0.5), carved(0.3)])
    proposal = made.next()
    assert proposal is not None
    assert proposal.recipe == carved(0.3)


@pytest.mark.parametrize(("known", "exhausted"), [(39, False), (40, True)])
def test_forty_known_recipes_in_a_row_exhaust_the_space(known: int, exhausted: bool, proposer: Callable[..., Proposer]):
    made = proposer(Budget(max_drop=1), (0.5, 0.9), waiting=[*[carved(0.5)] * known, carved(0.3)])
    assert (made.next() is None) == exhausted


def test_a_sampler_that_wants_the_same_again_and_again_does_not_end_a_search(
    proposer: Callable[..., Proposer], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = proposer(Budget(max_drop=1), (0.5, 0.9))
    monkeypatch.setattr(made, "_proposal", lambda: made._sampler.given(carved(0.5)))
    found = [made.next() for _ in range(10)]
    assert all(asked is not None and asked.recipe != carved(0.5) for asked in found)


@pytest.mark.parametrize(("ratio", "again"), [(0.58, True), (0.55, False)])
def test_a_family_is_tried_milder_only_where_enough_of_the_budget_is_left(
    ratio: float, again: bool, proposer: Callable[..., Proposer]
):
    made = proposer(Budget(speedup=2), (ratio, 0.88), ratios=[round(0.4 + 0.01 * i, 2) for i in range(21)])
    assert (made._again(made.target()) is not None) == again, f"{left(carved(ratio)) / 0.475:.2f} of the budget is used"


def test_what_is_too_strong_for_the_budget_is_tried_milder(proposer: Callable[..., Proposer]):
    proposal = proposer(Budget(speedup=2), (0.9, 0.88)).next()
    assert proposal is not None
    assert 0.4 < left(proposal.recipe) <= 0.5


def test_what_just_meets_the_budget_leaves_the_next_to_the_sampler(proposer: Callable[..., Proposer]):
    made = proposer(Budget(speedup=2), (0.5, 0.88))
    assert made._again(made.target()) is None


def test_without_a_budget_targets_keep_to_where_the_front_is_low(proposer: Callable[..., Proposer]):
    made = proposer(Budget(max_drop=1), (0.5, 0.9), (0.9, 0.5))  # nothing is lost at 0.5; what is at 0.1 is worthless
    targets = [made.target() for _ in range(32)]
    assert max(targets) < 0.5
    assert min(targets) > LEAST_OVER_FASTEST * 0.05, "the fastest structure of all has 0.05"
    assert len(set(targets)) == 32


@pytest.mark.parametrize(("score", "further"), [(0.9, True), (0.86, False)])
def test_where_a_good_model_is_as_fast_as_was_aimed_at_faster_ones_are(
    score: float, further: bool, proposer: Callable[..., Proposer]
) -> None:
    made = proposer(Budget(max_drop=1), (0.93, score), (0.5, 0.9))
    assert (min(made.target() for _ in range(32)) < LEAST_OVER_FASTEST * 0.05) == further


def test_half_of_the_proposals_move_a_good_family_to_where_the_front_is_low(proposer: Callable[..., Proposer]):
    made = proposer(Budget(max_drop=1), (0.5, 0.9), (0.6, 0.89))
    again = []
    for _ in range(11):
        moved = made._again(made.target())
        again.append(moved is not None)
        if moved is not None:
            assert moved == carved(round(1 - left(moved), 2)), "its own steps"
    assert again[:6] == [True, True, True, False, False, False]
    assert 5 <= sum(again) <= 8


def test_the_first_default_is_tried_as_it_is_and_others_at_the_latency_wanted(proposer: Callable[..., Proposer]):
    made = proposer(Budget(max_drop=1), defaults=[carved(0.5), carved(0.4)])
    first, second = made.next(), made.next()
    assert first is not None
    assert first.recipe == carved(0.5)
    assert second is not None, "nothing was trained: the first one failed"
    assert second.recipe == carved(0.4)


@pytest.mark.parametrize(("trained", "target", "heard"), [([], 0.2, True), ([], 0.03, False), ([0.95], 0.2, False)])
def test_other_defaults_are_heard_once_at_the_latency_wanted(
    trained: list[float], target: float, heard: bool, proposer: Callable[..., Proposer]
):
    """Of a strategy without a family, when it comes near that latency."""
    made = proposer(Budget(max_drop=1), *((ratio, 0.5) for ratio in trained), defaults=[carved(0.5)])
    found = made._default(target)
    assert made._default(target) is None
    assert (found is not None) == heard
    if found is not None:
        assert 0.15 < left(found) <= 0.2


def test_what_nothing_is_foretold_of_is_not_held_back(proposer: Callable[..., Proposer]):
    """As after a resume, or where no strength is: the latency that is wanted says nothing there."""
    made = proposer(Budget(max_drop=1))
    assert not made._comes_near(carved(0.1), 0.1)
    assert made._comes_near(default_recipe(SPACE, []), 0.1)
    made._structures.timed = 0
    assert made._comes_near(carved(0.1), 0.1)


def test_one_worker_tries_the_default_as_it_is_and_another_does_not_wait(proposer: Callable[..., Proposer]):
    made = proposer(Budget(max_drop=1), defaults=[carved(0.5), carved(0.4)])
    first = made.next()
    made._busy = lambda recipe: first is not None and recipe == first.recipe
    other = made.next()
    assert first is not None
    assert first.recipe == carved(0.5)
    assert other is not None
    assert other.recipe not in (carved(0.5), carved(0.4))


def test_targets_fall_into_the_widest_gap():
    assert [halton(n) for n in range(1, 8)] == [1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8]
    assert all(0 < halton(n) < 1 for n in range(1, 1000))


@pytest.mark.parametrize("budget", [Budget(speedup=2), Budget(max_drop=1)], ids=["within a budget", "without"])
def test_where_no_family_is_tried_at_another_strength_all_that_is_proposed_is_new(
    budget: Budget, proposer: Callable[..., Proposer]
):
    made = proposer(budget, (0.9, 0.88), (0.8, 0.89), strengthened=0)
    for _ in range(8):
        proposal = made.next()
        assert proposal is not None
        assert proposal.recipe not in (carved(0.9), carved(0.8))
        made._sampler.repeated(proposal)


def test_where_no_neighbours_are_tried_the_sampler_is_asked_each_time(proposer: Callable[..., Proposer]):
    def neighbours(**policy: int) -> int:
        made, found = proposer(Budget(speedup=2), (0.5, 0.88), **policy), 0
        own = made._sampler.neighbour

        def counted(recipe: Recipe) -> Recipe:
            nonlocal found
            found += 1
            return own(recipe)

        made._sampler.neighbour = counted  # type: ignore[method-assign]
        for _ in range(6):
            made.next()
        return found

    assert neighbours() >= 3
    assert neighbours(neighbours=0) == 0
