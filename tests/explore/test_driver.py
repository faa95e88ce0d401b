"""Whole searches, in this process and on a clock that counts operations."""

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from autocompress import Task
from autocompress.budget import Budget
from autocompress.compute.executor import InProcess
from autocompress.errors import AutocompressError, Interrupted, UsageError
from autocompress.evaluation import Evaluation, Score
from autocompress.explore.clock.clock import Clock
from autocompress.explore.clock.durations import Durations
from autocompress.explore.concurrency import all_done
from autocompress.explore.finishing.measuring import last_of
from autocompress.explore.pipeline.gating import Gating
from autocompress.explore.pipeline.pipeline import Gate, Pipeline
from autocompress.explore.policy import SearchPolicy
from autocompress.explore.standings.front import dominates
from autocompress.latency import Latency
from autocompress.plugin.contract import Context, GraphStrategy, Params, StructureStrategy, TrainHook, TrainingStrategy
from autocompress.plugin.loader import PluginSet
from autocompress.recipe import Recipe, Step


def test_the_most_accurate_model_within_the_budget_is_recommended_and_delivered(run: Any, tmp_path: Path) -> None:
    document = run(speedup=3)
    assert document == json.loads((tmp_path / "run" / "front.json").read_text())
    assert document["status"] == "feasible"
    feasible = [c for c in document["candidates"] if c["feasible"]]
    chosen = next(c for c in document["candidates"] if c["id"] == document["recommended"])
    assert chosen["latency_ms"]["ratio"] <= 1 / 3
    assert chosen["score"]["val"] >= max(c["score"]["val"] for c in feasible) - 0.001 - 1e-9
    assert (tmp_path / "run" / "recommended" / "model.onnx").read_bytes() == (
        tmp_path / "run" / chosen["artifact"]
    ).read_bytes()
    assert (tmp_path / "run" / "report.html").exists()
    points = [(c["score"]["val"], c["latency_ms"]["ratio"]) for c in document["candidates"] if c["on_front"]]
    assert not any(dominates(a, b) for a in points for b in points)
    finalists = [c for c in document["candidates"] if c["on_front"] or c is chosen]
    assert all(c["score"]["test"] is not None for c in finalists), "finalists are scored on the test split"


