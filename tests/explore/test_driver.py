"""Whole searches. What they decide is asserted on ones of which nothing is computed, on a declared clock; two are real,
in this process and on a clock that counts operations.
"""

import asyncio
import json
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest
import torch
from rich.console import Console

from autocompress.budget import Budget
from autocompress.errors import Interrupted, UsageError
from autocompress.explore.clock.clock import Clock
from autocompress.explore.clock.durations import Durations
from autocompress.explore.concurrency import all_done
from autocompress.explore.history.history import History
from autocompress.explore.opening.opening import EarlierOpening
from autocompress.explore.pipeline.gating import Gating
from autocompress.explore.progress import Progress
from autocompress.explore.standings.front import dominates
from autocompress.explore.standings.standings import Standings
from autocompress.measure import latency_of
from autocompress.measure.statistics import session_of
from autocompress.profile import HardwareProfile
from autocompress.recipe import Recipe, Step
from autocompress.report.explain import techniques
from autocompress.report.terminal import TerminalView, print_front
from autocompress.storage.folder import RunFolder
from autocompress.storage.record import open_record
from autocompress.storage.recorded_blocks import load_blocks
from autocompress.storage.store import Store
from tests.recordings import kinds
from tests.recordings.declared import Fault, Faults
from tests.recordings.documents import chosen_of, ratio_of, score_of
from tests.recordings.harness import Ended, searched
from tests.recordings.scenarios import WITHIN_A_POINT, Process, Scenario, Stop

Played = Callable[..., Ended]
FOUR_TIMES = Budget(speedup=4)
NO_LUCK = (Fault("drop"), Fault("split"))


def family_of(candidate: dict[str, Any]) -> str:
    return json.dumps([step for step in candidate["recipe"] if not step.get("variant")])


# -- computed ----------------------------------------------------------------------------------------------------------


def test_the_most_accurate_model_within_the_budget_is_recommended_and_delivered(finished: Any) -> None:
    document, root = finished.document, finished.root
    assert document == json.loads((root / "front.json").read_text())
    assert document["status"] == "feasible"
    feasible = [c for c in document["candidates"] if c["feasible"]]
    chosen = chosen_of(document)
    assert ratio_of(chosen) <= 1 / 3
    assert score_of(chosen) >= max(map(score_of, feasible)) - 0.001 - 1e-9
    delivered, measured = root / "recommended" / "model.onnx", root / chosen["artifact"]
    assert delivered.read_bytes().startswith(measured.read_bytes()), "with what it is appended"
    assert (root / "report.html").exists()
    points = [(score_of(c), ratio_of(c)) for c in document["candidates"] if c["on_front"]]
    assert not any(dominates(a, b) for a in points for b in points)
    finalists = [c for c in document["candidates"] if c["on_front"] or c == chosen]
    assert all(c["score"]["test"] is not None for c in finalists), "finalists are scored on the test split"


def test_the_examples_that_changed_are_those_that_both_files_answer_otherwise(finished: Any, tiny_task: Any) -> None:
    changed, root, chosen = finished.document["changed"], finished.root, chosen_of(finished.document)
    inputs, targets = tiny_task.val
    right = []
    for path in (root / "reference" / "model.onnx", root / chosen["artifact"]):
        session = onnxruntime.InferenceSession(path)
        feed = session.get_inputs()[0].name
        answers = [int(session.run(None, {feed: x[None].numpy()})[0].argmax()) for x in inputs]
        right.append(torch.tensor(answers) == targets)
    before, now = right
    assert changed["examples"] == len(targets)
    assert (changed["worse"], changed["better"]) == (int((before & ~now).sum()), int((now & ~before).sum()))
    assert bool(changed["most"]) == bool(changed["worse"])
    for example in changed["most"]:
        assert before[example["number"]]
        assert not now[example["number"]]
        assert example["target"] == example["reference"] == str(int(targets[example["number"]])) != example["own"]


