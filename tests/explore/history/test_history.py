"""What happened is written down as it happens, and read back as it was."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from optuna.trial import TrialState, create_trial

from autocompress.errors import UsageError
from autocompress.evaluation import Evaluation, Outcome, Rejected, Score
from autocompress.explore.history.facts import (
    Concluded,
    Evaluated,
    Fact,
    Failed,
    FinalMeasured,
    Gated,
    RepeatMeasured,
    ScoredOnTest,
    fact_from_json,
    fact_to_json,
)
from autocompress.explore.history.history import History
from autocompress.latency import Latency
from autocompress.recipe import Recipe, Step
from autocompress.storage.record import Record, open_record

FAMILY = Recipe((Step.of("carve", ratio=0.5), Step.of("tune", kind="soft")))
INT8 = FAMILY.rewritten(Step.of("squeeze", bits=8))
OPENING: Any = object()


@pytest.fixture
def facts(make_latency: Callable[..., Latency]) -> list[Fact]:
    """One of each kind, and a failure of each."""
    score, latency = Score(0.9, 0.88, 0.92, test=None), make_latency(0.4)
    file = Evaluation("a", INT8, 1.5, 1, score, latency, 10, 8, 5, 7, "a.onnx", "digest", "val-a", 12.5)
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
    return [
        Gated(FAMILY, 0.5, 300),
        Evaluated(FAMILY, outcome),
        Rejected(FAMILY, "over the budget", 3.5, 0.7),
        Failed(FAMILY, "carve", "it broke"),
        Failed(FAMILY, None, "it broke"),
        RepeatMeasured(INT8, make_latency(0.41, reliable=False)),
        FinalMeasured({"a": make_latency(0.42)}),
        ScoredOnTest({"digest": 0.89}),
        Concluded(recommended="a"),
        Concluded(nearest="a"),
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


def test_what_the_sampler_recorded_comes_first(facts: list[Fact], reopened: Callable[[], Record]) -> None:
    record = reopened()
    history = History(OPENING, record)
    trials: list[Any] = [fact for fact in facts if isinstance(fact, Evaluated | Rejected | Failed)]
    for fact in facts:
        if fact in trials:
            history.enter_trial(fact)
            record.add(create_trial(state=TrialState.FAIL, user_attrs=fact_to_json(fact)))
        else:
            history.enter(fact)
    assert history.facts == facts
    others = [fact for fact in facts if fact not in trials]
    again = History(OPENING, reopened())
    assert again.facts == [*trials, *others]
    assert again.every(Failed) == [fact for fact in facts if isinstance(fact, Failed)]


def test_a_file_that_could_not_be_measured_again_is_measured_by_the_next_process(
    make_latency: Callable[..., Latency], reopened: Callable[[], Record]
) -> None:
    History(OPENING, reopened()).enter(FinalMeasured({"a": make_latency(0.4)}, kept={"b": make_latency(0.5)}))
    assert History(OPENING, reopened()).facts == [FinalMeasured({"a": make_latency(0.4)})]


def test_what_cannot_be_recorded_is_not_known(
    facts: list[Fact], reopened: Callable[[], Record], monkeypatch: Any
) -> None:
    record = reopened()
    history = History(OPENING, record)

    def full(prefix: str, value: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(record, "append", full)
    with pytest.raises(OSError, match="no space"):
        history.enter(facts[0])
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
