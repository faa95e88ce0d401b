"""The task: what its constructor refuses; the user's model is left alone."""

import sys
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress.classes import accuracy, class_count
from autocompress.errors import UsageError
from autocompress.task import Task


def make(**changes: object) -> Task:
    x, y = torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])
    return Task(**{"name": "t", "model": nn.Linear(2, 2), "train": (x, y), "val": (x, y), **changes})


# -- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "value", "cause"),
    [
        ("name", "  ", r"Task\.name must be a non-empty string, not '  '"),
        ("name", 3, r"Task\.name must be a non-empty string, not 3"),
        ("model", "net", r"Task\.model must be a torch\.nn\.Module, not str"),
        ("model", nn.Linear, r"Task\.model must be a torch\.nn\.Module, not type"),
        (
            "metric",
            0.5,
            r"Task\.metric must be a name, a callable, an object with update",
        ),
        ("batch", "rows", r"Task\.batch must be a callable, not str"),
        ("outputs", "logits", r"Task\.outputs must be a list of names, not 'logits'"),
        ("learning_rates", [1e-4, 0], r"Task\.learning_rates must be a list of numbers above 0, not \[0"),
        ("learning_rates", 3e-5, r"Task\.learning_rates must be a list of numbers above 0, not 3e-05"),
        ("keep", 3, r"Task\.keep must be a list of names, not 3"),
        ("loss", "hinge", r"Task\.loss must be one of cross_entropy, mse or a callable, not 'hinge'"),
        ("augment", 0.5, r"Task\.augment must be a callable, not float"),
        ("student", "small", r"Task\.student must be a callable, not str"),
    ],
)
def test_argument_of_the_wrong_kind_is_refused(argument: str, value: object, cause: str):
    with pytest.raises(UsageError, match=cause):
        make(**{argument: value})


@pytest.mark.parametrize("argument", ["metric", "loss"])
def test_metric_or_loss_that_is_a_list_is_refused(argument: str):
    with pytest.raises(UsageError, match=f"Task.{argument}"):
        make(**{argument: ["accuracy"]})


def test_own_metric_and_loss_are_used_and_named():
    def closeness(outputs: Tensor, targets: Tensor) -> float:
        return 0.25

    task = make(metric=closeness, loss=nn.functional.l1_loss)
    assert task.metric_name == "closeness"
    assert task.loss_fn(torch.ones(3), torch.zeros(3)) == 1


@pytest.mark.parametrize(
    ("outputs", "targets", "classes"),
    [
        ((6, 5), torch.zeros(6).long(), 5),
        ((6, 5, 8, 9), torch.zeros(6, 8, 9).int(), 5),
        ((6, 7, 5), torch.zeros(6, 7).long(), 5),
        ((6, 5), torch.zeros(6), None),
        ((6, 5), torch.zeros(6, 5).long(), None),
        ((6, 1), torch.zeros(6).long(), None),
        ((6,), torch.zeros(6).long(), None),
        ((6, 5), torch.zeros(6, 1).long(), None),
        ((6, 5), torch.eye(6, 5)[:, [0, 1, 2, 3, 4]].clone().index_fill(0, torch.tensor([5]), 0.2), 5),
        ((6, 2, 3), torch.full((6, 2, 3), 0.5), 2),
    ],
    ids=[
        *("rows", "pixels", "tokens", "numbers", "several labels", "one output", "no axis of classes", "a column"),
        *("one-hot and smoothed", "soft places"),
    ],
)
def test_labels_are_told_from_other_targets_by_the_data(outputs: tuple[int, ...], targets: Tensor, classes: int | None):
    assert class_count(torch.zeros(outputs), targets) == classes


def test_accuracy_counts_rows_pixels_and_tokens():
    classes_last = torch.eye(3)[torch.tensor([0, 1, 2, 2])]
    assert accuracy(classes_last, torch.tensor([0, 1, 2, 0])) == 0.75
    pixels = torch.zeros(1, 3, 2, 2)
    pixels[0, 1] = 1.0
    assert accuracy(pixels, torch.tensor([[[1, 1], [1, 0]]])) == 0.75


# -- the model is the user's -------------------------------------------------------------------------------------------


