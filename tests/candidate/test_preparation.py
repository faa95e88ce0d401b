"""How many examples files are scored on, where reading or scoring all of them would take much of the search."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn
from torch.utils.data import Dataset

from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.policy import TrainingPolicy
from autocompress.candidate.preparation import FEWEST_SCORED, EarlierPreparation, KnownTask, Preparation, prepare
from autocompress.data import loading
from autocompress.errors import UsageError
from autocompress.plugin.contract import Feed, Session
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.storage.folder import RunFolder
from autocompress.task import Task
from tests.conftest import make_examples

SIZE = 3 * FEWEST_SCORED


class Read(Dataset[Any]):
    """Not held in memory; the target is the number of the example."""

    def __init__(self, inputs: Tensor) -> None:
        self.inputs = inputs

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return self.inputs[number], number % 4


@pytest.fixture
def many(tiny_task: Task) -> Task:
    return replace(tiny_task, val=make_examples(SIZE, 5), test=make_examples(SIZE, 6))


Prepare = Callable[..., tuple[OpenTask, Preparation]]


@pytest.fixture
def prepared(plugins: PluginSet, fake_profile: HardwareProfile, tmp_path: Path) -> Prepare:
    """``prepared(task, scoring_s=1e-9)``, with these limits."""

    def of(task: Task, known: KnownTask | None = None, **limits: float) -> tuple[OpenTask, Preparation]:
        policy = TrainingPolicy(**limits)  # type: ignore[arg-type]
        return prepare(task, fake_profile, plugins, RunFolder(tmp_path), known=known, only=[], policy=policy)

    return of


def said(found: Preparation) -> list[str]:
    return [warning for warning in found.warnings if warning.startswith("files are scored on")]


def test_a_short_search_scores_on_as_many_as_there_is_time_for_and_says_so(many: Task, prepared: Prepare) -> None:
    opened, found = prepared(many, scoring_s=1e-9)
    assert opened.test is not None
    assert len(opened.val) == len(opened.test) == found.val_examples == found.test_examples == FEWEST_SCORED
    assert [f"{FEWEST_SCORED:,} of the {SIZE:,} examples" in line for line in said(found)] == [True, True]


def test_where_there_is_time_all_are_scored_on(many: Task, prepared: Prepare) -> None:
    for limits in ({"scoring_s": 1e9}, {}):
        opened, found = prepared(many, **limits)
        assert (found.scored_on, found.tested_on, len(opened.val)) == (None, None, SIZE)
        assert not said(found)


def test_every_process_scores_on_the_same_examples(
    many: Task, prepared: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "READ_TWICE", 2)
    task = replace(many, val=Read(make_examples(SIZE, 5)[0]))
    first, found = prepared(task, scoring_s=1e-9, reading_s=1e-9)
    second, same = prepared(task, known=found, scoring_s=1e9, reading_s=1e9)
    assert len(first.val) == len(second.val) == same.val_examples == FEWEST_SCORED
    for one, other in zip(first.val.split.batches(50), second.val.split.batches(50), strict=True):
        assert one.inputs.equal(other.inputs)
    assert all((one["input"] == other["input"]).all() for one, other in zip(first.feeds, second.feeds, strict=True))
    assert said(same), "a search that goes on says so too"


def test_a_reference_that_takes_long_is_not_called_often_to_say_so(
    many: Task, prepared: Prepare, fake_runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    opened = type(fake_runtime).open

    def counted(runtime: Any, path: Path, profile: HardwareProfile) -> Session:
        session = opened(runtime, path, profile)
        run = session.run

        def counting(feed: Feed) -> Any:
            calls.append(1)
            return run(feed)

        session.run = counting
        return session

    prepared(many)
    monkeypatch.setattr(type(fake_runtime), "open", counted)
    prepared(many, scoring_s=1e-9)
    few = len(calls)
    calls.clear()
    prepared(many, scoring_s=1e9)
    assert few < len(calls)


def test_the_learning_rates_of_the_task_are_handed_on(tiny_task: Task, prepared: Prepare) -> None:
    _, found = prepared(replace(tiny_task, learning_rates=[2e-5, 1e-4]))
    assert found.training["lr"] == (2e-5, 1e-4)


@dataclass(frozen=True)
class OfThisMachine:
    """Smaller models that lie here."""

    members: tuple[tuple[float, str], ...]
    of_this_machine = True

    def with_members(self, members: tuple[tuple[float, str], ...]) -> "OfThisMachine":
        return OfThisMachine(members)

    def __call__(self, width: float) -> nn.Module:
        return nn.Linear(2, 2)


LIES_HERE, COMES_LATER = (0.5, "small"), (0.25, "tiny")


@pytest.mark.parametrize("at_first", [None, OfThisMachine((LIES_HERE,))])
def test_a_student_that_comes_later_is_none_of_a_search_that_has_begun(
    at_first: OfThisMachine | None, tiny_task: Task, prepared: Prepare
) -> None:
    opened, found = prepared(replace(tiny_task, student=at_first))
    later = replace(tiny_task, student=OfThisMachine((LIES_HERE, COMES_LATER)))
    record = EarlierPreparation(found.fingerprint, found.exporter, "", students=found.students)
    recorded = EarlierPreparation.from_json(json.loads(json.dumps(asdict(record))))
    for known in (found, recorded):
        again, more = prepared(later, known=known)
        assert again.context.task.student == opened.context.task.student == at_first
        assert more.students == found.students
    unrecorded = EarlierPreparation(found.fingerprint, found.exporter, "")
    assert prepared(later, known=unrecorded)[0].context.task.student == later.student


def test_students_that_a_search_began_with_and_that_are_gone_are_named(tiny_task: Task, prepared: Prepare) -> None:
    _, found = prepared(replace(tiny_task, student=OfThisMachine((LIES_HERE,))))
    with pytest.raises(UsageError, match=r"not on this machine any more \(small\): get one of them again, or give an"):
        prepared(tiny_task, known=found)


def test_the_users_own_student_is_asked_for_nothing(tiny_task: Task, prepared: Prepare) -> None:
    task = replace(tiny_task, student=lambda width: nn.Linear(2, 2))
    _, found = prepared(task)
    assert prepared(task, known=found)[0].context.task.student is task.student