@pytest.mark.parametrize("space", ["default", "post_training"])
def test_on_a_machine_that_is_always_busy_measurements_that_agree_count(
    space: str, run: Any, clear_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autocompress.measure.timing.is_quiet", lambda reference: False)
    monkeypatch.setattr("autocompress.measure.timing.time.sleep", lambda seconds: None)
    document = run(clear_task, trials=1, space=space)
    chosen = next(c for c in document["candidates"] if c["id"] == document["recommended"])
    assert chosen["latency_ms"]["ratio"] <= 1 / 1.5
    once = [c for c in document["candidates"] if not c["latency_ms"]["reliable"]]
    assert once, "a file that was measured once, and disturbed, still does not"
    assert any("disturbed the measurement of the reference" in warning for warning in document["warnings"])


def test_the_floor_is_of_the_exporter_that_is_used(
    run: Any, dynamo_is_faster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run(speedup=3, trials=1, quiet=False, policy=SearchPolicy())
    said = capsys.readouterr().err
    first, second = (float(ms) for ms in re.findall(r"smallest structure takes ([\d.]+) ms", said))
    assert second == pytest.approx(first / 2)


class SureWhenScored(GraphStrategy):
    """Applies, it turns out, once more examples can be looked at."""

    name = "sure_when_scored"

    def refuses(self, context: Context) -> str | None:
        return None if context.scored else "these examples do not tell"

    def variants(self, context: Context) -> Sequence[Params]:
        return [{}]

    def apply(self, source: Path, target: Path, params: Params, context: Context) -> None:
        target.write_bytes(source.read_bytes())


def test_the_floor_is_of_the_space_that_is_searched(
    run: Any, plugins: PluginSet, capsys: pytest.CaptureFixture[str]
) -> None:
    plugins.strategies["sure_when_scored"] = SureWhenScored()
    run(speedup=3, trials=1, quiet=False, console=Console(width=200))
    said = capsys.readouterr().out
    assert said.count("other strategies apply: the floor is timed again") == 1
    assert said.count("smallest structure takes") == 2


def test_a_sound_measurement_is_not_overruled_by_disturbed_ones(make_latency: Callable[..., Latency]) -> None:
    own = Evaluation("a", Recipe(), 1.0, 0, Score(0.9, 0.88, 0.92), make_latency(0.195), 10, 8, 5, 7, "a", "a", "v")
    busy = [make_latency(ratio, reliable=False) for ratio in (0.205, 0.21, 0.215)]
    assert last_of(own, busy) is None
    assert last_of(own, [*busy, make_latency(0.2)]) == make_latency(0.2)
    disturbed = replace(own, latency=make_latency(0.2, reliable=False))
    assert last_of(disturbed, busy[:1]) is None
    found = last_of(disturbed, busy[:2])
    assert found is not None
    assert found.ratio == 0.21, "with its own there are three"


def test_under_a_budget_one_model_has_the_time_that_is_left(run: Any) -> None:
    document = run(speedup=3)
    trained: dict[str, float] = {}
    for c in document["candidates"]:
        family = json.dumps([step for step in c["recipe"] if not step.get("variant")])
        trained[family] = max(trained.get(family, 0.0), c["fidelity"])
    most, second, *_ = sorted(trained.values(), reverse=True)
    assert most > 3 * second > 0


def test_what_the_gate_rejects_is_never_trained(run: Any, plugins: PluginSet) -> None:
    document = run(speedup=6)
    assert document["rejected"], "the mild structures of the bisection are over a sixth of the latency"
    over = [c for c in document["candidates"] if c["recipe"] and c["fidelity"] > 0 and c["latency_ms"]["ratio"] > 0.6]
    assert len({json.dumps(c["recipe"][0]) for c in over}) <= 1, "but for the one family in ten that explores beyond"


def test_without_a_budget_the_fastest_within_a_point_is_recommended(run: Any) -> None:
    document = run()
    within = [c for c in document["candidates"] if c["score"]["val"] >= document["reference"]["score"]["val"] - 0.01]
    chosen = next(c for c in document["candidates"] if c["id"] == document["recommended"])
    assert chosen in within
    assert chosen["latency_ms"]["ratio"] == min(c["latency_ms"]["ratio"] for c in within if c["on_front"])


def test_a_budget_below_the_floor_keeps_the_nearest(run: Any, tmp_path: Path) -> None:
    document = run(speedup=1e6)
    assert document["status"] == "infeasible"
    assert document["recommended"] is None
    ratios = [c["latency_ms"]["ratio"] for c in document["candidates"]]
    near = next(c for c in document["candidates"] if c["id"] == document["nearest"])
    assert near["latency_ms"]["ratio"] == min(ratios)
    assert (tmp_path / "run" / "nearest" / "model.onnx").exists()
    assert not (tmp_path / "run" / "recommended").exists()


@pytest.mark.parametrize(("speedup", "said"), [(1e6, "cannot be met here: the floor"), (3, "can be met")])
def test_whether_a_budget_can_be_met_is_known_before_the_reference_is_evaluated(
    speedup: float, said: str, run: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    own = InProcess.call

    async def call(self: InProcess, method: str, *args: Any, limit_s: float | None = None) -> Any:
        called.append(method)
        return await own(self, method, *args, limit_s=limit_s)

    monkeypatch.setattr(InProcess, "call", call)
    run(speedup=speedup, trials=1, quiet=False, console=Console(width=200))
    before = called[: called.index("score")]
    assert before.index("compare") < before.index("time_training")
    assert capsys.readouterr().out.count(said) == 1


def test_a_budget_that_binds_nothing_is_said_to_be_so(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(width=200)
    document = run(budget_ms=1e6, quiet=False, console=console)
    said = capsys.readouterr().out
    assert "binds nothing" in said
    assert "--budget-ms" in said
    assert document["status"] == "feasible"
    assert any(c["latency_ms"]["ratio"] < 0.5 for c in document["candidates"] if c["on_front"]), (
        "the front is explored all the same"
    )


class Explodes(StructureStrategy):
    name = "explodes"

    def plan(self, model, params, context):  # type: ignore[no-untyped-def]
        raise RuntimeError("no such luck")

    def apply(self, model, plan, context):  # type: ignore[no-untyped-def]
        return model


def test_one_failing_strategy_does_not_end_the_search(run: Any, plugins: PluginSet) -> None:
    plugins.strategies["explodes"] = Explodes()
    plugins.origin["strategies:explodes"] = "tests 0"
    document = run(speedup=3, trials=4)
    assert document["status"] == "feasible"
    assert all(f["strategy"] == "explodes" and "no such luck" in f["reason"] for f in document["failed"])


def test_a_structure_is_gated_once_whether_it_fails_or_not(
    run: Any, plugins: PluginSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins.strategies["explodes"] = Explodes()
    plugins.origin["strategies:explodes"] = "tests 0"
    gated: list[tuple[str, ...]] = []

    async def gate(pipeline: Pipeline, recipe: Recipe, budget: Budget, limit_s: float) -> Gate:
        trained = {"train"} | {n for n, s in plugins.strategies.items() if not isinstance(s, StructureStrategy)}
        gated.append(tuple(s.strategy if s.strategy in trained else str(s) for s in recipe.steps))
        return await own(pipeline, recipe, budget, limit_s)

    own = Pipeline.gate
    monkeypatch.setattr(Pipeline, "gate", gate)
    document = run(speedup=3, trials=12)
    assert len([f for f in document["failed"] if f["strategy"] == "explodes"]) > 1, "in several recipes"
    assert len(gated) == len(set(gated))


def test_when_everything_fails_the_search_stops_and_groups_the_causes(run: Any, plugins: PluginSet) -> None:
    for name in list(plugins.strategies):
        del plugins.strategies[name]
    plugins.strategies["explodes"] = Explodes()

    class Anything(TrainingStrategy):
        name = "anything"

        def parameters(self, context):  # type: ignore[no-untyped-def]
            from autocompress.plugin.contract import Parameter

            return [Parameter("size", tuple(range(50)), 3)]

        def hook(self, params, context) -> TrainHook:  # type: ignore[no-untyped-def]
            raise RuntimeError("no such luck")

    plugins.strategies["anything"] = Anything()
    with pytest.raises(AutocompressError, match=r"every candidate fails.*5x RuntimeError: no such luck"):
        run(trials=50)


def test_a_space_limits_what_is_tried(run: Any) -> None:
    dense = run(space="structured", out="dense")
    assert all(not s["strategy"].startswith("quantize") for c in dense["candidates"] for s in c["recipe"])
    assert any(c["fidelity"] > 0 for c in dense["candidates"])
    free = run(space="post_training", out="free")
    assert all(c["fidelity"] == 0 for c in free["candidates"])
    assert any(c["recipe"][0]["strategy"] == "quantize_static" for c in free["candidates"] if c["recipe"])


@pytest.fixture
def crashing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Calls whose worker is to crash, one for each entry; each entry goes once it has happened."""
    from autocompress.compute.worker import WorkerCrashed

    planned: list[str] = []
    own = InProcess.call

    async def call(self: InProcess, method: str, *args: Any, limit_s: float | None = None) -> Any:
        if method in planned:
            planned.remove(method)
            raise WorkerCrashed("the worker process ended (SIGSEGV); see worker.log", doing="does it apply?")
        return await own(self, method, *args, limit_s=limit_s)

    monkeypatch.setattr(InProcess, "call", call)
    return planned


def test_a_candidate_goes_on_in_a_new_worker_when_its_own_crashes(
    run: Any, crashing: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    crashing.append("train")
    document = run(speedup=3, quiet=False, console=Console(width=200))
    assert not crashing
    assert document["failed"] == []
    assert document["status"] == "feasible"
    assert "SIGSEGV" in capsys.readouterr().out, "it is said"


def test_an_interruption_ends_what_waits_for_a_worker() -> None:
    called: list[Recipe] = []

    class OneWorker:
        operations = SimpleNamespace(concurrency=1)

        async def gate(self, recipe: Recipe, budget: Budget, limit_s: float) -> None:
            called.append(recipe)
            await asyncio.sleep(0)

    def check_interrupted() -> None:
        if called:
            raise Interrupted("stopped at a safe point")

    gating = Gating(OneWorker(), 1.0, Durations(Clock(60, 0)), check_interrupted)  # type: ignore[arg-type]
    recipes = [Recipe((Step.of("carve", ratio=ratio),)) for ratio in (0.1, 0.2, 0.3)]
    with pytest.raises(Interrupted):
        asyncio.run(all_done(gating.time(recipe, Budget()) for recipe in recipes))
    assert called == recipes[:1]


def test_a_model_that_is_refused_leaves_no_folder(run: Any, branching_task: Task, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="data-dependent control flow"):
        run(branching_task, policy=SearchPolicy())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["prepare", "time_training"])
def test_a_task_that_ends_the_worker_when_it_is_opened_is_told(method: str, run: Any, crashing: list[str]) -> None:
    crashing.append(method)
    with pytest.raises(AutocompressError, match=r"the task could not be opened at \"does it apply\?\": .*SIGSEGV"):
        run()
    assert run()["status"] == "feasible", "nothing of it is kept"


def test_a_candidate_that_crashes_twice_fails_with_the_signal_and_the_search_goes_on(
    run: Any, crashing: list[str]
) -> None:
    crashing += ["train", "train"]
    document = run(speedup=3)
    assert [f["reason"] for f in document["failed"]] == ["the worker process ended (SIGSEGV); see worker.log"]
    assert document["status"] == "feasible"


def test_without_a_budget_nothing_is_trained_that_is_no_faster_than_what_loses_nothing(
    run: Any, clear_task: Task
) -> None:
    document = run(clear_task, trials=6)
    reference = document["reference"]["score"]["val"]
    lossless = [c for c in document["candidates"] if c["score"]["val"] >= reference - 0.001]
    bar = min(c["latency_ms"]["ratio"] for c in lossless if c["fidelity"] == 0)
    assert bar < 1, "int8 alone"
    trained = [c for c in document["candidates"] if c["fidelity"] > 0]
    assert trained
    assert min(c["latency_ms"]["ratio"] for c in trained) < bar
    said = [r for r in document["rejected"] if "too near" in r["reason"] or "loses nothing" in r["reason"]]
    assert said
    assert all(r["ratio"] > 0.9 * min(c["latency_ms"]["ratio"] for c in lossless) for r in said)


@pytest.mark.parametrize(("budget", "shown"), [({}, " so far: "), ({"speedup": 3}, "none meets the budget yet")])
def test_progress_is_the_front_or_under_a_budget_the_best(
    budget: dict[str, Any], shown: str, run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run(trials=1, quiet=False, console=Console(width=200), **budget)
    assert shown in capsys.readouterr().out


def test_where_the_time_went_is_in_the_document(run: Any) -> None:
    document = run(speedup=3)
    spent = document["spent_seconds"]
    assert {"open", "export", "train", "measure", "score", "graph", "structure", "driver"} <= spent.keys()
    assert sum(spent.values()) == pytest.approx(document["wall_seconds"], rel=0.1)


def test_a_search_runs_where_a_loop_runs_already_as_in_a_notebook(run: Any) -> None:
    async def cell() -> dict[str, Any]:
        return run(speedup=3, trials=1)  # type: ignore[no-any-return]

    assert asyncio.run(cell())["status"] == "feasible"


def test_a_metric_that_is_undefined_on_the_test_split_leaves_no_test_score_and_a_note(
    run: Any, tiny_task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs, targets = tiny_task.test  # type: ignore[misc]

    def metric(outputs: Any, targets: Any) -> float:
        return float("nan") if len(targets) == 90 else float((outputs.argmax(1) == targets).float().mean())

    task = replace(tiny_task, metric=metric, test=(inputs[:90], targets[:90]))
    document = run(task, speedup=3, trials=1, quiet=False, console=Console(width=300))
    assert document["status"] == "feasible"
    assert all(c["score"]["test"] is None for c in document["candidates"])
    assert "not a finite number on the test split" in capsys.readouterr().out


def test_a_seed_out_of_range_is_refused_before_anything_is_opened(run: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--seed must be from 0"):
        run(seed=-1)
    assert not (tmp_path / "run").exists()