def test_every_latency_can_be_worked_out_again_from_what_its_sessions_recorded(finished: Any, tmp_path: Path) -> None:
    finished.copied_to(tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    store = Store(folder.stored)
    record = open_record(folder.study)
    opening: Any = SimpleNamespace(**vars(EarlierOpening.from_json(Progress(record).opening)))
    standings = Standings(History(opening, record), Budget(speedup=3))
    record.close()
    again = {}
    for sessions in standings.measured.graphs.values():
        for session in sessions:
            blocks = load_blocks(store, session.raw)
            assert blocks is not None, "it is kept"
            found = session_of(blocks, session.reference / session.slowed, 90)
            assert found.log_ratio == pytest.approx(session.log_ratio, abs=1e-3)
            assert found.statistic == pytest.approx(session.statistic, rel=1e-3)
            again[session] = replace(session, log_ratio=found.log_ratio, statistic=found.statistic)
    shown = {c["id"]: c["latency_ms"] for c in finished.document["candidates"]}
    for evaluation in standings.candidates():
        sessions = [again[session] for session in evaluation.latency.sessions]
        ratio = latency_of(sessions, standings.measured.run()).ratio
        assert ratio == pytest.approx(shown[evaluation.id]["ratio"], rel=2e-3)
        assert shown[evaluation.id]["sessions"] == len(sessions)


def test_where_the_time_went_is_in_the_document(finished: Any) -> None:
    spent = finished.document["spent_seconds"]
    assert {"open", "export", "train", "measure", "score", "graph", "structure", "driver"} <= spent.keys()
    workers_s = sum(seconds for name, seconds in spent.items() if name != "measure_beside")
    assert workers_s == pytest.approx(finished.document["wall_seconds"], rel=0.1)


def test_without_training_what_is_repaired_and_quantized_is_measured_as_it_is(run: Any) -> None:
    document = run(no_train=True)
    assert all(c["fidelity"] == 0 for c in document["candidates"])
    tried = {step["strategy"] for c in document["candidates"] for step in c["recipe"]}
    assert {"quantize_static", "student"} <= tried
    assert not tried & {"distill_logits", "finetune", "quantize_aware", "train"}
    assert document["recommended"]


def test_a_space_by_name_limits_what_is_tried(run: Any) -> None:
    tried = {step["strategy"] for c in run(space="structured")["candidates"] for step in c["recipe"]}
    assert "student" in tried
    assert not any(name.startswith("quantize") for name in tried)


def test_a_seed_out_of_range_is_refused_before_anything_is_opened(run: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--seed must be from 0"):
        run(seed=-1)
    assert not (tmp_path / "run").exists()


# -- what is told before and meanwhile ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("statistic", "refused"), [("p90", False), ("p99", True)])
def test_a_percentile_that_too_few_calls_would_tell_is_refused(statistic: Any, refused: bool, tmp_path: Path) -> None:
    profile = HardwareProfile(name="slow", statistic=statistic)
    scenario = Scenario("search", kinds.CNN, (Process(1),), Budget(latency_ms=2000), profile=profile)
    (ended,) = searched(scenario, tmp_path / "run", only_open=True)
    assert ("the p99 of a model that takes 2000 ms cannot be told" in (ended.why or "")) is refused


@pytest.mark.parametrize(("speedup", "said"), [(500, "cannot be met here: the floor"), (3, "can be met")])
def test_whether_a_budget_can_be_met_is_known_before_anything_is_trained(
    speedup: float, said: str, played: Played
) -> None:
    """The files of the unchanged model come first: they are the first points."""
    ended = played(kinds.CNN, trials=1, budget=Budget(speedup=speedup))
    groups = [call["call"] for call in ended.calls]
    assert groups.index("prepare") < groups.index("open") < groups.index("gate")
    assert sum(said in note for note in ended.notes) == 1


def test_no_floor_is_looked_for_where_the_unchanged_model_meets_the_budget(played: Played) -> None:
    ended = played(kinds.CNN, trials=1, budget=Budget(latency_ms=1e6))
    assert not any("the smallest structure takes" in note for note in ended.notes)


def test_a_first_family_does_not_wait_for_what_else_there_is_to_begin_with(played: Played) -> None:
    for budget in (Budget(), Budget(speedup=5)):
        groups = [call["call"] for call in played(kinds.CNN, budget=budget, minutes=5).calls]
        before = groups[: groups.index("evaluate")].count("gate")
        after = groups[groups.index("evaluate") :].count("gate")
        assert before <= 6 < after, budget


def test_what_one_strategy_makes_slower_of_another_ends_no_search(played: Played) -> None:
    """All together and each alone are over the budget: that a pair is within it is found, and what it can be."""
    hindering = (("small", "carve", 5.0),)
    ended = played(kinds.CNN, budget=Budget(speedup=11), faults=Faults(hindering=hindering))
    assert any("can be met: the smallest structure takes" in note for note in ended.notes)
    assert ended.front["status"] == "feasible"
    gated = [call["recipe"] for call in ended.asked("gate")]
    pairs = [at for at, recipe in enumerate(gated) if "carve" in recipe and "drop" in recipe]
    assert pairs[1] == pairs[0] + 1, "a milder one of the pair is what the search begins with"


def test_a_budget_that_binds_nothing_is_said_to_be_so(played: Played, capsys: pytest.CaptureFixture[str]) -> None:
    document = played(kinds.CNN, budget=Budget(latency_ms=1e6)).front
    print_front(Console(width=200), document, "run")
    said = capsys.readouterr().out
    assert "binds nothing" in said
    assert "--budget-ms" in said
    assert document["status"] == "feasible"
    assert any(ratio_of(c) < 0.4 for c in document["candidates"] if c["on_front"]), "the front is explored all the same"
    near = [c for c in document["candidates"] if c["on_front"] and c["loss"]["points"] <= 1]
    fastest = min(near, key=ratio_of)
    assert fastest["id"] != document["recommended"]
    assert f"at most a point: {techniques(fastest)}, {1 / ratio_of(fastest):.2f}x" in said


@pytest.mark.parametrize(
    ("budget", "shown"), [(WITHIN_A_POINT, " so far: "), (Budget(speedup=3), "none meets the budget yet")]
)
def test_progress_is_the_front_or_under_a_budget_the_best(
    budget: Budget, shown: str, played: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    played(kinds.CNN, trials=1, budget=budget, view=TerminalView(Console(width=200)))
    assert shown in capsys.readouterr().out


# -- what is tried and trained -----------------------------------------------------------------------------------------


def test_a_space_limits_what_is_tried(played: Played) -> None:
    document = played(kinds.CNN, trials=2, strategies=("carve", "logits")).front
    tried = {step["strategy"] for c in document["candidates"] for step in c["recipe"]}
    assert tried == {"carve", "logits", "train"}
    assert any(c["fidelity"] > 0 for c in document["candidates"])


def test_under_a_budget_one_model_has_the_time_that_is_left(played: Played) -> None:
    ended = played(kinds.CNN, budget=FOUR_TIMES)
    examples: dict[str, int] = defaultdict(int)
    for call in ended.asked("evaluate"):
        examples[call["recipe"]] += call["examples"]
    most, second, third, *_ = sorted(examples.values(), reverse=True)
    assert most > 3 * third > 0
    assert second >= third
    trained: dict[str, float] = defaultdict(float)
    for c in ended.front["candidates"]:
        trained[family_of(c)] = max(trained[family_of(c)], c["fidelity"])
    most_epochs, second_epochs, *_ = sorted(trained.values(), reverse=True)
    assert most_epochs > 3 * second_epochs > 0


@pytest.mark.parametrize("explain", [True, False])
def test_to_explain_the_best_it_is_trained_without_each_step_that_was_never_left_out(
    explain: bool, played: Played
) -> None:
    ended = played(kinds.CNN, budget=FOUR_TIMES, explain=explain)
    chosen = chosen_of(ended.front)
    assert {"carve", "logits"} <= {step["strategy"] for step in chosen["recipe"]}
    untaught = [
        c for c in ended.front["candidates"] if {s["strategy"] for s in c["recipe"]} == {"carve", "tune", "train"}
    ]
    assert any(c["fidelity"] > 0.3 * chosen["fidelity"] for c in untaught) == explain, "as long as the time allows"
    assert ended.front["wall_seconds"] <= 8 * 60


def test_what_the_gate_rejects_is_never_trained(played: Played) -> None:
    ended = played(kinds.CNN, budget=Budget(speedup=6))
    assert ended.front["rejected"], "the mild structures of the bisection are over a sixth of the latency"
    trained = {call["recipe"] for call in ended.asked("evaluate")}
    assert trained
    over = {str(Recipe.from_json(r["recipe"])) for r in ended.front["rejected"] if "over the budget" in r["reason"]}
    assert over
    assert not over & trained


def test_a_structure_is_gated_once_whether_it_fails_or_not(played: Played) -> None:
    ended = played(kinds.CNN, minutes=20, seed=5, budget=Budget(speedup=3), faults=Faults(unbuilt=NO_LUCK))
    failed = [f for f in ended.front["failed"] if f["strategy"] == "drop"]
    assert len(failed) > 1, "in several recipes"
    trainings = re.compile(r"\b(logits|features|tune|aware|train)\([^)]*\)")
    structures = [trainings.sub(r"\1", call["recipe"]) for call in ended.asked("gate")]
    assert len(structures) > 10
    assert len(structures) == len(set(structures))


def test_without_a_budget_nothing_is_trained_that_is_no_faster_than_what_loses_nothing(played: Played) -> None:
    lossless = {step: replace(graph, lost=0.0) for step, graph in kinds.INTEGERS.items()}
    ended = played(replace(kinds.CNN, graphs=lossless), minutes=20)
    document = ended.front
    reference = score_of(document["reference"])
    whole = [c for c in document["candidates"] if c["score"]["sampled"] is None]
    kept = [c for c in whole if score_of(c) >= reference - 0.001]
    bar = min(ratio_of(c) for c in kept if c["fidelity"] == 0)
    assert bar < 1, "int8 alone"
    trained = [c for c in document["candidates"] if c["fidelity"] > 0]
    assert trained
    assert min(map(ratio_of, trained)) < bar
    said = [r for r in document["rejected"] if "too near" in r["reason"] or "loses nothing" in r["reason"]]
    assert said
    nearly = [c for c in whole if score_of(c) >= reference - 0.005]
    assert all(r["ratio"] > 0.85 * min(map(ratio_of, nearly)) for r in said)


# -- what fails --------------------------------------------------------------------------------------------------------


def test_one_failing_strategy_does_not_end_the_search(played: Played) -> None:
    document = played(kinds.CNN, budget=Budget(speedup=3), faults=Faults(unbuilt=NO_LUCK)).front
    assert document["status"] == "feasible"
    assert document["failed"]
    assert all(f["strategy"] == "drop" and "no such luck" in f["reason"] for f in document["failed"])


def test_when_everything_fails_the_search_stops_and_groups_the_causes(played: Played) -> None:
    unbuilt = tuple(Fault(name) for name in ("small", "carve", "drop"))
    nothing = Faults(unbuilt=unbuilt, untrained=(Fault("logits"), Fault("tune"), Fault("aware")))
    ended = played(kinds.CNN, trials=50, faults=nothing)
    assert ended.why is not None
    assert re.search(r"every candidate fails.*5x RuntimeError: no such luck", ended.why)


def test_where_every_training_fails_what_was_repaired_is_still_delivered(played: Played) -> None:
    failing = Faults(untrained=(Fault("logits"), Fault("tune"), Fault("aware")))
    document = played(kinds.CNN, budget=Budget(speedup=3), faults=failing).front
    assert document["status"] == "feasible"
    assert document["failed"]
    assert {c["fidelity"] for c in document["candidates"]} == {0.0}


def test_a_candidate_goes_on_in_a_new_worker_when_its_own_crashes(played: Played) -> None:
    ended = played(kinds.CNN, budget=Budget(speedup=3), crashing=frozenset({1}))
    assert ended.front["failed"] == []
    assert ended.front["status"] == "feasible"
    first, again, *_ = ended.asked("evaluate")
    assert again["recipe"] == first["recipe"]
    assert any("SIGSEGV" in note for note in ended.notes), "it is said"


def test_a_candidate_that_crashes_twice_fails_with_the_signal_and_the_search_goes_on(played: Played) -> None:
    document = played(kinds.CNN, budget=Budget(speedup=3), crashing=frozenset({1, 2})).front
    assert [f["reason"] for f in document["failed"]] == ["the worker process ended (SIGSEGV); see worker.log"]
    assert document["status"] == "feasible"


@pytest.mark.parametrize("group", ["prepare", "open"])
def test_a_task_that_ends_the_worker_when_it_is_opened_is_told(group: str, tmp_path: Path) -> None:
    twice = (Process(4, stop=Stop(group, 1, "crashed")), Process(4, 2))
    crashed, again = searched(Scenario("search", kinds.FEW, twice), tmp_path / "run")
    assert crashed.why is not None
    assert re.search(r"the task could not be opened at \"does it apply\?\": .*SIGSEGV", crashed.why)
    assert again.front["status"] == "feasible"
    assert not again.asked("prepare")[0]["known"], "nothing of it is kept"


def test_an_interruption_ends_what_waits_for_a_worker() -> None:
    called: list[Recipe] = []

    class OneWorker:
        operations = SimpleNamespace(families=1)

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
