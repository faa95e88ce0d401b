"""The benchmark of strategies: who is compared with whom follows from the stages, and what failed is told."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import GraphStrategy, Stage
from autocompress.plugin.loader import PluginSet
from autocompress.recipe import TRAIN, Recipe
from autocompress.testing import tasks

FILE = Path(__file__).parent.parent.parent / "benchmarks" / "strategies.py"
NAME = "benchmark_of_strategies"


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location(NAME, FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[NAME]


class Breaks(GraphStrategy):
    name = "breaks"
    summary = "fails"

    def variants(self, context: Any) -> list[dict[str, Any]]:
        return [{}]

    def apply(self, source: Path, target: Path, params: Any, context: Any) -> None:
        raise CandidateFailed("no room for it")


@pytest.fixture(scope="module")
def opened(
    open_quickly: Callable[..., Any], shared_plugins: PluginSet, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """The CNN, opened once, with every strategy and one that fails."""
    plugins = replace(shared_plugins, strategies={**shared_plugins.strategies, "breaks": Breaks()})
    return open_quickly(tasks.cnn(), plugins, tmp_path_factory.mktemp("cnn"), only=tuple(plugins.strategies))


def test_each_strategy_is_compared_with_the_same_without_it(benchmark: ModuleType, opened: Any) -> None:
    known = {a.name: a for a in opened.opening.applicable}
    assert len(known) >= 12
    for name, own in known.items():
        arms = list(benchmark.arms(opened, name, known))
        if own.stages == (Stage.GRAPH,):
            assert [arm.recipe for arm in arms] == [Recipe()]
            continue
        (having,) = [arm for arm in arms if arm.recipe.step(name)]
        assert having.label == "with"
        assert len(arms) >= 2
        for arm in arms:
            assert arm.recipe.step(TRAIN) == having.recipe.step(TRAIN)
            alone = own.trains_alone or Stage.TRAIN not in own.stages
            assert alone or arm.recipe == having.recipe.without(name) or arm is having, name


def test_a_structure_is_compared_with_a_narrower_model_that_is_as_fast(benchmark: ModuleType, opened: Any) -> None:
    arms = list(benchmark.arms(opened, "prune_channels", {a.name: a for a in opened.opening.applicable}))
    own, control = (benchmark._ratio(opened, arm.recipe) for arm in arms[-2:])
    assert [bool(arm.recipe.step("student")) for arm in arms] == [False, False, True]
    assert control == pytest.approx(own, rel=0.05)
    assert own < 0.5


@pytest.mark.parametrize(
    ("latency", "widths"), [(0.61, [0.6]), (0.65, [0.7, 0.6]), (0.05, [0.1])], ids=["equal", "between", "beyond"]
)
def test_where_no_narrower_model_is_as_fast_the_next_ones_on_either_side_are_taken(
    latency: float,
    widths: list[float],
    benchmark: ModuleType,
    opened: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    def ratio(opened: Any, recipe: Recipe) -> float:
        return float(recipe.steps[0].values.get("width", latency))

    monkeypatch.setattr(benchmark, "_ratio", ratio)
    arms = list(benchmark.arms(opened, "factorize", {a.name: a for a in opened.opening.applicable}))
    assert [arm.recipe.steps[0].values["width"] for arm in arms[2:]] == widths


def test_what_failed_is_in_the_results_and_hides_nothing_else(benchmark: ModuleType, opened: Any) -> None:
    found = benchmark.compared(opened, ["breaks", "prune_recurrent", "factorize"], 64)
    broken, refused, works = found
    assert [row.get("failed") for row in broken] == [None, "breaks: no room for it"]
    (reason,) = (row["failed"] for row in refused)
    assert reason == "it does not apply: no recurrent layer has units that can be removed"
    assert works
    assert all("val" in row for row in works)
    document = {"task": "cnn", "metric": "accuracy", "reference": 0.9, "epochs": 0.5}
    table = benchmark.table({**document, "rows": [{"seed": 0, **row} for row in (*broken, *refused, *works)]})
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(broken) + len(refused) + len(works)
    assert {len(line) for line in lines} == {7}
    assert ["`breaks`", "reference", "unchanged, then breaks", "breaks: no room for it", "", "", ""] in lines
