"""The sampler's memory: what a trial taught it is in the record, and comes back from there."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from autocompress.explore.policy import SearchPolicy
from autocompress.explore.proposing.sampler import OVER_BUDGET, Asked, Sampler
from autocompress.explore.space.ladders import default_recipe
from autocompress.explore.space.space import Space
from autocompress.explore.space.space_file import SpaceFile
from autocompress.plugin.contract import Applicable, Parameter, Stage
from autocompress.recipe import Recipe, Step
from autocompress.storage.record import Record, open_record

CARVE = Applicable("carve", (Stage.STRUCTURE,), (Parameter("ratio", (0.1, 0.3, 0.5, 0.7, 0.9), 0.5, True),))
IMITATE = Applicable("imitate", (Stage.TRAIN,), (Parameter("kind", ("soft", "hard"), "soft"),))
SPACE = Space.of(SpaceFile(name="s"), [CARVE, IMITATE], [])
WANTED = default_recipe(SPACE, [Step.of("carve", ratio=0.7)])


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    record = open_record(tmp_path / "study.db")
    yield record
    record.close()


def remembered(sampler: Sampler) -> list[FrozenTrial]:
    return sampler._study.get_trials(deepcopy=False)


def end(record: Record, sampler: Sampler, asked: Asked, trial: FrozenTrial) -> None:
    """As a search ends a trial: it is recorded before the sampler learns of it."""
    record.add(trial)
    sampler.learn(asked, trial)


def told_three(record: Record) -> Sampler:
    sampler = Sampler(SPACE, record.trials(), seed=0)
    trained, slow, broken = (
        sampler.given(recipe)
        for recipe in (WANTED, *(default_recipe(SPACE, [Step.of("carve", ratio=r)]) for r in (0.1, 0.3)))
    )
    end(record, sampler, trained, trained.evaluated((0.91, 0.25), -0.5))
    end(record, sampler, slow, slow.rejected(1.75))
    end(record, sampler, broken, broken.failed())
    return sampler


def test_a_given_recipe_is_what_the_trial_holds(record: Record):
    sampler = Sampler(SPACE, record.trials(), seed=0)
    for recipe in (WANTED, Recipe((Step.of("imitate", kind="hard"), Step.of("train", lr=0.004, batch_size=64)))):
        asked = sampler.given(recipe)
        assert asked.recipe == recipe
        assert asked.params.items() >= {"carve": recipe.step("carve") is not None}.items()
        end(record, sampler, asked, asked.evaluated((0.9, 0.5), None))


def test_completed_trial_keeps_values_and_constraint(record: Record):
    told_three(record)
    done = next(t for t in remembered(Sampler(SPACE, record.trials(), seed=0)) if t.state == TrialState.COMPLETE)
    assert done.values == [0.91, 0.25]
    assert done.constraints == {OVER_BUDGET: -0.5}
    assert done.params["carve.ratio"] == 3


def test_rejection_comes_back_pruned_with_its_constraint_and_no_values(record: Record):
    told_three(record)
    (rejected,) = [t for t in remembered(Sampler(SPACE, record.trials(), seed=0)) if t.state == TrialState.PRUNED]
    assert rejected.constraints == {OVER_BUDGET: 1.75}
    assert rejected.values is None
    assert rejected.params["carve.ratio"] == 0


def test_failure_is_recorded_and_teaches_nothing(record: Record):
    told_three(record)
    assert [t.params["carve.ratio"] for t in record.trials() if t.state == TrialState.FAIL] == [1]
    assert TrialState.FAIL not in {t.state for t in remembered(Sampler(SPACE, record.trials(), seed=0))}


def test_memory_survives_another_process_opening_the_record(record: Record, tmp_path: Path):
    told_three(record)
    record.close()
    again = open_record(tmp_path / "study.db")
    try:
        found = {t.state: (t.values, t.constraints) for t in remembered(Sampler(SPACE, again.trials(), seed=0))}
    finally:
        again.close()
    assert found == {
        TrialState.COMPLETE: ([0.91, 0.25], {OVER_BUDGET: -0.5}),
        TrialState.PRUNED: (None, {OVER_BUDGET: 1.75}),
    }


def test_without_a_budget_there_is_no_constraint(record: Record):
    sampler = Sampler(SPACE, record.trials(), seed=0)
    asked = sampler.given(WANTED)
    end(record, sampler, asked, asked.evaluated((0.9, 0.5), None))
    assert not remembered(Sampler(SPACE, record.trials(), seed=0))[0].constraints


def test_repeated_recipe_is_not_recorded(record: Record):
    sampler = Sampler(SPACE, record.trials(), seed=0)
    sampler.repeated(sampler.ask())
    sampler.repeated(sampler.given(WANTED))
    assert record.trials() == []


def test_only_the_last_rejections_are_brought_back(record: Record):
    policy = SearchPolicy(remembered=3)
    sampler = Sampler(SPACE, record.trials(), 0, policy)
    for over in (0.1, 0.2, 0.3, 0.4):
        asked = sampler.ask()
        end(record, sampler, asked, asked.rejected(over))
    asked = sampler.ask()
    end(record, sampler, asked, asked.evaluated((0.9, 0.5), None))
    back = remembered(Sampler(SPACE, record.trials(), 0, policy))
    assert [t.constraints[OVER_BUDGET] for t in back if t.state == TrialState.PRUNED] == [0.3, 0.4]
    assert [t.values for t in back if t.state == TrialState.COMPLETE] == [[0.9, 0.5]]
    assert len(record.trials()) == 5


def test_a_long_search_is_remembered_by_its_latest_trials(record: Record):
    sampler = Sampler(SPACE, record.trials(), 0, SearchPolicy(remembered=4, forgotten=2))
    early = sampler.ask()  # by another worker, which takes its time
    for number in range(9):
        asked = sampler.ask()
        end(record, sampler, asked, asked.evaluated((number / 10, 0.5), None))
        assert len(remembered(sampler)) <= 6
    end(record, sampler, early, early.evaluated((0.99, 0.5), None))
    assert [t.values[0] for t in remembered(sampler) if t.values][-2:] == [0.8, 0.99]
    assert len(record.trials()) == 10


def test_same_seed_asks_the_same_and_a_resume_does_not_ask_it_again(record: Record, tmp_path: Path):
    def first(seed: int, record: Record) -> list[Recipe]:
        sampler = Sampler(SPACE, record.trials(), seed)
        asked = []
        for _ in range(6):
            asked.append(sampler.ask())
            sampler.repeated(asked[-1])
        return [each.recipe for each in asked]

    assert first(3, record) == first(3, record)
    assert first(3, record) != first(4, record)
    told_three(record)
    resumed, fresh = open_record(tmp_path / "study.db"), open_record(tmp_path / "other.db")
    try:
        assert first(3, resumed) != first(3, fresh)
    finally:
        resumed.close()
        fresh.close()


def test_sampler_learns_which_strength_is_within_the_budget(record: Record):
    """With only strong carving within the budget, what is asked later is stronger than at random."""
    sampler = Sampler(SPACE, record.trials(), seed=1)
    asked: list[float] = []
    for _ in range(40):
        trial = sampler.ask()
        carve = trial.recipe.step("carve")
        ratio = float(carve.values["ratio"]) if carve else 0.0
        asked.append(ratio)
        if ratio < 0.7:
            end(record, sampler, trial, trial.rejected(0.7 - ratio))
        else:
            end(record, sampler, trial, trial.evaluated((0.9 - ratio / 100, 0.25), -0.1))
    late = asked[20:]
    assert sum(r >= 0.7 for r in late) / len(late) > 0.5


def test_a_neighbour_differs_in_one_thing_and_never_in_strength(record: Record):
    sampler = Sampler(SPACE, record.trials(), seed=0)
    carve, _, train = WANTED.steps
    found = {sampler.neighbour(WANTED) for _ in range(60)}
    assert all(recipe != WANTED for recipe in found)
    assert all(r.step("carve") in (carve, None) for r in found)
    taught = {r.step("imitate") for r in found if r.step("train") == train and r.step("carve")}
    assert taught == {Step.of("imitate", kind="hard")}
    for recipe in found:
        changed = [step.strategy for step in WANTED.steps if recipe.step(step.strategy) != step]
        assert len(changed) == 1


def test_a_neighbour_is_another_recipe_where_an_order_could_change_and_does_not(record: Record):
    fold = Applicable("fold", (Stage.STRUCTURE,), (Parameter("depth", (1, 2), 1, True),))
    space = Space.of(SpaceFile(name="s"), [CARVE, fold, IMITATE], [])
    wanted = default_recipe(space, [Step.of("carve", ratio=0.7)])
    sampler = Sampler(space, record.trials(), seed=0)
    assert all(sampler.neighbour(wanted) != wanted for _ in range(60))


class Stuck(random.Random):
    """Draws a change of the order so many times, then whether a strategy is on."""

    def __init__(self, useless: int) -> None:
        super().__init__(0)
        self.left = useless

    def choice(self, of: Sequence[Any]) -> Any:
        if "carve.position" not in of:
            return of[0]
        self.left -= 1
        return "carve.position" if self.left >= 0 else "imitate.kind"


@pytest.mark.parametrize(("useless", "changes"), [(9, True), (10, False)])
def test_ten_draws_are_made_for_a_change_that_makes_a_difference(useless: int, changes: bool):
    fold = Applicable("fold", (Stage.STRUCTURE,), (Parameter("depth", (1, 2), 1, True),))
    space = Space.of(SpaceFile(name="s"), [CARVE, fold, IMITATE], [])
    wanted = default_recipe(space, [Step.of("carve", ratio=0.7)])
    sampler = Sampler(space, (), seed=0)
    sampler._random = Stuck(useless)
    assert (sampler.neighbour(wanted) != wanted) == changes
