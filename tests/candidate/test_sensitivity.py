"""How much of a group can go: what is left is repaired and scored on the examples that the whole model is scored on."""

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate import sensitivity as under_test
from autocompress.candidate.policy import TrainingPolicy
from autocompress.candidate.reading import read_task
from autocompress.candidate.sensitivity import GroupSensitivities, GroupSensitivity, Removal
from autocompress.data import ScoredSet
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context, Counterpart, Counterparts, Params, ShrinkableGroup, StructureStrategy
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.recipe import Plan
from autocompress.supervisor import Supervisor
from autocompress.task import Task

CLASSES, UNITS = 8, 16


class Twice(nn.Module):
    """Classes are told apart by 8 units, and 8 others compute the same; only the last 8 are read."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(CLASSES, UNITS, bias=False)
        self.head = nn.Linear(UNITS, CLASSES, bias=False)
        with torch.no_grad():
            self.hidden.weight.copy_(torch.eye(CLASSES).repeat(2, 1))
            self.head.weight.copy_(torch.cat([torch.zeros(CLASSES, CLASSES), torch.eye(CLASSES)], dim=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(x)))


class Cut(StructureStrategy):
    """Removes the last hidden units."""

    name = "cut"

    def __init__(self) -> None:
        self.declares = True
        self.tried: list[int] = []

    def plan(self, model: nn.Module, params: Params, context: Context) -> Plan:
        raise NotImplementedError

    def apply(self, model: nn.Module, plan: Plan, context: Context) -> nn.Module:
        left = UNITS - plan["gone"]
        model.hidden.weight = nn.Parameter(model.hidden.weight[:left].detach())
        model.head.weight = nn.Parameter(model.head.weight[:, :left].detach() * plan.get("factor", 1))
        model.hidden.out_features = model.head.in_features = left
        return model

    def counterparts(self, model: nn.Module, plan: Plan, context: Context) -> Counterparts | None:
        left, classes = tuple(range(UNITS - plan["gone"])), tuple(range(CLASSES))
        layers = (Counterpart("hidden", "hidden", left, classes), Counterpart("head", "head", classes, left))
        return Counterparts(copy.deepcopy(model), layers) if self.declares else None

    def group(self, name: str = "hidden", counts: Sequence[int] = range(1, UNITS), **more: Any) -> ShrinkableGroup:
        def plan_without(count: int) -> Plan:
            self.tried.append(count)
            return {"gone": count, **more}

        return ShrinkableGroup(name, UNITS, counts, plan_without)


@pytest.fixture
def cut() -> Cut:
    return Cut()


@pytest.fixture
def opened(cut: Cut, plugins: PluginSet, fake_runtime: Any, tmp_path: Path) -> Any:
    """As much of an opened task as it takes."""
    generator = torch.Generator().manual_seed(0)

    def examples(size: int) -> tuple[Tensor, Tensor]:
        labels = torch.arange(size) % CLASSES
        return torch.eye(CLASSES)[labels] + 0.1 * torch.rand(size, CLASSES, generator=generator), labels

    task = Task(name="twice", model=Twice().eval(), train=examples(256), val=examples(160))
    plugins.strategies["cut"] = cut
    read = read_task(task, HardwareProfile(name="fake", runtime="fake"), fake_runtime, tmp_path / "reference.onnx", 0)
    return SimpleNamespace(
        task=task,
        context=read.context,
        val=ScoredSet(task, read.splits["val"], read.context.layout),
        plugins=plugins,
        plans=None,
        policy=TrainingPolicy(),
        supervisor=Supervisor(),
        lock=SimpleNamespace(give_way=lambda: None),
    )


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch, cut: Cut) -> None:
    """The clock reads an hour more for each removal that was tried."""
    clock = SimpleNamespace(monotonic=lambda: 3600.0 * len(cut.tried), perf_counter=float)
    monkeypatch.setattr(under_test, "time", clock)


def found(opened: Any, *groups: ShrinkableGroup, within_s: float = 1e9) -> list[GroupSensitivity]:
    looked_at = GroupSensitivities(opened, "cut", groups)
    looked_at.go_on(within_s)
    return looked_at.found()


def counts(row: GroupSensitivity) -> tuple[int | None, int | None]:
    """Units that can go, and that cannot."""
    can, cannot = (removal.count if removal else None for removal in (row.can_go, row.cannot_go))
    return can, cannot


def test_as_much_can_go_as_a_repair_makes_up_for(opened: Any, cut: Cut) -> None:
    (row,) = found(opened, cut.group())
    assert (row.group, row.units, row.repaired, row.failed) == ("hidden", UNITS, True, None)
    assert row.calibration["examples"] == 251
    assert row.can_go is not None
    assert row.cannot_go is not None
    assert (row.can_go.count, row.cannot_go.count) == (8, 9), "of each two units that compute the same, one"
    assert row.can_go.lost == 0
    assert row.cannot_go.lost == pytest.approx(1 / CLASSES), "a class is told no more"
    assert row.cannot_go.error == pytest.approx((7 / 64 / 160) ** 0.5, rel=0.01)


def test_without_counterparts_nothing_is_repaired(opened: Any, cut: Cut) -> None:
    cut.declares = False
    (row,) = found(opened, cut.group())
    assert not row.repaired
    assert counts(row) == (None, 1)


def test_what_goes_as_a_whole_is_tried_once(opened: Any, cut: Cut) -> None:
    can, cannot = found(opened, cut.group("half", [8]), cut.group("most", [12]))
    assert cut.tried == [8, 12]
    assert (counts(can), counts(cannot)) == ((8, None), (None, 12))


@pytest.mark.parametrize(("lost", "can"), [(0.0099, True), (0.0101, False)])
def test_a_point_is_a_hundredth_of_the_metric(
    lost: float, can: bool, opened: Any, cut: Cut, monkeypatch: pytest.MonkeyPatch
) -> None:
    def metric(outputs: Tensor, targets: Tensor) -> float:
        return 0.5 if torch.equal(outputs, whole) else 0.5 - lost

    whole = opened.context.model(opened.val.split.memory.inputs).detach()
    opened.task.metric = metric
    opened.val = ScoredSet(opened.task, opened.val.split, opened.context.layout)
    (row,) = found(opened, cut.group("three", [12]))
    assert (row.can_go is not None) is can


def test_outputs_that_are_no_numbers_cannot_go(opened: Any, cut: Cut) -> None:
    cut.declares = False
    (row,) = found(opened, cut.group(factor=float("nan")))
    assert row.cannot_go == Removal(1, None, None)
    json.dumps(asdict(row), allow_nan=False)


@pytest.mark.usefixtures("hours")
def test_half_of_each_group_is_tried_first_and_more_while_there_is_time(opened: Any, cut: Cut) -> None:
    groups = [cut.group(name) for name in ("first", "second", "third")]
    unknown = [GroupSensitivity(group.name, UNITS) for group in groups]
    assert found(opened, *groups, within_s=0) == unknown
    some = found(opened, *groups, within_s=1.5 * 3600)
    assert ([counts(row) for row in some[:2]], some[2]) == ([(8, None)] * 2, unknown[2])
    cut.tried.clear()
    assert [counts(row) for row in found(opened, *groups, within_s=3.5 * 3600)] == [(8, 12), (8, None), (8, None)]
    assert cut.tried == [8, 8, 8, 12]


def test_a_group_that_fails_says_why_and_the_others_are_told(opened: Any, cut: Cut) -> None:
    def unlucky(count: int) -> Plan:
        raise CandidateFailed("not today")

    broken = ShrinkableGroup("broken", 4, [2], unlucky)
    unknown = ShrinkableGroup("unknown", 4, [2], lambda count: {"nothing": count})
    one, other, third = found(opened, broken, unknown, cut.group())
    assert (one.failed, one.can_go) == ("not today", None)
    assert "KeyError" in str(other.failed)
    assert (third.failed, counts(third)) == (None, (8, 9))


def test_it_says_how_far_it_is(opened: Any, cut: Cut) -> None:
    told: list[tuple[str, float | None]] = []
    opened.supervisor = Supervisor(tell=lambda text, done: told.append((text, done)))
    found(opened, cut.group("first"), cut.group("second"))
    assert [text for text, _ in told] == 4 * ["sensitivity: cut, first", "sensitivity: cut, second"]
    assert all(done is not None and 0 <= done <= 1 for _, done in told)


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_the_reference_stays_as_it_is(seconds: float, opened: Any, cut: Cut) -> None:
    before = copy.deepcopy(opened.context.model.state_dict())
    found(opened, cut.group(), within_s=seconds)
    assert all(torch.equal(value, before[name]) for name, value in opened.context.model.state_dict().items())
