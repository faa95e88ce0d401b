"""What no search could use is refused by index and count; examples of one split that are in another are counted."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from autocompress.data import Reading, Split, output_layout
from autocompress.data.broadcasting import broadcast_warnings
from autocompress.data.checks import check_split
from autocompress.data.first_examples import FirstExamples
from autocompress.data.loading import open_split
from autocompress.data.overlap import Overlaps
from autocompress.errors import DataError, UsageError
from autocompress.nested import Nested
from autocompress.task import Task

X = torch.randn(130, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(130) % 4


def classifier(features: int = 3, classes: int = 4) -> Task:
    return Task(name="t", model=nn.Linear(features, classes), train=(X, Y), val=(X, Y))


def checked(split: Split, task: Task, overlaps: Overlaps | None = None) -> None:
    check_split(FirstExamples.of(split, task.copy_of_model()), task, overlaps)


def layout_of(task: Task, split: Split) -> object:
    return output_layout(task, task.copy_of_model(), split.take(torch.arange(2)))


# -- refused by their values -------------------------------------------------------------------------------------------


def test_good_data_passes():
    checked(open_split("train", (X, Y)), classifier())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_inputs_are_counted_and_the_first_is_named(value: float):
    bad = X.clone()
    bad[[17, 40, 99], 1] = value
    bad[17, 2] = value  # twice in one example
    with pytest.raises(UsageError, match="train split has NaN or infinite inputs: 3 of them, the first at index 17;"):
        checked(open_split("train", (bad, Y)), classifier())


def test_nan_in_the_second_modality_is_found():
    class Both(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return torch.cat([a, b], 1)

    bad = X.clone()
    bad[5] = torch.nan
    task = Task(name="t", model=Both(), train=None, val=None)
    with pytest.raises(UsageError, match="1 of them, the first at index 5;"):
        checked(open_split("train", ((X, bad), Y)), task)


def test_labels_out_of_range_are_counted_and_the_first_is_named():
    for wrong in (-1, 4):
        bad = Y.clone()
        bad[[11, 120]] = wrong
        cause = rf"the val split has labels out of range: 2 of them, the first at index 11 is {wrong}; expected 0\.\.3"
        with pytest.raises(UsageError, match=cause):
            checked(open_split("val", (X, bad)), classifier())


def test_counts_are_of_the_whole_split():
    inputs, labels = torch.zeros(5000, 3), torch.arange(5000) % 4
    labels[[3, 4999]] = 7
    with pytest.raises(UsageError, match="2 of them, the first at index 3"):
        checked(open_split("train", (inputs, labels)), classifier())


def test_fault_beyond_the_first_batch_has_its_own_index():
    inputs, labels = torch.zeros(5000, 3), torch.arange(5000) % 4
    inputs[4500] = torch.nan
    with pytest.raises(UsageError, match="the first at index 4500;"):
        checked(open_split("train", (inputs, labels)), classifier())
    inputs[4500], labels[4600] = 0, 9
    with pytest.raises(UsageError, match="the first at index 4600 is 9"):
        checked(open_split("train", (inputs, labels)), classifier())


def test_wrong_label_among_good_ones_is_the_one_named():
    pixels = Task(name="t", model=nn.Conv2d(1, 4, 1), train=None, val=None)
    labels = torch.arange(3 * 2 * 2).reshape(3, 2, 2) % 4
    labels[1, 1, 0] = 9
    with pytest.raises(UsageError, match="the first at index 1 is 9"):
        checked(open_split("val", (torch.zeros(3, 1, 2, 2), labels)), pixels)


def test_labels_in_a_column_are_refused():
    with pytest.raises(UsageError, match=r"\(130, 1\)|shape"):
        checked(open_split("val", (X, Y[:, None])), classifier())


def test_one_class_is_refused():
    with pytest.raises(UsageError, match=r"the val split has one class only \(2 in all 130 examples\)"):
        checked(open_split("val", (X, torch.full((130,), 2))), classifier())


def test_float_labels_for_a_classification_are_refused():
    with pytest.raises(UsageError, match=r"the val split has torch\.float32 targets, .*need integer labels"):
        checked(open_split("val", (X, Y.float())), classifier())


def test_labels_that_a_loss_of_the_users_ignores_are_no_fault():
    task = Task("t", nn.Linear(3, 4), None, None, loss=nn.CrossEntropyLoss(ignore_index=255), metric=lambda o, t: 0.0)
    labels = Y.clone()
    labels[::3] = 255
    checked(open_split("val", (X, labels)), task)


def test_one_output_is_no_classification():
    task = Task(name="t", model=nn.Linear(3, 1), train=None, val=None)
    with pytest.raises(UsageError, match=r"outputs of shape \(3, 1\): .*two classes or more"):
        checked(open_split("val", (X, Y % 2)), task)


def test_regression_has_no_classes_to_check():
    task = Task(name="t", model=nn.Linear(3, 1), train=None, val=None, metric=lambda o, t: 0.0, loss="mse")
    checked(open_split("val", (X, torch.ones(130, 1))), task)


def test_nan_targets_are_refused():
    task = Task(name="t", model=nn.Linear(3, 1), train=None, val=None, metric=lambda o, t: 0.0, loss="mse")
    targets = torch.ones(130, 1)
    targets[9] = torch.nan
    with pytest.raises(UsageError, match="9"):
        checked(open_split("train", (X, targets)), task)


def test_shapes_that_do_not_match_the_model_are_named():
    split = open_split("train", (X, Y))
    with pytest.raises(UsageError, match=r"the model does not take the data \(input \(2, 3\) torch\.float32\)"):
        layout_of(classifier(features=5), split)

    class Pooled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.mean(0))

    pooled = Task(name="t", model=Pooled(3, 4), train=None, val=None)
    with pytest.raises(UsageError, match=r"outputs of shape \(4,\) for 2 examples: expected one row an example"):
        layout_of(pooled, split)


def test_one_number_an_example_is_no_classification():
    task = Task(name="t", model=nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)), train=None, val=None)
    with pytest.raises(UsageError, match="shape"):
        checked(open_split("val", (X, Y)), task)


# -- overlap -----------------------------------------------------------------------------------------------------------


def overlap_of(train: Split, val: Split) -> int:
    """The number in the warning; 0 without one."""
    warnings = Overlaps({"train": train, "val": val}).found()
    return int(warnings[0].split()[0]) if warnings else 0


def test_overlap_is_counted():
    train = open_split("train", (X[:100], Y[:100]))
    assert overlap_of(train, open_split("val", (X[90:], Y[90:]))) == 10
    assert overlap_of(train, open_split("val", (X[100:], Y[100:]))) == 0
    assert overlap_of(train, open_split("val", (X[:5] + 1e-6, Y[:5]))) == 0


def test_overlap_needs_all_modalities_to_agree():
    train = open_split("train", ((X[:100], torch.zeros(100, 2)), Y[:100]))
    same, other = (open_split("val", ((X[:10], torch.full((10, 2), v)), Y[:10])) for v in (0.0, 1.0))
    assert (overlap_of(train, same), overlap_of(train, other)) == (10, 0)


def test_repeated_examples_are_each_counted():
    repeated = X[:1].repeat(20, 1)
    assert overlap_of(open_split("train", (X, Y)), open_split("val", (repeated, Y[:20]))) == 20


def test_overlap_is_found_as_data_is_read_that_is_not_in_memory():
    said: list[str] = []
    splits = {
        "train": open_split("train", TensorDataset(X.repeat(20, 1), Y.repeat(20)), reading=Reading(most_bytes=0)),
        "val": open_split("val", TensorDataset(X[:30], Y[:30]), reading=Reading(most_bytes=0)),
    }
    overlaps = Overlaps(splits, said.append)
    for split in splits.values():
        checked(split, classifier(), overlaps)
    before = len(said)
    for split in splits.values():
        list(split.batches(100))
    assert [*said, *overlaps.found()][-1].startswith("30 examples of the val split are also in the training split")
    assert len(said) - before <= 1, "said once"


# -- what is not in memory ---------------------------------------------------------------------------------------------


def test_a_fault_that_is_read_late_names_its_index_then():
    bad = X.repeat(4, 1)
    bad[333] = torch.nan
    split = open_split("val", TensorDataset(bad, Y.repeat(4)), reading=Reading(most_bytes=0))
    checked(split, classifier())  # of a sample
    list(split.batches(100, 300))
    with pytest.raises(DataError, match="the val split has NaN or infinite inputs: 1 of them, the first at index 333;"):
        list(split.batches(100))


def test_one_class_is_known_when_all_was_read():
    split = open_split("val", TensorDataset(X, torch.full((130,), 2)), reading=Reading(most_bytes=0))
    checked(split, classifier())
    with pytest.raises(DataError, match=r"one class only \(2 in all 130 examples\)"):
        list(split.batches(50))


# -- shapes that broadcast ---------------------------------------------------------------------------------------------

REGRESSION = torch.arange(130.0)


def told(loss: object, targets: Tensor = REGRESSION, model: nn.Module | None = None) -> list[str]:
    task = Task("t", model or nn.Linear(3, 1), None, None, metric=lambda o, t: 0.0, loss=loss)  # type: ignore[arg-type]
    return warned(task, targets)


def warned(task: Task, targets: Nested) -> list[str]:
    return broadcast_warnings(task, FirstExamples.of(open_split("train", (X, targets)), task.copy_of_model()))


def test_targets_are_brought_to_the_outputs_shape_by_mse_and_it_is_said():
    assert "targets have the shape () an example and outputs (1,)" in told("mse")[0]
    assert told("mse", REGRESSION[:, None]) == []


def squeezed() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))


ELEMENTWISE = {
    "mse": nn.MSELoss(),
    "l1": nn.L1Loss(),
    "huber": nn.functional.huber_loss,
    "poisson": nn.PoissonNLLLoss(),
    "hinge": nn.HingeEmbeddingLoss(),
    "own": lambda o, t: ((o - t) ** 2).mean(),
    "own_l1": lambda o, t: (o - t).abs().sum(),
    "own_logistic": lambda o, t: (nn.functional.softplus(o) - o * t).mean(),
}


@pytest.mark.parametrize("targets", [REGRESSION, torch.zeros(130)], ids=["numbers", "one_class_first"])
@pytest.mark.parametrize("loss", ELEMENTWISE.values(), ids=ELEMENTWISE)
def test_a_loss_that_takes_every_output_with_every_target_is_refused(loss: object, targets: Tensor):
    with pytest.raises(DataError, match=r"takes every output with every target .* outputs have the shape \(1,\)"):
        told(loss, targets)
    with pytest.raises(DataError, match=r"outputs have the shape \(\) an example and targets \(1,\); give targets of"):
        told(loss, targets[:, None], squeezed())
    assert told(loss, targets[:, None]) == told(loss, targets, squeezed()) == []


def test_a_loss_of_which_torch_warns_is_refused():
    with pytest.raises(DataError, match=r"outputs have the shape \(5,\) an example and targets \(1,\)"):
        told(nn.MSELoss(), REGRESSION[:, None], nn.Linear(3, 5))


@pytest.mark.parametrize(
    "loss",
    [
        lambda o, t: ((o.squeeze(1) - t) ** 2).mean(),
        lambda o, t: ((o.squeeze(1) - t) ** 2).sum(),
        lambda o, t: (o.squeeze(1) - t).abs().mean(),
        lambda o, t: o.square().mean(),  # which needs no targets
        lambda o, t: ((o - o.T - (t[:, None] - t)) ** 2).mean(),  # of pairs, on purpose
        lambda o, t: (o.mean() - t.mean()).abs(),  # of none
        lambda o, t: (o.flatten().sort()[0] - t.sort()[0]).square().mean(),
        lambda o, t: nn.functional.mse_loss(o, o.mean(0, keepdim=True)) + (o.squeeze(1) - t).abs().mean(),
    ],
    ids=["mean", "sum", "l1", "no_targets", "pairs", "means", "sorted", "torch_warns_of_others"],
)
def test_a_loss_that_tells_which_target_is_whose_is_taken(loss: object):
    far_off = nn.Linear(3, 1)
    nn.init.constant_(far_off.bias, 1e4)  # all outputs are above their targets
    assert told(loss) == told(loss, model=far_off) == []


def test_what_is_taken_of_rows_with_each_other_on_purpose_is_taken():
    def alike(o: Tensor, t: Tensor) -> Tensor:
        """Each output is nearest to its own target among all of the batch."""
        pairs = nn.functional.normalize(o.squeeze(1), dim=1) @ nn.functional.normalize(t, dim=1).T
        return nn.functional.cross_entropy(pairs, torch.arange(len(t)))

    assert told(alike, torch.rand(130, 4), nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (1, 4)))) == []


@pytest.mark.parametrize("size_loss", [nn.L1Loss(), lambda o, t: (o - t).abs().mean()], ids=["torch_warns", "own"])
def test_a_head_among_several_is_found_and_its_neighbours_are_not_blamed(size_loss: Callable[[Tensor, Tensor], Tensor]):
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kind, self.size = nn.Linear(3, 4), nn.Linear(3, 1)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"kind": self.kind(x), "size": self.size(x)}

    def loss(o: dict[str, Tensor], t: dict[str, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(o["kind"], t["kind"]) + size_loss(o["size"], t["size"])

    task = Task("t", Heads(), None, None, metric=lambda o, t: 0.0, loss=loss)
    with pytest.raises(DataError, match=r"Task.loss takes .* the shape \(1,\) an example and targets \(\)"):
        warned(task, {"kind": Y, "size": REGRESSION})
    assert warned(task, {"kind": Y, "size": REGRESSION[:, None]}) == []


def test_a_mask_and_heads_with_equal_answers_are_no_pairs():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen, self.size = nn.Linear(3, 1), nn.Linear(3, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.seen(x) * 0 + 1, self.size(x)

    def heads(o: tuple[Tensor, Tensor], t: tuple[Tensor, Tensor]) -> Tensor:
        return (o[0].squeeze(1) - t[0]).square().mean() + (o[1] - t[1]).square().mean()

    def masked(o: tuple[Tensor, Tensor], t: tuple[Tensor, Tensor]) -> Tensor:
        return ((o[1] - t[1]).square().squeeze(1) * t[0]).sum() / t[0].sum()

    for loss in (heads, masked):
        task = Task("t", Two(), None, None, metric=lambda o, t: 0.0, loss=loss)
        assert warned(task, (torch.ones(130), torch.full((130, 1), 3e5))) == []
        assert warned(task, (torch.ones(130), torch.ones(130, 1))) == []


def test_a_metric_that_takes_every_output_with_every_target_is_refused():
    def metric(o: Tensor, t: Tensor) -> float:
        return float(((o > 0.5) == (t > 0.5)).float().mean())

    loss = lambda o, t: ((o.squeeze(1) - t) ** 2).mean()  # noqa: E731
    task = Task("t", nn.Linear(3, 1), None, None, metric=metric, loss=loss)
    with pytest.raises(DataError, match=r"Task.metric takes every output .* or squeeze in the metric"):
        warned(task, REGRESSION)
    assert warned(replace(task, metric=lambda o, t: metric(o.squeeze(1), t)), REGRESSION) == []
    bias, r2 = lambda o, t: float(o.mean() - t.mean()), lambda o, t: float(1 - ((o - t) ** 2).mean() / t.var())
    assert warned(replace(task, metric=bias), REGRESSION) == []
    with pytest.raises(DataError, match=r"Task.metric takes every output"):
        warned(replace(task, metric=r2), REGRESSION)