class Shared(nn.Module):
    """One frozen layer, one used twice, a buffer, in half precision: what a real module may be like."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3, 3)
        self.two = nn.Linear(3, 3)
        self.two.weight = self.one.weight
        self.norm = nn.BatchNorm1d(3)
        self.one.bias.requires_grad_(False)
        self.register_buffer("scale", torch.full((3,), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.two(self.one(x))) * self.scale


def test_copy_leaves_the_users_module_unchanged():
    model = Shared().double().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    copied = make(model=model).copy_of_model()
    with torch.no_grad():
        for tensor in (*copied.parameters(), *copied.buffers()):
            tensor.zero_()
    copied.train()(torch.randn(4, 3))
    assert model.training
    assert [p.requires_grad for p in model.parameters()] == [True, False, True, True, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(tensor.dtype == before[name].dtype for name, tensor in model.state_dict().items())


class Sum(nn.Module):
    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).sum()


def annotated(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).sum()


@pytest.mark.parametrize("loss", [annotated, Sum()])
def test_a_loss_that_says_it_takes_a_tensor_is_given_the_one_that_is_scored(loss: Any):
    returned = {"hidden": torch.zeros(2), "logits": torch.ones(3)}
    assert make(loss=loss).loss_fn(returned, torch.zeros(3)) == 3

    def whole(outputs: Any, targets: Tensor) -> Tensor:
        return outputs["hidden"].sum() + 5

    assert make(loss=whole).loss_fn(returned, torch.zeros(3)) == 5


@pytest.mark.parametrize("unfreeze", [False, True])
def test_copy_is_in_evaluation_mode_keeps_sharing_and_what_is_frozen(unfreeze: bool):
    copied = make(model=Shared().double().train(), unfreeze=unfreeze).copy_of_model()
    assert not any(module.training for module in copied.modules())
    assert all(p.dtype == torch.float32 for p in copied.parameters())
    frozen = [name for name, p in copied.named_parameters() if not p.requires_grad]
    assert frozen == ([] if unfreeze else ["one.bias"])
    assert copied.one.weight is copied.two.weight


def test_module_with_buffers_only_is_copied():
    class Buffers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.arange(4.0))

    assert torch.equal(make(model=Buffers()).copy_of_model().table, torch.arange(4.0))


def test_model_that_cannot_be_copied_says_what_to_do():
    model = nn.Linear(2, 2)
    model.log = sys.stderr
    model.non_leaf = torch.ones(2, requires_grad=True) * 2
    with pytest.raises(UsageError, match=r"Task\.model cannot be copied: .*build it inside the task factory"):
        make(model=model).copy_of_model()


def test_model_with_an_integer_parameter_is_copied():
    model = nn.Linear(2, 2)
    model.index = nn.Parameter(torch.arange(3), requires_grad=False)
    assert torch.equal(make(model=model).copy_of_model().index, torch.arange(3))


def test_a_model_whose_weights_have_no_shape_yet_is_refused():
    model = nn.Sequential(nn.Linear(2, 3), nn.LazyBatchNorm1d(), nn.LazyLinear(2))
    with pytest.raises(UsageError, match=r"has no weights yet: 1\.weight has a shape once the model was called; call"):
        make(model=model)
    model(torch.zeros(2, 2))
    assert make(model=model).copy_of_model()[2].weight.shape == (2, 3)


def test_what_of_a_model_cannot_be_copied_is_named():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    model[1][1].lock = threading.Lock()
    model.earlier = torch.ones(2, requires_grad=True) * 2
    with pytest.raises(UsageError, match=r"cannot be copied: lock of 1\.1 \(ReLU\): TypeError: cannot pickle"):
        make(model=model).copy_of_model()


class Uncopied(nn.Linear):
    def __deepcopy__(self, memo: object) -> nn.Module:
        raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("only one of me"), r"cannot be copied: 0 \(Uncopied\): RuntimeError: only one of me"),
        (MemoryError(), "does not fit into memory twice: its weights take 4e-08 GB"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "does not fit into memory twice"),
    ],
)
def test_a_layer_that_refuses_to_be_copied_is_named(error: Exception, said: str):
    layer = Uncopied(2, 2, bias=False)
    layer.error = error
    model = nn.Sequential(layer, nn.Linear(2, 2))
    with pytest.raises(UsageError, match=said):
        make(model=model).copy_of_model()


def test_a_model_that_does_not_fit_twice_is_refused_before_it_is_copied(monkeypatch: pytest.MonkeyPatch):
    layer = Uncopied(500, 500, bias=False).half()
    monkeypatch.setattr("autocompress.model_copies.memory_bytes", lambda: 1_400_000)
    with pytest.raises(
        UsageError, match=r"weights take 0\.0005 GB, a copy of them in float32 0\.001 GB, and here there are 0\.0014 GB"
    ):
        make(model=layer).copy_of_model()
