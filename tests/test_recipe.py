"""A recipe names one model: its id is the same everywhere, and its file brings back all that was stored and no code."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from autocompress.errors import UsageError
from autocompress.recipe import Recipe, RecipeFile, Step

RECIPE = Recipe(
    (
        Step.of("prune_channels", ratio=0.5, importance="l2", round_to=8),
        Step.of("distill_logits", alpha=1.0, temperature=4.0),
        Step.of("train", lr=0.002, batch_size=128),
    ),
    Step.of("quantize_static", activations="QUInt8"),
)

MINIMAL = 'schema=2\ntask="a"\nfingerprint="f"\nprofile="cpu"\nseed=0\nexporter="dynamo"\nepochs=1.0\n'


@pytest.fixture
def stored() -> RecipeFile:
    return RecipeFile(
        recipe=RECIPE,
        task='dig"its\n',
        fingerprint="0123456789abcdef",
        profile="cpu",
        seed=7,
        exporter="torchscript",
        epochs=2.5,
        plans=({"history": [["conv", True, [0, 3]], ["ünïcode", False, []]], "seed": None},),
        weights="../../store/weights-1.safetensors",
        learned={"distill_logits": {"scales": [0.5, 2.0]}},
        calibration={"examples": 37, "few_rows": [{"layer": "body.1", "rows": 28, "regressors": 64}]},
        facts={"val": 0.97, "ratio": 0.25},
    )


def read(folder: Path, text: str | bytes) -> RecipeFile:
    path = folder / "recipe.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return RecipeFile.read(path)


def test_id_does_not_depend_on_the_order_of_parameters():
    one = Recipe((Step.of("a", x=1, y="two", z=0.3),))
    other = Recipe((Step.of("a", z=0.3, y="two", x=1),))
    assert one == other
    assert one.id == other.id


def test_id_is_the_same_in_another_process():
    code = (
        "from autocompress.recipe import Recipe, Step;"
        "print(Recipe((Step.of('b', round_to=8, ratio=0.5, kind='l2', on=True), Step.of('a'))).id)"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert other == Recipe((Step.of("b", kind="l2", on=True, ratio=0.5, round_to=8), Step.of("a"))).id
    assert len(other) == 10
    assert set(other) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "changed",
    [
        Recipe((Step.of("a", x=2), Step.of("b"))),
        Recipe((Step.of("a", y=1), Step.of("b"))),
        Recipe((Step.of("b"), Step.of("a", x=1))),
        Recipe((Step.of("a", x=1),)),
        Recipe((Step.of("a", x="1"), Step.of("b"))),
        Recipe(),
    ],
)
def test_id_tells_different_recipes_apart(changed: Recipe):
    assert changed.id != Recipe((Step.of("a", x=1), Step.of("b"))).id


def test_json_round_trip_keeps_order_types_and_id():
    again = Recipe.from_json(RECIPE.to_json())
    assert again == RECIPE
    assert again.id == RECIPE.id
    assert [step.strategy for step in again.steps] == [step.strategy for step in RECIPE.steps]
    assert type(again.steps[1].values["alpha"]) is float


def test_toml_round_trip_with_plans_and_weights(stored: RecipeFile, tmp_path: Path):
    again = read(tmp_path, stored.to_toml())
    assert again == stored
    assert again.recipe.id == stored.recipe.id
    assert again.plans == stored.plans


def test_toml_round_trip_without_weights_or_plans(tmp_path: Path):
    bare = RecipeFile(Recipe(), task="t", fingerprint="f", profile="cpu", seed=0, exporter="dynamo")
    assert read(tmp_path, bare.to_toml()) == bare


def test_a_strategy_may_act_on_the_weights_and_on_the_file(tmp_path: Path):
    family = Recipe((Step.of("aware", starts_at=0.5), Step.of("train", lr=0.1)))
    recipe = family.rewritten(Step.of("aware", bits=8))
    stored = RecipeFile(recipe, "t", "f", "cpu", 0, "dynamo", learned={"aware": {"scale": 2.0}})
    text = stored.to_toml()
    assert text.count("scale") == 1
    again = read(tmp_path, text)
    assert (again.recipe, again.recipe.family, again.learned) == (recipe, family, stored.learned)
    assert recipe.techniques() == "aware"
    assert len({recipe.id, family.id, family.plus(Step.of("aware", bits=8)).id}) == 3


def test_several_plans_stay_in_their_order(tmp_path: Path):
    steps = Recipe((Step.of("student", width=0.5), Step.of("prune", ratio=0.1), Step.of("finetune")))
    stored = RecipeFile(steps, "t", "f", "cpu", 0, "dynamo", plans=({"which": "first"}, {"which": "second"}))
    assert [plan["which"] for plan in read(tmp_path, stored.to_toml()).plans] == ["first", "second"]


@pytest.mark.parametrize(
    "payload",
    [pickle.dumps({"schema": 1}), pickle.dumps([Step.of("a")], protocol=2), b"PK\x03\x04 a torch archive"],
    ids=["pickle", "old pickle", "zipped checkpoint"],
)
def test_pickle_is_refused_by_name(payload: bytes, tmp_path: Path):
    with pytest.raises(UsageError, match=r"recipe\.toml is a pickle.*give a recipe\.toml"):
        read(tmp_path, payload)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "schema is None"),
        ("schema = 1", "schema is 1, this version reads 2"),
        ("schema = ", "is not a TOML recipe"),
        (b"\xff\xfe\x00", "is not a TOML recipe"),
        ("schema = 2", "missing or malformed field: 'task'"),
        (MINIMAL + "step = 3", "missing or malformed field"),
        (MINIMAL + '[step]\nstrategy = "x"', "missing or malformed field"),
        (MINIMAL + "[[step]]\nparams = {}", "missing or malformed field: 'strategy'"),
        (MINIMAL + '[[step]]\nstrategy = "x"\nparams = [1]', "missing or malformed field"),
        (MINIMAL + '[[step]]\nstrategy = "x"\nparams = {}\nplan = "{"', "missing or malformed field"),
    ],
)
def test_malformed_file_is_one_line_that_names_file_and_cause(text: str | bytes, cause: str, tmp_path: Path):
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert cause in str(caught.value)
    assert str(tmp_path / "recipe.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder_are_usage_errors(tmp_path: Path):
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(UsageError, match="cannot read the recipe"):
            RecipeFile.read(path)


@pytest.mark.parametrize(
    "text",
    [
        "weights = 3\n" + MINIMAL,
        MINIMAL.replace("seed=0", 'seed="x"'),
        MINIMAL.replace("1.0", '"many"'),
        MINIMAL + "[[step]]\nstrategy = 3\nparams = {}",
        MINIMAL + '[[step]]\nstrategy = "x"\nparams = {a = [1, 2]}',
        MINIMAL + '[[step]]\nstrategy = "x"\nparams = {}\nplan = "[1]"',
    ],
)
def test_wrongly_typed_field_is_refused(text: str, tmp_path: Path):
    with pytest.raises(UsageError, match="missing or malformed field"):
        read(tmp_path, text)


def test_equal_recipes_have_equal_ids_whatever_the_number_type():
    one, other = (Recipe((Step.of("prune", ratio=value),)) for value in (1, 1.0))
    assert one == other
    assert one.id == other.id


def test_description_names_the_techniques_and_not_the_training():
    assert RECIPE.techniques() == "prune_channels+distill_logits+quantize_static"
    assert Recipe().techniques() == "unchanged"
    assert str(Recipe((Step.of("a", x=1), Step.of("b")))) == "a(x=1) + b"
