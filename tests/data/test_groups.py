"""Which group an example belongs to, and what a file loses in each."""

import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress import Task
from autocompress.data import Batch, ScoredSet, read_data
from autocompress.data.reading import Reading
from autocompress.errors import UsageError
from autocompress.group_losses import GroupLosses

COUNT = 120


class Small(nn.Module):
    """As many numbers as there are classes."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.net = nn.Linear(3, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)  # type: ignore[no-any-return]


def scored(targets: Any, outputs: int = 3, **more: Any) -> ScoredSet:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(len(targets), 3, generator=generator)
    other = torch.randn(len(targets), 3, generator=generator), targets
    task = Task(name="t", model=Small(outputs), train=other, val=(inputs, targets), **more)
    data = read_data(task, Reading())
    return ScoredSet(task, data.splits["val"], data.layout)


def labels(classes: int = 3) -> Tensor:
    return torch.arange(COUNT) % classes


def answers(targets: Tensor, wrong: Tensor, classes: int = 3) -> Tensor:
    """Logits of the labels, but where they are wrong."""
    return nn.functional.one_hot(torch.where(wrong, (targets + 1) % classes, targets), classes).float()


def lost(on: ScoredSet, own: Tensor, reference: Tensor) -> GroupLosses | None:
    name = on.layout.scored
    kept = [on.kept([({name: outputs}, on.targets)]) for outputs in (own, reference)]
    return on.by_group(kept[0], kept[1])


def test_each_class_is_compared_on_its_own_examples() -> None:
    targets = labels()
    on = scored(targets, labels=["cat", "dog", "owl"])
    right = torch.zeros(COUNT, dtype=torch.bool)
    wrong = (targets == 1) & (torch.arange(COUNT) < COUNT // 2)
    found = lost(on, answers(targets, wrong), answers(targets, right))
    assert found is not None
    assert found.by == "class"
    assert [(g.name, g.examples, g.reference, g.own) for g in found.rows] == [
        ("cat", 40, 1.0, 1.0),
        ("dog", 40, 1.0, 0.5),
        ("owl", 40, 1.0, 1.0),
    ]
    assert found.worst_first[0].loss == pytest.approx(0.5)
    assert [g.name for g in found.hidden(1 / 6)] == ["dog"]


def test_the_tasks_own_groups_come_before_classes() -> None:
    targets = labels()
    on = scored(targets, groups=lambda inputs, given: ["even" if label % 2 == 0 else "odd" for label in given])
    found = lost(on, answers(targets, targets == 1), answers(targets, targets < 0))
    assert found is not None
    assert (found.by, [(g.name, g.examples, g.own) for g in found.rows]) == (
        "group",
        [("even", 80, 1.0), ("odd", 40, 0.0)],
    )


def test_a_number_as_the_target_is_told_apart_by_tenths() -> None:
    targets = torch.arange(COUNT).float()[:, None]
    on = scored(targets, 1, loss="mse", metric=lambda outputs, given: -float((outputs - given).abs().mean()))
    own = targets.clone()
    own[-12:] += 5
    found = lost(on, own, targets)
    assert found is not None
    assert found.by == "tenth of the target"
    assert [g.examples for g in found.rows] == [12] * 10
    assert (found.rows[-1].name, found.rows[-1].loss) == ("108 to 119", pytest.approx(5.0))
    assert max(abs(g.loss) for g in found.rows[:-1]) == 0.0


def test_labels_of_places_and_few_numbers_are_not_told_apart() -> None:
    on = scored(torch.arange(40).float()[:, None], 1, loss="mse", metric=lambda outputs, given: 0.0)
    assert on.groups is None


def test_labels_that_do_not_count_are_no_class() -> None:
    targets = labels()
    targets[::4] = -100
    assert scored(targets).groups is not None
    assert scored(targets).groups.names == ("0", "1", "2")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (lambda inputs, targets: ["one"], "Task.groups gave 1 labels for 64 examples: give one an example"),
        (lambda inputs, targets: inputs.names, "Task.groups raised .*; it is called with the inputs and the targets"),
        (lambda inputs, targets: 3, "Task.groups raised TypeError"),
    ],
)
def test_groups_that_do_not_fit_are_refused_before_anything_is_scored(groups: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        scored(labels(), groups=groups).check_groups()


@pytest.mark.parametrize("metric", ["auroc", "f1"])
def test_a_metric_that_is_no_mean_over_examples_is_not_told_by_class(metric: str) -> None:
    """Of one class an area under a curve is nothing, and F1 counts what other classes were taken for."""
    targets = labels()
    on = scored(targets, metric=metric)
    draw = torch.Generator().manual_seed(1)
    sure, unsure = (answers(targets, targets < 0) * scale + torch.randn(COUNT, 3, generator=draw) for scale in (3, 1))
    assert lost(on, unsure.softmax(1), sure.softmax(1)) is None
    by_name = scored(targets, metric=metric, groups=lambda inputs, given: [int(x[0] > 0) for x in inputs])
    found = lost(by_name, unsure.softmax(1), sure.softmax(1))
    assert found is not None
    assert [g.name for g in found.rows] == ["0", "1"], "the task's own groups are"


def test_the_share_of_variance_is_not_told_by_tenths() -> None:
    targets = torch.randn(COUNT, 1, generator=torch.Generator().manual_seed(2))

    def r2(outputs: Tensor, given: Tensor) -> float:
        return 1 - float(((outputs - given) ** 2).sum() / ((given - given.mean()) ** 2).sum())

    on = scored(targets, 1, loss="mse", metric=r2)
    assert lost(on, 0.7 * targets, 0.9 * targets) is None


def test_also_of_many_shuffled_examples_f1_is_not_told_by_class() -> None:
    draw = torch.Generator().manual_seed(3)
    targets = torch.randint(3, (20_000,), generator=draw)

    def macro_f1(outputs: Tensor, given: Tensor) -> float:
        said = outputs.argmax(1)
        hits = [((said == c) & (given == c)).sum() for c in range(3)]
        return float(sum(2 * h / ((said == c).sum() + (given == c).sum()) for c, h in enumerate(hits)) / 3)

    on = scored(targets, metric=macro_f1)
    wrong = torch.rand(len(targets), generator=draw) < 0.08
    assert lost(on, answers(targets, wrong), answers(targets, wrong & (targets == 0))) is None


def test_a_metric_that_takes_long_is_not_told_by_class() -> None:
    """Its error takes some hundred calls of each class."""
    calls: list[float] = []

    def slow(outputs: Tensor, given: Tensor) -> float:
        calls.append(len(given))
        time.sleep(0.02)
        return float((outputs.argmax(1) == given).float().mean())

    targets = labels()
    assert lost(scored(targets, metric=slow), answers(targets, targets == 1), answers(targets, targets < 0)) is None
    assert len(calls) < 20


def test_numbers_that_begin_with_zeros_are_no_classes() -> None:
    values = torch.cat([torch.zeros(64), torch.linspace(0, 50, 400)])[:, None]
    on = scored(values, 1, loss="mse", metric=lambda outputs, given: -float((outputs - given).abs().mean()))
    assert on.groups is not None
    assert on.groups.by == "tenth of the target"


@pytest.mark.parametrize("kind", [torch.float32, torch.int64])
def test_one_logit_of_two_classes_is_told_by_class(kind: torch.dtype) -> None:
    targets = (torch.arange(COUNT) % 2).to(kind)[:, None]
    right = lambda outputs, given: float(((outputs > 0) == (given > 0.5)).float().mean())  # noqa: E731
    mse = lambda outputs, given: ((outputs - given) ** 2).mean()  # noqa: E731
    on = scored(targets, 1, loss=mse, metric=right, labels=["no", "yes"])
    found = lost(on, torch.ones(COUNT, 1), targets.float() * 2 - 1)
    assert found is not None
    assert (found.by, [(g.name, g.own) for g in found.rows]) == ("class", [("no", 0.0), ("yes", 1.0)])


def test_groups_of_few_examples_are_named_and_nothing_is_computed_of_them() -> None:
    targets = labels()
    on = scored(targets, groups=lambda inputs, given: [str(float(x[0])) for x in inputs])
    found = lost(on, answers(targets, targets == 1), answers(targets, targets < 0))
    assert found is not None
    assert (len(found.rows), len(found.too_few)) == (0, COUNT)


def test_names_tell_groups_apart() -> None:
    times = (1.7e9 + torch.arange(COUNT).double() * 60)[:, None]
    on = scored(times, 1, loss="mse", metric=lambda outputs, given: 0.0)
    assert on.groups is not None
    assert len(set(on.groups.names)) == 10
    assert scored(labels(), labels=["a", "a", "b"]).groups.names == ("a", "a (2)", "b")  # type: ignore[union-attr]
    named = scored(labels(), labels=["crane (bird)", "crane", "crane"])
    assert named.groups is not None
    assert named.groups.names == ("crane (bird)", "crane", "crane (2)")
    long = scored(labels(), groups=lambda inputs, given: ["x" * 90 + str(int(label)) for label in given])
    assert long.groups is not None
    assert len(set(long.groups.names)) == 3
    tensors = scored(labels(), groups=lambda inputs, given: list(given))
    assert tensors.groups is not None
    assert tensors.groups.names == ("0", "1", "2")


def test_each_example_is_compared_and_what_is_long_loses_more() -> None:
    targets, right = labels(), torch.zeros(COUNT, dtype=torch.bool)
    lengths = 1 + torch.arange(COUNT) % 20
    on = scored(targets)
    assert on.split.memory is not None
    on.split.memory = Batch((on.split.memory.inputs, (torch.arange(20) < lengths[:, None]).long()), targets)
    kept = [on.kept([({on.layout.scored: answers(targets, wrong)}, targets)]) for wrong in (lengths > 15, right)]
    found = on.changed(kept[0], kept[1], 10.0)
    assert found is not None
    losses, by_length = found
    assert losses.tolist() == (lengths > 15).double().tolist()
    assert by_length is not None
    assert by_length.by == "length"
    assert {group.name: group.loss for group in by_length.rows}["19 to 20"] == 1.0
    assert {group.name: group.loss for group in by_length.rows}["1 to 2"] == 0.0


def test_a_metric_that_says_nothing_of_one_example_is_not_told_by_example() -> None:
    targets = labels()

    def spread_of(outputs: Tensor, _: Tensor) -> float:
        return float(outputs.std())

    on = scored(targets, metric=spread_of, maximize=True)
    kept = on.kept([({on.layout.scored: answers(targets, targets == 1)}, targets)])
    assert on.changed(kept, kept, 10.0) is None
