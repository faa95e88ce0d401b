"""The search space: how a recipe becomes a trial and comes back, what excludes what, and how a file narrows it."""

import itertools

import optuna
import pytest

from autocompress.explore.space.ladders import default_recipe
from autocompress.explore.space.space import Space
from autocompress.explore.space.space_file import SpaceFile
from autocompress.plugin.contract import Applicable, Stage
from autocompress.recipe import TRAIN, Recipe, Step
from tests.explore.space.strategies import (
    ALL,
    BUILD,
    FOLD,
    PRUNE,
    QUANTIZE,
    TEACH,
    TEACHER,
    TUNE,
    names,
    sampled,
    space_of,
)

# -- sampling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", [(BUILD, PRUNE, TEACH, TUNE), (PRUNE, TUNE), (TEACH, QUANTIZE), (FOLD,)])
def test_recipe_becomes_trial_parameters_and_comes_back(chosen: tuple[Applicable, ...]):
    space = space_of(*chosen)
    recipes = set(sampled(space))
    assert len(recipes) > 3
    for recipe in recipes:
        assert space.sample(optuna.trial.FixedTrial(space.params(recipe))) == recipe


def test_order_of_structural_steps_comes_back():
    space = space_of(PRUNE, FOLD, TUNE)
    recipes = sampled(space)
    assert len({tuple(s.strategy for s in r.steps if s.strategy in ("carve", "fold")) for r in recipes}) >= 4
    for recipe in recipes:
        assert space.sample(optuna.trial.FixedTrial(space.params(recipe))) == recipe


def test_order_among_structural_strategies_is_searched():
    both = [r for r in sampled(space_of(PRUNE, FOLD, TUNE)) if {"carve", "fold"} <= names(r)]
    assert {tuple(s.strategy for s in r.steps[:2]) for r in both} == {("carve", "fold"), ("fold", "carve")}


def test_any_order_of_many_structural_strategies_is_asked_for_as_it_is():
    strategies = [Applicable(name, (Stage.STRUCTURE,)) for name in ("a", "b", "c", "d")]
    space = space_of(*strategies, TUNE)
    for order in itertools.permutations("abcd"):
        recipe = default_recipe(space, [Step.of(name) for name in order])
        assert space.sample(optuna.trial.FixedTrial(space.params(recipe))) == recipe


def test_steps_are_in_the_order_of_the_stages():
    order = {"shrink": 0, "carve": 1, "fold": 1, "imitate": 2, "tune": 2, TRAIN: 3}
    for recipe in sampled(space_of(*ALL)):
        stages = [order[step.strategy] for step in recipe.steps]
        assert stages == sorted(stages)


def test_every_choice_is_reached_and_no_other():
    recipes = sampled(space_of(*ALL), trials=400)
    steps = [step for recipe in recipes for step in recipe.steps]
    assert {s.values["ratio"] for s in steps if s.strategy == "carve"} == {0.1, 0.3, 0.5, 0.7}
    assert {s.values["kind"] for s in steps if s.strategy == "carve"} == {"l1", "l2"}
    assert {s.strategy for s in steps} == {"shrink", "carve", "fold", "imitate", "tune", TRAIN}  # no graph strategy


def test_a_changed_structure_is_always_trained():
    recipes = sampled(space_of(*ALL))
    structural = [r for r in recipes if names(r) & {"shrink", "carve", "fold"}]
    assert structural
    assert all(names(r) & {"imitate", "tune"} for r in structural)


def test_what_is_trained_has_training_settings_and_only_that():
    for recipe in sampled(space_of(*ALL)):
        assert (TRAIN in names(recipe)) == bool(names(recipe) & {"imitate", "tune"})
    settings = next(r.step(TRAIN) for r in sampled(space_of(*ALL)) if r.step(TRAIN))
    assert set(settings.values) == {"lr", "batch_size"}


def test_tags_exclude_each_other_whichever_says_so():
    recipes = sampled(space_of(*ALL))
    assert any("imitate" in names(r) for r in recipes)
    assert any("tune" in names(r) for r in recipes)
    assert not any({"imitate", "tune"} <= names(r) for r in recipes)
    says_so_first = Applicable("aa", (Stage.TRAIN,), (), frozenset(), frozenset({"x"}))
    provides_it = Applicable("bb", (Stage.TRAIN,), (), frozenset({"x"}))
    found = {frozenset(names(r) & {"aa", "bb"}) for r in sampled(space_of(says_so_first, provides_it))}
    assert found >= {frozenset({"aa"}), frozenset({"bb"})}
    assert frozenset({"aa", "bb"}) not in found


