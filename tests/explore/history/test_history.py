"""What happened is written down as it happens, and read back as it was."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from optuna.trial import TrialState, create_trial

from autocompress.changed_examples import ChangedExample, ChangedExamples
from autocompress.comparison import TimingSession
from autocompress.errors import UsageError
from autocompress.evaluation import Evaluation, OnDevice, Outcome, Rejected, Score
from autocompress.explore.history.facts import (
    Chosen,
    Compared,
    ComparedByClass,
    ComparedByExample,
    ComparedWith,
    Evaluated,
    Fact,
    Failed,
    Gated,
    Nearest,
    Profiled,
    RanOnDevice,
    Recommended,
    ScoredOnTest,
    Timed,
    fact_from_json,
)
from autocompress.explore.history.history import History
from autocompress.group_losses import GroupLoss, GroupLosses
from autocompress.latency import Latency
from autocompress.recipe import Recipe, Step
from autocompress.storage.record import Record, open_record

FAMILY = Recipe((Step.of("carve", ratio=0.5), Step.of("tune", kind="soft")))
INT8 = FAMILY.rewritten(Step.of("squeeze", bits=8))
OPENING: Any = object()


@pytest.fixture
def facts(make_latency: Callable[..., Latency], make_session: Callable[..., TimingSession]) -> list[Fact]:
    """One of each kind, and a failure of each."""
    score, latency = Score(0.9, 0.88, 0.92, test=None), make_latency(0.4)
    file = Evaluation("a", INT8, 1.5, 1, score, latency, 10, 8, 5, 7, "a.onnx", "digest", "graph", "val-a", 12.5)
    outcome = Outcome(
        evaluations=(file,),
        rung=1,
        slower=(Rejected(FAMILY.rewritten(Step.of("slow")), "slower", 1.0, 1.1),),
        hopeless=(Rejected(FAMILY, "too slow", 1.0, 0.9),),
        failed=((INT8, "squeeze", "it broke"),),
        plans=({"units": [1, 2]},),
        checkpoint="weights",
        learned={"squeeze": {"scale": 0.1}},
        epochs=1.5,
        train_s=3.25,
        examples=1000,
    )
    losses = GroupLosses("class", (GroupLoss("cat", 90, 0.9, 0.8, 0.1, 0.02),))
    return [
        Gated(FAMILY, 0.5, 300),
        Evaluated(FAMILY, outcome),
        Rejected(FAMILY, "over the budget", 3.5, 0.7),
        Failed(FAMILY, "carve", "it broke"),
        Failed(FAMILY, None, "it broke"),
        Timed("graph", make_session(0.41, quiet=False)),
        Chosen(("a", "b")),
        Compared({"a": (0.01, 0.002)}),
        ComparedByClass({"a": losses}),
        ComparedByExample({"a": ChangedExamples(90, 3, 1, (ChangedExample(7, 1.0, "5", "5", "3", "png"),), losses)}),
        ComparedWith("a", {"b": (0.01, 0.002)}),
        ScoredOnTest({"digest": 0.89}),
        RanOnDevice({"digest": OnDevice(200, 0.01, -0.02, 0.004, Score(0.9, 0.88, 0.92), (0.01, 0.002))}),
        RanOnDevice({"other": OnDevice(200, 0.0, 0.0, 0.0)}),
        Profiled({"digest": {"Conv": 0.2, "Gemm": 0.1}}),
        Recommended("a"),
        Nearest("a"),
    ]


@pytest.fixture
def reopened(tmp_path: Path) -> Iterator[Callable[[], Record]]:
    """``reopened()``: the record as the next process finds it."""
    opened: list[Record] = []

    def again() -> Record:
        for record in opened:
            record.close()
        opened.append(open_record(tmp_path / "study.db"))
        return opened[-1]

    yield again
    opened[-1].close()


def test_every_kind_of_fact_is_read_back_as_it_was(facts: list[Fact], reopened: Callable[[], Record]) -> None:
    assert {type(fact) for fact in facts} == set(get_args(Fact)), "none is forgotten here"
    history = History(OPENING, reopened())
    for fact in facts:
        history.enter(fact)
    assert History(OPENING, reopened()).facts == history.facts == facts


def enter(history: History, fact: Fact) -> None:
    """As a search does: what ends a trial is recorded with it."""
    if isinstance(fact, Evaluated | Rejected | Failed):
        history.end_trial(fact, create_trial(state=TrialState.FAIL))
    else:
        history.enter(fact)


def test_facts_come_back_in_the_order_they_happened(facts: list[Fact], reopened: Callable[[], Record]) -> None:
    history = History(OPENING, reopened())
    for fact in facts[:5]:
        enter(history, fact)
    history = History(OPENING, reopened())
    for fact in facts[5:]:
        enter(history, fact)
    again = History(OPENING, reopened())
    assert again.facts == history.facts == facts
    assert again.every(Failed) == [fact for fact in facts if isinstance(fact, Failed)]


def test_the_trial_that_others_read_has_no_fact_in_it(facts: list[Fact], reopened: Callable[[], Record]) -> None:
    trial = create_trial(state=TrialState.FAIL, user_attrs={"own": 1})
    ended = next(fact for fact in facts if isinstance(fact, Failed))
    History(OPENING, reopened()).end_trial(ended, trial)
    assert trial.user_attrs == {"own": 1}


@pytest.mark.parametrize("method", ["append", "add"])
def test_what_cannot_be_recorded_is_not_known(
    method: str, facts: list[Fact], reopened: Callable[[], Record], monkeypatch: Any
) -> None:
    record = reopened()
    history = History(OPENING, record)

    def full(*args: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(record, method, full)
    fact = next(f for f in facts if isinstance(f, Failed if method == "add" else Gated))
    with pytest.raises(OSError, match="no space"):
        enter(history, fact)
    assert history.facts == []


def test_a_trial_that_no_search_recorded_is_refused(reopened: Callable[[], Record]) -> None:
    record = reopened()
    record.add(create_trial(state=TrialState.FAIL, user_attrs={"note": "by hand"}))
    with pytest.raises(UsageError, match=r"not a search's .*note"):
        History(OPENING, record)


@pytest.mark.parametrize("value", [{}, {"recipe": []}, {"outcome": {}}])
def test_what_is_no_fact_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no fact"):
        fact_from_json(value)
