"""What a run says of its recommended model, judged by new sessions."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autocompress.commands import verify
from autocompress.commands.verify import judged, reference_timing, verify_run
from autocompress.comparison import TimingSession
from autocompress.errors import UsageError
from autocompress.latency import Latency
from autocompress.machine.conditions import machine
from autocompress.measure import RunTiming, conditions

NO_BUDGET = {"speedup": None, "latency_ms": None}
MakeLatency = Callable[..., Latency]


@pytest.mark.parametrize(
    ("now", "answer"), [(0.3, "met"), (0.5, "met"), (0.54, "met"), (0.62, "not met"), (0.57, "undecided")]
)
def test_a_ratio_may_be_fifteen_percent_over_the_one_the_run_says_and_any_below(
    now: float, answer: str, make_latency: MakeLatency
):
    claims = judged(make_latency(now, sessions=4), NO_BUDGET, 0.5)
    assert {claim: verdict.answer for claim, verdict in claims.items()} == {"ratio": answer}


def test_a_budget_is_judged_as_the_run_was_asked_it(make_latency: MakeLatency):
    speedup, milliseconds = {**NO_BUDGET, "speedup": 2.0}, {**NO_BUDGET, "latency_ms": 4.0}
    assert judged(make_latency(0.4), speedup, 0.4)["speedup"].met
    assert judged(make_latency(0.6), speedup, 0.6)["speedup"].answer == "not met"
    assert judged(make_latency(0.4, 3.0), milliseconds, 0.4)["milliseconds"].met
    assert judged(make_latency(0.4, 5.0), milliseconds, 0.4)["milliseconds"].answer == "not met"
    busy = judged(make_latency(0.4, 5.0, quiet=False), milliseconds, 0.4)["milliseconds"]
    assert busy.answer == "undecided"


def test_how_fast_the_reference_can_be_is_known_on_the_same_processor_alone(monkeypatch: pytest.MonkeyPatch):
    def known(ran_on: str, here: str) -> float:
        monkeypatch.setattr(verify, "machine", lambda: replace(machine(), processor=here))
        document = {"environment": {"cpu": ran_on}, "reference": {"latency_ms": {"p50": 0.25}}}
        return reference_timing(document).reference_ms

    assert known("Some CPU", "Some CPU") == 0.25
    assert known("Some CPU", "Another CPU") == math.inf
    assert known("unknown", "unknown") == math.inf, "two that have no name may be as different as any"


def test_a_neighbour_that_slows_the_reference_more_than_in_the_run_makes_no_file_faster(
    verified: Callable[..., dict[str, Any]], make_session: Callable[..., TimingSession], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(verify, "reference_timing", lambda _: RunTiming(reference_ms=1.02, slowed=1.02))
    beside = replace(make_session(0.01 / 1.02), reference=1.02 * 1.04, slowed=1.02 * 1.04)
    assert verified(*(beside for _ in range(8)))["ratio"] == pytest.approx(0.01, rel=0.001)


def test_a_profile_of_more_threads_than_there_are_cores_is_refused(finished: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(conditions, "cores", lambda: 0)
    with pytest.raises(UsageError, match="threads and there are 0 cores here"):
        verify_run(finished)


def test_a_command_that_a_folder_names_is_not_run(finished: Path, tmp_path: Path):
    """A run may come from somebody else."""
    document = json.loads((finished / "front.json").read_text())
    document["environment"]["profile"]["device"] = f"command:touch {tmp_path / 'it was run'}"
    (finished / "front.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match="is not asked because a folder names it"):
        verify_run(finished)
    assert not (tmp_path / "it was run").exists()


@pytest.fixture
def verified(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """``verified(sessions)``: the run of an earlier version, in such sessions, in turn."""

    def answer(*sessions: TimingSession) -> dict[str, Any]:
        left = iter(sessions)
        monkeypatch.setattr(verify, "recorder", lambda *_: lambda: next(left))
        return verify_run(finished)

    return answer


def test_sessions_end_once_every_claim_is_decided(
    verified: Callable[..., dict[str, Any]], make_session: Callable[..., TimingSession]
):
    fast = verified(*(make_session(0.01) for _ in range(8)))
    assert (fast["holds"], fast["problems"], fast["undecided"], fast["sessions"]) == (True, [], [], 4)
    assert fast["ratio"] == pytest.approx(0.01)
    assert fast["ratio_low"] < 0.01 < fast["ratio_high"]
    slow = verified(*(make_session(5.0) for _ in range(8)))
    assert (slow["holds"], slow["sessions"]) == (False, 4)
    assert slow["problems"][0].startswith("ratio: at least 4.")


def test_a_busy_machine_leaves_claims_open_and_says_so(
    verified: Callable[..., dict[str, Any]], make_session: Callable[..., TimingSession]
):
    recorded = verified(*(make_session(0.01) for _ in range(8)))["recorded_ratio"]
    found = verified(*(make_session(1.2 * recorded, quiet=False) for _ in range(8)))
    assert (found["sessions"], found["busy_sessions"], found["problems"]) == (8, 8, [])
    assert found["holds"], "nothing is known to be wrong"
    assert any(claim.startswith("ratio: ") for claim in found["undecided"])
