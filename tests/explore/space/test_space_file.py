"""How a file narrows a search space, and which mistakes in it are refused."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from autocompress.errors import UsageError
from autocompress.explore.space.space import Space
from autocompress.explore.space.space_file import SpaceFile, load_space
from autocompress.plugin.contract import Applicable, Parameter, Refusal, Stage, stages_of
from autocompress.plugin.loader import PluginSet
from autocompress.recipe import TRAIN
from tests.explore.space.strategies import ALL, FOLD, PRUNE, TEACH, TUNE, sampled, space_of


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


@pytest.mark.parametrize(
    ("name", "stages"),
    [("default", set(Stage)), ("structured", set(Stage) - {Stage.GRAPH})],
)
def test_ready_spaces_load(name: str, stages: set[Stage], plugins: PluginSet):
    space = load_space(name, plugins)
    assert space.name == name
    assert set(space.strategies or ()) <= set(plugins.strategies)
    named = space.strategies or plugins.strategies
    assert {stage for own in named for stage in stages_of(plugins.strategy(own))} == stages


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


def test_where_only_training_applies_and_nothing_is_to_be_trained_it_is_said():
    with pytest.raises(UsageError, match="tune trains, and nothing is to be trained"):
        Space.of(SpaceFile(name="mine", train=False), [TUNE], [])
