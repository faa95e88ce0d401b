"""The search space: how a recipe becomes a trial and comes back, what excludes what, and how a file narrows it."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

from autocompress.errors import UsageError
from autocompress.explore.space import Space, SpaceFile, load_space
from autocompress.plugin.contract import Applicable, Parameter, Refusal, Stage
from autocompress.plugin.loader import PluginSet
from autocompress.recipe import TRAIN, Recipe, Step

TEACHER = frozenset({"teacher"})
BUILD = Applicable("shrink", (Stage.BUILD,), (Parameter("width", (0.9, 0.5, 0.1), 0.5, True),))
PRUNE = Applicable(
    "carve",
    (Stage.STRUCTURE,),
    (Parameter("ratio", (0.1, 0.3, 0.5, 0.7), 0.3, True), Parameter("kind", ("l1", "l2"), "l2")),
)
FOLD = Applicable("fold", (Stage.STRUCTURE,), (Parameter("depth", (1, 2, 3), 2, True),))
TEACH = Applicable("imitate", (Stage.TRAIN,), (Parameter("alpha", (0.5, 0.9), 0.9),), TEACHER, trains_alone=True)
TUNE = Applicable("tune", (Stage.TRAIN,), (), frozenset(), TEACHER, trains_alone=True)
QUANTIZE = Applicable("squeeze", (Stage.GRAPH,), variants=({"bits": 8},))
ALL = (QUANTIZE, TUNE, TEACH, FOLD, PRUNE, BUILD)


def space_of(*applicable: Applicable, parameters: dict[str, Sequence[Any]] | None = None) -> Space:
    return Space.of(SpaceFile(name="mine", parameters=parameters or {}), applicable, [])


def sampled(space: Space, trials: int = 200, seed: int = 0) -> list[Recipe]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [space.sample(study.ask()) for _ in range(trials)]


def names(recipe: Recipe) -> set[str]:
    return {step.strategy for step in recipe.steps}


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
    for recipe in sampled(space):
        assert space.sample(optuna.trial.FixedTrial(space.params(recipe))) == recipe


def test_order_among_structural_strategies_is_searched():
    both = [r for r in sampled(space_of(PRUNE, FOLD, TUNE)) if {"carve", "fold"} <= names(r)]
    assert {tuple(s.strategy for s in r.steps[:2]) for r in both} == {("carve", "fold"), ("fold", "carve")}


def test_any_order_of_many_structural_strategies_is_asked_for_as_it_is():
    strategies = [Applicable(name, (Stage.STRUCTURE,)) for name in ("a", "b", "c", "d")]
    space = space_of(*strategies, TUNE)
    for order in itertools.permutations("abcd"):
        recipe = space.default([Step.of(name) for name in order])
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
    assert not any({"aa", "bb"} <= names(r) for r in sampled(space_of(says_so_first, provides_it)))


def test_structure_that_excludes_the_last_training_strategy_is_trained_all_the_same():
    carve = Applicable("carve", (Stage.STRUCTURE,), (), TEACHER)  # `tune` excludes it
    for recipe in sampled(space_of(carve, TEACH, TUNE)):
        assert "carve" not in names(recipe) or "imitate" in names(recipe)


def test_a_strategy_that_says_nothing_of_it_trains_where_there_is_no_other():
    modest = Applicable("modest", (Stage.TRAIN,))
    recipes = sampled(space_of(FOLD, modest))
    assert all(names(r) >= {"modest", TRAIN} for r in recipes if "fold" in names(r))
    assert names(space_of(FOLD, modest).default([Step.of("fold", depth=1)])) == {"fold", "modest", TRAIN}


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


# -- defaults, ladders, the strongest ----------------------------------------------------------------------------------


def test_ladder_goes_from_the_mildest_to_the_strongest_with_defaults_else():
    ladders = {ladder[0].steps[0].strategy: ladder for ladder in space_of(*ALL).ladders()}
    assert set(ladders) == {"shrink", "carve", "fold"}
    assert [r.steps[0].values["ratio"] for r in ladders["carve"]] == [0.1, 0.3, 0.5, 0.7]
    assert [r.steps[0].values["width"] for r in ladders["shrink"]] == [0.9, 0.5, 0.1]
    for recipe in ladders["carve"]:
        assert recipe.steps[0].values["kind"] == "l2"
        assert recipe.steps[1:] == (Step.of("imitate", alpha=0.9), Step.of(TRAIN, lr=0.002, batch_size=64))


def test_a_strategy_of_several_strengths_has_a_ladder_on_which_all_rise_together():
    depth = Parameter("depth", (0, 1, 2), 0, by_strength=True)
    shrink = Applicable("shrink", (Stage.BUILD,), (*BUILD.parameters, depth))
    together, alone = space_of(shrink, TUNE).ladders()
    for ladder, depths in ((alone, (0, 0, 0)), (together, (0, 1, 2))):
        strengths = [recipe.steps[0].values for recipe in ladder]
        assert [(s["width"], s["depth"]) for s in strengths] == list(zip((0.9, 0.5, 0.1), depths, strict=True))


def test_strongest_is_each_structure_at_its_end_and_all_together():
    recipes = space_of(*ALL).strongest()
    ends = (Step.of("shrink", width=0.1), Step.of("carve", ratio=0.7, kind="l2"), Step.of("fold", depth=3))
    structures = {tuple(s for s in r.steps if s.strategy in ("shrink", "carve", "fold")) for r in recipes}
    assert structures == {ends, *((end,) for end in ends)}
    assert len(space_of(FOLD, TUNE).strongest()) == 1
    assert space_of(TUNE).strongest() == []


def test_strongest_goes_to_the_end_of_every_strength():
    fine = Parameter("round_to", (16, 4, 1), 4, by_strength=True)
    carve = Applicable("carve", (Stage.STRUCTURE,), (*PRUNE.parameters, fine))
    ends = [r.steps[0].values for r in space_of(carve, TUNE).strongest()]
    assert {(e["ratio"], e["round_to"]) for e in ends} == {(0.7, 1), (0.7, 4)}


def test_default_and_strongest_recipes_are_in_the_space():
    space = space_of(*ALL)
    for recipe in (*space.strongest(), *(r for ladder in space.ladders() for r in ladder)):
        assert space.sample(optuna.trial.FixedTrial(space.params(recipe))) == recipe


def test_defaults_respect_tags():
    narrow = frozenset({"narrow"})
    carve = Applicable("carve", (Stage.STRUCTURE,), PRUNE.parameters, narrow, narrow)
    fold = Applicable("fold", (Stage.STRUCTURE,), FOLD.parameters, narrow, narrow)
    assert not any({"carve", "fold"} <= names(r) for r in space_of(carve, fold, TUNE).strongest())


# -- narrowing by a file -----------------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "space.toml"
        path.write_text(text)
        return str(path)

    return write


def test_file_narrows_strategies_and_choices(write: Callable[[str], str], plugins: PluginSet):
    head = 'name = "mine"\nstrategies = ["prune_channels", "finetune"]\n'
    file = load_space(write(head + '[parameters]\n"prune_channels.ratio" = [0.5, 0.3]\n'), plugins)
    prune = Applicable("prune_channels", (Stage.STRUCTURE,), (Parameter("ratio", (0.1, 0.3, 0.5), 0.1, True),))
    space = Space.of(file, [prune, Applicable("finetune", (Stage.TRAIN,)), TEACH], [])
    assert [a.name for a in space.families] == ["prune_channels", "finetune"]
    (ratio,) = space.families[0].parameters
    assert ratio.choices == (0.3, 0.5)  # in the strategy's own order: the mildest first
    assert ratio.default in ratio.choices
    assert ratio.by_strength


@pytest.mark.parametrize("name", ["default", "post_training", "structured"])
def test_ready_spaces_load(name: str, plugins: PluginSet):
    space = load_space(name, plugins)
    assert space.name == name
    assert set(space.strategies or ()) <= set(plugins.strategies)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("strategies = []", "name: Field required"),
        ('name = "a"\nstrategy = ["x"]', r"unknown field 'strategy': did you mean 'strategies'\?"),
        ('name = "a"\nstrategies = "all"', "strategies: Input should be a valid tuple"),
        ('name = "a"\nstrategies = ["prune_chanels"]', r"strategy 'prune_chanels': did you mean 'prune_channels'\?"),
        ('name = "a"\n[parameters]\n"prune_chanels.ratio" = [0.5]', r"did you mean 'prune_channels'\?"),
        ('name = "a"\n[parameters]\n"prune_channels.ratio" = []', r"prune_channels\.ratio: .*at least 1"),
        ('name = "a"\n[parameters]\n"prune_channels.ratio" = 0.5', r"prune_channels\.ratio: .*\(got 0\.5\)"),
        (f'name = "a"\n[parameters]\n"prune_channels.ratio" = {list(range(2000))}', r"ratio: .*at most 1000"),
        ('name = "a', "is not TOML"),
    ],
    ids=[
        "nameless", "misspelt field", "not a list", "misspelt strategy", "misspelt owner of a parameter", "no choice",
        "one number", "too many choices", "no TOML",
    ],
)  # fmt: skip
def test_mistake_in_a_file_names_file_and_field(text: str, cause: str, write: Callable[[str], str], plugins: PluginSet):
    path = write(text)
    with pytest.raises(UsageError, match=cause) as caught:
        load_space(path, plugins)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_unknown_name(tmp_path: Path, plugins: PluginSet):
    with pytest.raises(UsageError, match=r"cannot read the search space .*none\.toml: No such file"):
        load_space(str(tmp_path / "none.toml"), plugins)
    with pytest.raises(UsageError, match=r"unknown search space 'defalt': did you mean 'default'\?"):
        load_space("defalt", plugins)


@pytest.mark.parametrize(
    ("parameters", "cause"),
    [
        (
            {"carve.ratoi": [0.5]},
            r"search space 'mine': unknown parameter 'carve\.ratoi': did you mean 'carve\.ratio'\?",
        ),
        ({"carve.ratio": ["half"]}, "ratio: 'half' is str, expected float/int"),
        ({"fold.depth": [1.5]}, "depth: 1.5 is float, expected int"),
        ({"train.batch_size": [True]}, "batch_size: True is bool, expected int"),
        ({"train.lr": ["fast"]}, "lr: 'fast' is str"),
    ],
)
def test_mistake_in_a_parameter_is_refused(parameters: dict[str, Sequence[Any]], cause: str):
    with pytest.raises(UsageError, match=cause):
        space_of(*ALL, parameters=parameters)


def test_own_numbers_may_replace_a_strategys_choices():
    space = space_of(PRUNE, TUNE, parameters={"carve.ratio": [0.25, 0.35], "train.lr": [0.01]})
    assert space.families[0].parameters[0].choices == (0.25, 0.35)
    assert {s.values["lr"] for r in sampled(space) for s in r.steps if s.strategy == TRAIN} == {0.01}


def test_unknown_word_among_choices_is_refused():
    with pytest.raises(UsageError, match="l3"):
        space_of(PRUNE, TUNE, parameters={"carve.kind": ["l3"]})


@pytest.mark.parametrize(
    ("key", "value"), [("train.batch_size", 0), ("train.batch_size", -8), ("train.lr", 0.0), ("train.lr", float("nan"))]
)
def test_impossible_training_settings_are_refused(key: str, value: float):
    with pytest.raises(UsageError, match=key.split(".")[1]):
        space_of(PRUNE, TUNE, parameters={key: [value]})


def test_own_numbers_of_a_strength_go_from_mild_to_strong():
    space = space_of(PRUNE, TUNE, parameters={"carve.ratio": [0.65, 0.15, 0.35]})
    assert space.families[0].parameters[0].choices == (0.15, 0.35, 0.65)


def test_choices_for_a_strategy_that_does_not_apply_here_are_no_mistake():
    file = SpaceFile(name="mine", parameters={"carve.ratio": (0.5,)})
    space = Space.of(file, [FOLD, TUNE], [Refusal("carve", "no convolution")])
    assert [a.name for a in space.families] == ["fold", "tune"]


def test_space_where_nothing_applies_says_why():
    with pytest.raises(UsageError, match=r"no strategy of the space 'mine' applies.*carve: no convolution"):
        Space.of(SpaceFile(name="mine"), [], [Refusal("carve", "no convolution")])


# -- comparing the spaces of two runs ----------------------------------------------------------------------------------


def test_description_changes_with_any_choice_and_lists_every_strategy():
    whole = space_of(*ALL).describe()
    assert whole["carve.ratio"] == [0.1, 0.3, 0.5, 0.7]
    assert {"shrink", "carve", "fold", "imitate", "tune", "squeeze", "train.lr"} <= set(whole)
    assert space_of(*ALL, parameters={"carve.ratio": [0.1, 0.3]}).describe() != whole
    fewer = space_of(PRUNE, TUNE).describe()
    assert all(whole[key] == value for key, value in fewer.items())  # an added strategy leaves the others as they were