def test_structure_that_excludes_the_last_training_strategy_is_trained_all_the_same():
    carve = Applicable("carve", (Stage.STRUCTURE,), (), TEACHER)  # `tune` excludes it
    carved = [r for r in sampled(space_of(carve, TEACH, TUNE)) if "carve" in names(r)]
    assert carved
    assert all("imitate" in names(r) for r in carved)


def test_a_strategy_that_says_nothing_of_it_trains_where_there_is_no_other():
    modest = Applicable("modest", (Stage.TRAIN,))
    folded = [r for r in sampled(space_of(FOLD, modest)) if "fold" in names(r)]
    assert folded
    assert all(names(r) >= {"modest", TRAIN} for r in folded)


def test_what_saves_size_alone_is_left_out_unless_it_is_named():
    tight = Applicable("tight", (Stage.STRUCTURE,), size_only="zeros take as long as other numbers")
    assert [a.name for a in space_of(FOLD, tight, TUNE).families] == ["fold", "tune"]
    named = Space.of(SpaceFile(name="mine", strategies=("tight", "tune")), (FOLD, tight, TUNE), [])
    assert [a.name for a in named.families] == ["tight", "tune"]


def test_how_a_structure_is_trained_does_not_matter_to_the_gate_unless_graph_variants_depend_on_it():
    aware = Applicable("aware", (Stage.TRAIN, Stage.GRAPH), (), frozenset({"int8"}), frozenset({"int8"}))
    space = space_of(FOLD, TEACH, Applicable("plain", (Stage.TRAIN,), trains_alone=True), aware)
    fold, plain, train = Step.of("fold", depth=1), Step.of("plain"), Step.of(TRAIN, lr=0.001, batch_size=64)
    alone = space.gated(Recipe((fold, plain, train)))
    assert alone == space.gated(Recipe((fold, plain, Step.of(TRAIN, lr=0.002, batch_size=64))))
    assert alone != space.gated(Recipe((Step.of("fold", depth=2), plain, train)))
    assert alone != space.gated(Recipe((fold, plain, Step.of("aware"), train)))
    assert space.gated(Recipe((fold, Step.of("imitate", alpha=0.5), train))) == space.gated(
        Recipe((fold, Step.of("imitate", alpha=0.9), train))
    )


def test_space_without_training_changes_structures_untrained():
    assert {names(r) == {"fold"} for r in sampled(space_of(FOLD)) if r.steps} == {True}


# -- comparing the spaces of two runs ----------------------------------------------------------------------------------


def test_description_changes_with_any_choice_and_lists_every_strategy():
    whole = space_of(*ALL).describe()
    assert whole["carve.ratio"] == [0.1, 0.3, 0.5, 0.7]
    assert {"shrink", "carve", "fold", "imitate", "tune", "squeeze", "train.lr"} <= set(whole)
    assert space_of(*ALL, parameters={"carve.ratio": [0.1, 0.3]}).describe() != whole
    fewer = space_of(PRUNE, TUNE).describe()
    assert all(whole[key] == value for key, value in fewer.items())  # an added strategy leaves the others as they were


def test_training_keeps_to_the_batch_size_of_the_loader_unless_the_space_names_others():
    file = SpaceFile(name="mine")
    sizes = {p.name: p.choices for p in Space.of(file, (TUNE,), [], {"batch_size": (48,)}).train}
    assert sizes["batch_size"] == (48,)
    searched = SpaceFile(name="mine", parameters={"train.batch_size": (16, 32)})
    sizes = {p.name: p.choices for p in Space.of(searched, (TUNE,), [], {"batch_size": (48,)}).train}
    assert sizes["batch_size"] == (16, 32)
    assert len({p.name: p.choices for p in Space.of(file, (TUNE,), []).train}["batch_size"]) > 1


def test_training_takes_the_learning_rates_of_the_task_unless_the_space_names_others():
    rates = (2e-5, 3e-5, 5e-5, 1e-4)
    (rate,) = (p for p in Space.of(SpaceFile(name="mine"), (TUNE,), [], {"lr": rates}).train if p.name == "lr")
    assert (rate.choices, rate.default in rates) == (rates, True)
    searched = SpaceFile(name="mine", parameters={"train.lr": (0.01,)})
    assert Space.of(searched, (TUNE,), [], {"lr": rates}).train[0].choices == (0.01,)
