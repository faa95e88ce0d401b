"""Which model a search recommends, of which nothing was computed, on a declared clock."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autocompress.budget import Budget
from autocompress.explore.standings.front import dominates
from autocompress.profile import HardwareProfile
from autocompress.report.explain import few_rows, scores_hold, where_time_goes, whom_it_hurts
from autocompress.storage.store import Store
from tests.recordings import kinds
from tests.recordings.declared import Faults
from tests.recordings.documents import chosen_of, ratio_of, score_of
from tests.recordings.harness import Ended, searched
from tests.recordings.operations import REPAIRED_ON
from tests.recordings.scenarios import CPU, Process, Scenario

Played = Callable[..., Ended]
FOUR_TIMES = Budget(speedup=4)


def test_under_a_budget_the_most_accurate_that_meets_it_is_recommended_if_none_faster_is_as_good(
    played: Played,
) -> None:
    document = played(kinds.CNN, budget=FOUR_TIMES).front
    feasible = [c for c in document["candidates"] if c["feasible"]]
    assert feasible
    assert all(ratio_of(c) <= 1 / 4 for c in feasible)
    assert score_of(chosen_of(document)) >= max(map(score_of, feasible)) - 0.001 - 1e-9


def test_without_a_budget_the_fastest_within_a_point_is_recommended(played: Played) -> None:
    document = played(kinds.CNN).front
    within = [c for c in document["candidates"] if score_of(c) >= score_of(document["reference"]) - 0.01]
    chosen = chosen_of(document)
    assert chosen in within
    finalists = [c for c in within if c["finalist"] and c["verdicts"]["drop"]["answer"] == "met"]
    fastest = min(finalists, key=ratio_of)
    as_fast = [c for c in finalists if c["latency_ms"]["ratio_low"] <= fastest["latency_ms"]["ratio_high"]]
    assert score_of(chosen) == max(map(score_of, as_fast))


def test_a_budget_below_the_floor_keeps_the_nearest(played: Played) -> None:
    document = played(kinds.CNN, budget=Budget(speedup=500)).front
    assert document["status"] == "infeasible"
    assert document["recommended"] is None
    near = chosen_of(document, "nearest")
    fastest = min(document["candidates"], key=ratio_of)
    assert near["latency_ms"]["ratio_low"] <= fastest["latency_ms"]["ratio_high"], "it may be the fastest"
    assert near["fidelity"] > 0, "the fastest structure is trained before it is kept"


def test_the_budget_that_is_said_to_be_met_here_is_met_by_a_search_for_it(tmp_path: Path) -> None:
    def found(name: str, speedup: float) -> Any:
        scenario = Scenario("search", kinds.CNN, (Process(8),), Budget(speedup=speedup))
        return searched(scenario, tmp_path / name)[0].front

    said = " ".join(found("first", 500)["would_help"])
    assert "Nothing in this space is that fast" in said
    (offered,) = re.findall(r"can be met here: --speedup ([0-9.]+) \(", said)
    assert float(offered) > 1
    again = found("second", float(offered))
    assert (again["status"], again["would_help"]) == ("feasible", [])


def test_what_was_cut_short_is_told_how_long_a_training_in_full_takes(played: Played) -> None:
    """60 epochs of 50,000 examples, of a family that was trained for some of them in a second for each 4,000."""
    front = played(kinds.CNN, minutes=2, budget=Budget(speedup=4, max_drop=0)).front
    (lost,) = [line for line in front["would_help"] if "lost too much score" in line]
    assert re.search(
        r"trained for [0-9.]+ of 60(.0)? epochs: about [0-9.]+ minutes would train one such family in full", lost
    )
    (minutes,) = re.findall(r"--minutes ([0-9.]+) would be reasonable", lost)
    assert float(minutes) > 2


def test_on_a_machine_that_is_always_busy_nothing_is_left_out(played: Played) -> None:
    document = played(kinds.CNN, trials=1, faults=Faults(disturbed=1.0, reference_disturbed=True)).front
    assert ratio_of(chosen_of(document)) <= 1 / 1.5
    assert not any(c["latency_ms"]["quiet_sessions"] for c in document["candidates"])
    points = {c["id"]: (score_of(c), ratio_of(c)) for c in document["candidates"]}
    dominated = {name for name, p in points.items() if any(dominates(other, p) for other in points.values())}
    on_front = [c["id"] for c in document["candidates"] if c["on_front"]]
    assert dominated.isdisjoint(on_front)
    assert len({points[name] for name in points.keys() - dominated}) == len(on_front)


def test_what_is_recommended_is_known_to_keep_the_budget_by_sessions_of_its_own(played: Played) -> None:
    ended = played(kinds.CNN, budget=FOUR_TIMES)
    chosen = chosen_of(ended.front)
    assert chosen["finalist"]
    assert chosen["verdicts"]["latency"]["answer"] == "met"
    assert chosen["latency_ms"]["ratio_next_high"] <= 1 / 4
    trained_in_full = max(number for number, call in enumerate(ended.calls) if call["call"] == "evaluate")
    since = [call["file"] for call in ended.calls[trained_in_full:] if call["call"] == "session"]
    assert 3 <= chosen["latency_ms"]["sessions"] <= 7
    assert len(since) >= chosen["latency_ms"]["sessions"]
    assert chosen["id"] in since, "the file itself, not only others of its graph"


def test_a_model_that_lost_its_score_is_not_recommended_for_its_speed_alone(played: Played) -> None:
    """The reference scores 93 %, chance is 10 %: the middle is 51.5 %. At six times the speed nothing keeps that."""

    def within(document: Any) -> list[Any]:
        return [c for c in document["candidates"] if c["verdicts"]["latency"]["answer"] == "met"]

    lost = played(kinds.UNTRAINED, minutes=2, budget=Budget(speedup=6)).front
    assert {c["keeps_lead"] for c in within(lost)} == {False}
    assert (lost["status"], lost["recommended"]) == ("infeasible", None)
    some = played(kinds.UNTRAINED, minutes=2, budget=FOUR_TIMES).front
    assert {score_of(c) >= 0.515 for c in within(some)} == {True, False}
    assert all(c["keeps_lead"] == (score_of(c) >= 0.515) for c in within(some))
    assert score_of(chosen_of(some)) >= 0.515
    assert any(c["on_front"] for c in some["candidates"])
    assert all(c["keeps_lead"] for c in some["candidates"] if c["on_front"])
    asked = played(kinds.UNTRAINED, minutes=2, budget=Budget(speedup=6, max_drop=60)).front
    assert score_of(chosen_of(asked)) < 0.515, "somebody said how much may be lost"


def test_only_what_was_scored_on_all_examples_is_on_the_front(played: Played) -> None:
    document = played(kinds.CNN, minutes=20).front
    sampled = [c for c in document["candidates"] if c["score"]["sampled"] is not None]
    assert len(sampled) > 5
    assert {c["score"]["sampled"] for c in sampled} == {1000}
    assert not any(c["on_front"] or c["id"] == document["recommended"] for c in sampled)


def test_the_reference_is_tested_while_finalists_are_timed(played: Played) -> None:
    """Whatever is chosen then: what is scored on the test split before the choice is nothing that may be chosen."""
    operations = played(kinds.CNN, budget=FOUR_TIMES, faults=Faults(disturbed=1.0)).operations
    first = next(number for number, (method, *_) in enumerate(operations) if method == "test")
    assert [file.path for file in operations[first][1][0]] == ["reference/model.onnx"]
    assert "compare" in [method for method, *_ in operations[first:]]


def test_a_metric_that_is_undefined_on_the_test_split_leaves_no_test_score_and_a_note(played: Played) -> None:
    ended = played(kinds.CNN, trials=1, budget=FOUR_TIMES, faults=Faults(undefined=1.0))
    assert ended.front["status"] == "feasible"
    assert ended.asked("test")
    assert all(c["score"]["test"] is None for c in ended.front["candidates"])
    assert any("not a finite number on the test split" in note for note in ended.notes)


def test_a_file_over_the_targets_size_is_not_recommended_and_the_smallest_is_named(played: Played) -> None:
    free = played(kinds.CNN, budget=FOUR_TIMES).front
    smallest = min(c["size_bytes"] for c in free["candidates"] if c["feasible"])
    limit = chosen_of(free)["size_bytes"] - 1
    assert limit >= smallest, "there is a smaller one that keeps the budget"
    limited = played(kinds.CNN, budget=replace(FOUR_TIMES, max_size_bytes=limit)).front
    assert limited["budget"]["max_size_bytes"] == limit
    assert chosen_of(limited)["size_bytes"] <= limit
    assert {c["verdicts"]["size"]["answer"] for c in limited["candidates"]} == {"met", "not met"}
    none = played(kinds.CNN, budget=replace(FOUR_TIMES, max_size_bytes=1)).front
    assert none["recommended"] is None
    (said,) = none["would_help"]
    assert "No file is within the 1 bytes of the target: the smallest, " in said
    assert f"has {min(c['size_bytes'] for c in none['candidates']):,}." in said


BOARD = HardwareProfile(name="board", device="http://127.0.0.1:9", token_file="token")


def test_what_may_be_recommended_is_run_on_the_device_and_where_it_scores_as_here_it_is_said(played: Played) -> None:
    here, there = (played(kinds.CNN, budget=FOUR_TIMES, **of) for of in ({}, {"profile": BOARD}))
    assert not here.asked("run_on_device")
    chosen = chosen_of(there.front)
    assert chosen["on_device"]["score_difference"] == 0.0
    assert "On the device it scores the same on 200 examples" in (scores_hold(there.front) or "")
    assert score_of(chosen) == score_of(chosen_of(here.front))


def test_what_scores_less_on_the_device_is_judged_by_that_and_another_is_recommended(played: Played) -> None:
    usual = chosen_of(played(kinds.CNN, budget=FOUR_TIMES, profile=BOARD).front)
    variant = usual["recipe"][-1]["strategy"]
    faults = Faults(fallen_elsewhere=variant)
    falling = played(kinds.CNN, minutes=12, budget=FOUR_TIMES, profile=BOARD, faults=faults).front
    fallen = [c for c in falling["candidates"] if (c["on_device"] or {}).get("scored_there")]
    assert fallen
    assert all(c["loss"]["points"] > 9 for c in fallen), "of the device, and not of this machine"
    chosen = chosen_of(falling)
    assert chosen["on_device"] is not None
    feasible = [c for c in falling["candidates"] if c["feasible"] and c["finalist"]]
    assert score_of(chosen) >= max(map(score_of, feasible)) - 0.001 - 1e-9
    assert len(fallen) > 1, "more than one was chosen and fell"


def test_a_file_that_takes_more_memory_than_the_target_has_is_not_recommended(played: Played) -> None:
    limited = CPU.model_copy(update={"max_memory_bytes": 1})  # so that it is measured

    def within(limit: int) -> Any:
        return played(kinds.CNN, budget=replace(FOUR_TIMES, max_memory_bytes=limit), profile=limited).front

    free = within(1 << 40)
    taken = sorted(c["memory_bytes"] for c in free["candidates"] if c["feasible"])
    chosen = chosen_of(free)["memory_bytes"]
    assert taken[0] < chosen, "there is one that takes less"
    tight = within(chosen - 1)
    assert chosen_of(tight)["memory_bytes"] < chosen
    assert {c["verdicts"]["memory"]["answer"] for c in tight["candidates"]} == {"met", "not met"}
    none = within(1)
    assert none["recommended"] is None
    (said,) = none["would_help"]
    assert said.startswith("No file is within the 1 bytes of memory of the target: the smallest, ")


def test_what_cannot_be_used_on_the_device_is_not_recommended(played: Played) -> None:
    usual = chosen_of(played(kinds.CNN, budget=FOUR_TIMES, profile=BOARD).front)
    variant = usual["recipe"][-1]["strategy"]
    ended = played(kinds.CNN, budget=FOUR_TIMES, profile=BOARD, faults=Faults(failing_elsewhere=variant))
    failed = [c for c in ended.front["candidates"] if (c["on_device"] or {}).get("failed")]
    assert failed
    assert not any(c["feasible"] for c in failed)
    chosen = ended.front["recommended"] or ended.front["nearest"]
    assert chosen not in {c["id"] for c in failed}
    assert not any(c["on_front"] for c in failed)
    assert any("cannot be used on the device: no such operator" in note for note in ended.notes)


def test_where_the_time_of_what_is_recommended_goes_is_told_beside_the_reference(played: Played) -> None:
    document = played(kinds.CNN, budget=FOUR_TIMES).front
    spent = document["operators"]
    assert sum(spent["reference"].values()) == pytest.approx(document["reference"]["latency_ms"]["p50"])
    assert sum(spent["chosen"].values()) == pytest.approx(chosen_of(document)["latency_ms"]["p50"])
    assert (where_time_goes(document) or "").startswith("Where its time goes: Conv ")


def test_what_a_structure_was_repaired_on_is_told_of_each_file(played: Played) -> None:
    front = played(kinds.CNN, budget=FOUR_TIMES).front
    told = {c["fidelity"] > 0: c["calibration"] for c in front["candidates"] if c["calibration"]}
    assert told == {False: REPAIRED_ON, True: REPAIRED_ON}, "also where it was trained since"
    assert all(not c["calibration"] for c in front["candidates"] if len(c["recipe"]) < 2)
    repaired = next(c for c in front["candidates"] if c["calibration"] and not c["fidelity"])
    said = few_rows({**front, "recommended": repaired["id"]}) or ""
    assert "head (28 rows for 64 regressors). More training examples in the task would help." in said


def test_whom_the_recommended_file_hurts_is_compared_class_by_class(played: Played) -> None:
    front = played(kinds.CNN, budget=FOUR_TIMES).front
    found = front["by_class"]
    assert (found["by"], [row["name"] for row in found["rows"]]) == ("class", ["rare", "common"])
    assert chosen_of(front)["verdicts"]["class_drop"] is None, "nothing was asked"
    rare, common = found["rows"]
    assert (rare["surely"], common["surely"]) == (True, False), "it loses eight times as much"
    assert found["too_few"] == ["rarest"]
    said = whom_it_hurts(front)
    assert said is not None
    assert "The average hides whom it hurts: class rare loses" in said
    assert said.endswith("Too few examples to say: rarest.")


def test_a_file_that_loses_too_much_in_one_class_is_not_recommended(played: Played) -> None:
    free = played(kinds.CNN, budget=Budget(max_drop=3)).front
    worst = free["by_class"]["rows"][0]["loss"]["points"]
    assert worst > 2
    bound = played(kinds.CNN, budget=Budget(max_drop=3, max_class_drop=worst / 2)).front
    chosen = chosen_of(bound)
    assert chosen["verdicts"]["class_drop"]["answer"] != "not met"
    assert bound["by_class"]["rows"][0]["loss"]["points"] < worst
    refused = [c for c in bound["candidates"] if (c["verdicts"]["class_drop"] or {}).get("answer") == "not met"]
    assert refused
    assert not any(c["feasible"] for c in refused)
    assert all("class rare loses" in c["verdicts"]["class_drop"]["reason"] for c in refused)


def test_where_classes_cannot_be_compared_nothing_is_known_to_keep_them(played: Played) -> None:
    ended = played(kinds.CNN, budget=Budget(max_class_drop=1), faults=Faults(outputs_gone=True))
    assert ended.why is not None
    assert "--max-class-drop compares the classes of the validation split, which cannot be done here" in ended.why


def test_where_every_file_hurts_a_class_it_is_said_to_be_the_reason(played: Played) -> None:
    front = played(kinds.CNN, budget=Budget(speedup=4, max_class_drop=0.01)).front
    assert front["recommended"] is None
    (said,) = [line for line in front["would_help"] if "one class" in line]
    assert "loses too much in one class: the best" in said
    assert not any("known to be faster" in line for line in front["would_help"])


def test_what_was_chosen_and_files_of_one_technique_and_of_several_are_compared_on_the_same_examples(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "path", lambda self, key: Path(__file__))  # outputs of declared files are nowhere
    document = played(kinds.CNN, budget=FOUR_TIMES).front
    chosen, compressing = chosen_of(document), set(document["compressing"])
    files = [c for c in document["candidates"] if not c["score"]["sampled"]]
    compared = {frozenset((c["id"], other)) for c in files for other in c["beside"]}
    assert sum(chosen["id"] in pair for pair in compared) > 1
    ways = {c["id"]: len({s["strategy"] for s in c["recipe"]} & compressing) for c in files}
    sets = 0
    for point in (c for c in files if c["on_front"]):
        as_fast = [c for c in files if ratio_of(c) <= ratio_of(point)]
        single, combined = (
            [c for c in as_fast if (ways[c["id"]] == 1) is one and ways[c["id"]]] for one in (True, False)
        )
        if single and combined:
            best = (max(of, key=lambda c: (score_of(c), -ratio_of(c)))["id"] for of in (single, combined))
            assert frozenset(best) in compared
            sets += 1
    assert sets
