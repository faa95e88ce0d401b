"""Default recipes: each structure at every strength, and the smallest of all."""

import optuna

from autocompress.explore.space.ladders import (
    default_recipe,
    ladder_to,
    ladders,
    single_defaults,
    strongest_neighbours,
    strongest_recipes,
)
from autocompress.plugin.contract import Applicable, Parameter, Stage
from autocompress.recipe import TRAIN, Step
from tests.explore.space.strategies import ALL, BUILD, FOLD, PRUNE, TUNE, names, space_of


def test_ladder_goes_from_the_mildest_to_the_strongest_with_defaults_else():
    rising = {ladder[0].steps[0].strategy: ladder for ladder in ladders(space_of(*ALL))}
    assert set(rising) == {"shrink", "carve", "fold"}
    assert [r.steps[0].values["ratio"] for r in rising["carve"]] == [0.1, 0.3, 0.5, 0.7]
    assert [r.steps[0].values["width"] for r in rising["shrink"]] == [0.9, 0.5, 0.1]
    for recipe in rising["carve"]:
        assert recipe.steps[0].values["kind"] == "l2"
        assert recipe.steps[1:] == (Step.of("imitate", alpha=0.9), Step.of(TRAIN, lr=0.001, batch_size=64))


def test_a_strategy_of_several_strengths_has_a_ladder_on_which_all_rise_together():
    depth = Parameter("depth", (0, 1, 2), 0, by_strength=True)
    shrink = Applicable("shrink", (Stage.BUILD,), (*BUILD.parameters, depth))
    together, alone = ladders(space_of(shrink, TUNE))
    for ladder, depths in ((alone, (0, 0, 0)), (together, (0, 1, 2))):
        strengths = [recipe.steps[0].values for recipe in ladder]
        assert [(s["width"], s["depth"]) for s in strengths] == list(zip((0.9, 0.5, 0.1), depths, strict=True))


def test_strongest_is_each_structure_at_its_end_and_all_together():
    recipes = strongest_recipes(space_of(*ALL))
    ends = (Step.of("shrink", width=0.1), Step.of("carve", ratio=0.7, kind="l2"), Step.of("fold", depth=3))
    structures = {tuple(s for s in r.steps if s.strategy in ("shrink", "carve", "fold")) for r in recipes}
    assert structures == {ends, *((end,) for end in ends)}
    assert len(strongest_recipes(space_of(FOLD, TUNE))) == 1
    assert strongest_recipes(space_of(TUNE)) == []


def test_strongest_goes_to_the_end_of_every_strength():
    fine = Parameter("round_to", (16, 4, 1), 4, by_strength=True)
    carve = Applicable("carve", (Stage.STRUCTURE,), (*PRUNE.parameters, fine))
    ends = [r.steps[0].values for r in strongest_recipes(space_of(carve, TUNE))]
    assert {(e["ratio"], e["round_to"]) for e in ends} == {(0.7, 1), (0.7, 4)}


def test_each_structural_strategy_alone_has_its_defaults_and_is_trained():
    taught = (Step.of("imitate", alpha=0.9), Step.of(TRAIN, lr=0.001, batch_size=64))
    alone = [Step.of("shrink", width=0.5), Step.of("carve", ratio=0.3, kind="l2"), Step.of("fold", depth=2)]
    assert [r.steps for r in single_defaults(space_of(*ALL))] == [(step, *taught) for step in alone]


def test_a_strategy_that_says_nothing_of_it_trains_a_default_where_there_is_no_other():
    modest = Applicable("modest", (Stage.TRAIN,))
    assert names(default_recipe(space_of(FOLD, modest), [Step.of("fold", depth=1)])) == {"fold", "modest", TRAIN}


def test_default_and_strongest_recipes_are_in_the_space():
    space = space_of(*ALL)
    for recipe in (*strongest_recipes(space), *(r for ladder in ladders(space) for r in ladder)):
        assert space.sample(optuna.trial.FixedTrial(space.params(recipe))) == recipe


def test_defaults_respect_tags():
    narrow = frozenset({"narrow"})
    carve = Applicable("carve", (Stage.STRUCTURE,), PRUNE.parameters, narrow, narrow)
    fold = Applicable("fold", (Stage.STRUCTURE,), FOLD.parameters, narrow, narrow)
    assert not any({"carve", "fold"} <= names(r) for r in strongest_recipes(space_of(carve, fold, TUNE)))


def test_a_recipe_rises_from_its_mildest_strengths_to_its_own():
    (strongest,) = (r for r in strongest_recipes(space_of(*ALL)) if {"shrink", "carve", "fold"} <= names(r))
    ladder = ladder_to(space_of(*ALL), strongest)
    assert [r.steps[1].values["ratio"] for r in ladder] == [0.1, 0.3, 0.5, 0.7]
    assert [r.steps[0].values["width"] for r in (ladder[0], ladder[-1])] == [0.9, 0.1]
    assert ladder[-1] == strongest
    assert {r.steps[-1] for r in ladder} == {strongest.steps[-1]}, "it is trained the same way"


def test_neighbours_have_one_strategy_less_or_one_more_in_the_place_of_what_it_does_not_go_with():
    narrow = frozenset({"narrow"})
    carve = Applicable("carve", (Stage.STRUCTURE,), PRUNE.parameters, narrow, narrow)
    fold = Applicable("fold", (Stage.STRUCTURE,), FOLD.parameters, narrow, narrow)
    space = space_of(BUILD, carve, fold, TUNE)
    together = strongest_recipes(space)[0]
    assert {"shrink", "carve"} <= names(together)
    near = [names(recipe) & {"shrink", "carve", "fold"} for recipe in strongest_neighbours(space, together)]
    assert near == [{"carve"}, {"shrink"}, {"shrink", "fold"}]
