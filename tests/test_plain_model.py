"""A user's module is taken as what it comes down to: the same function, plain parameters, and the module untouched."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.nn.utils import spectral_norm as hooked_spectral_norm
from torch.nn.utils import weight_norm as hooked_weight_norm
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm
from torch.optim.swa_utils import AveragedModel

from autocompress.errors import UsageError
from autocompress.nested import tensors_of
from autocompress.plain_model import evaluating, plain_copy, what_is_taken

ROOT = Path(__file__).parent.parent
X = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))


def pruned() -> nn.Module:
    model = nn.Conv1d(3, 4, 3)
    prune.l1_unstructured(model, "weight", 0.5)
    prune.random_unstructured(model, "bias", 0.5)
    return model


def compiled_inside() -> nn.Module:
    return nn.Sequential(torch.compile(nn.Linear(8, 8), backend="eager"), nn.Linear(8, 4))


COMPUTED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "weight norm": (lambda: weight_norm(nn.Conv1d(3, 4, 3)), "the parametrization WeightNorm of"),
    "weight norm by a hook": (lambda: hooked_weight_norm(nn.Conv1d(3, 4, 3)), "weight norm of Conv1d:"),
    "spectral norm": (lambda: spectral_norm(nn.Conv1d(3, 4, 3)), "the parametrization SpectralNorm of"),
    "spectral norm by a hook": (lambda: hooked_spectral_norm(nn.Conv1d(3, 4, 3)), "spectral norm of Conv1d:"),
    "orthogonal": (lambda: orthogonal(nn.Linear(8, 8)), "the parametrization Orthogonal of"),
    "two at once": (lambda: spectral_norm(weight_norm(nn.Linear(8, 8))), "WeightNorm, SpectralNorm of"),
    "recurrent": (lambda: weight_norm(nn.LSTM(8, 4), "weight_hh_l0"), "the parametrization WeightNorm of"),
    "mask": (pruned, "the pruning mask of Conv1d"),
}
WRAPPED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "compiled": (lambda: torch.compile(nn.Linear(8, 4), backend="eager"), "out of OptimizedModule:"),
    "compiled inside": (compiled_inside, r"out of OptimizedModule \(0\):"),
    "parallel": (lambda: nn.DataParallel(nn.Linear(8, 4)), "out of DataParallel:"),
    "averaged": (lambda: AveragedModel(nn.DataParallel(nn.Linear(8, 4))), "out of AveragedModel:"),
}


def answer(model: nn.Module) -> Tensor:
    found = evaluating(model)(X)
    return found[0] if isinstance(found, tuple) else found


@pytest.mark.parametrize("name", [*COMPUTED, *WRAPPED])
def test_a_plain_copy_computes_the_same_with_parameters_of_the_usual_names(name: str):
    make, said = (COMPUTED | WRAPPED)[name]
    model = make()
    expected, before = answer(model), {key: value.clone() for key, value in model.state_dict().items()}
    plain = plain_copy(model)
    torch.testing.assert_close(answer(plain), expected)
    assert not any(re.search(r"module|parametriz|_orig|_mask|_[guv]$", key) for key in plain.state_dict())
    answer(plain).sum().backward()
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items()), "it is the user's"
    torch.testing.assert_close(answer(model), expected)
    torch.testing.assert_close(answer(plain_copy(model)), expected)
    assert re.search(said, what_is_taken(model)[0])


def test_what_is_told_names_three_layers_and_counts_the_others():
    model = nn.Sequential(*(weight_norm(nn.Linear(8, 8)) for _ in range(5)))
    (line,) = what_is_taken(model)
    assert "WeightNorm of 0, 1, 2 and 2 more: weights are taken as they come out" in line


def test_shared_weights_stay_shared_and_gradients_are_dense():
    model = nn.ModuleDict({"words": nn.Embedding(9, 4, sparse=True), "head": nn.Linear(4, 9)})
    model["head"].weight = model["words"].weight
    plain = plain_copy(model)
    assert plain["head"].weight is plain["words"].weight  # type: ignore[index]
    plain["words"](torch.tensor([1, 2])).sum().backward()  # type: ignore[index]
    assert not plain["words"].weight.grad.is_sparse  # type: ignore[index]
    assert model["words"].sparse, "the user's own stays as it is"


@pytest.mark.parametrize("both", [False, True])
def test_a_mask_stays_on_the_layer_that_has_it(both: bool):
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight = model[0].weight
    for layer in model if both else model[:1]:
        prune.custom_from_mask(layer, "weight", torch.eye(8))
    expected = answer(model)
    plain = plain_copy(model)
    torch.testing.assert_close(answer(plain), expected)
    assert (plain[0].weight is plain[1].weight) == both, "what comes out the same stays one"  # type: ignore[index]


def test_what_two_layers_compute_of_the_same_weights_stays_one():
    model = nn.Sequential(weight_norm(nn.Linear(8, 8)), weight_norm(nn.Linear(8, 8)))
    one, other = (layer.parametrizations.weight for layer in model)
    other.original0, other.original1 = one.original0, one.original1
    plain = plain_copy(model)
    torch.testing.assert_close(answer(plain), answer(model))
    assert plain[0].weight is plain[1].weight  # type: ignore[index]


def test_a_masked_layer_of_the_users_own_is_copied_as_it_is():
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight_orig = nn.Parameter(torch.randn(4, 8))
            self.register_buffer("weight_mask", torch.ones(4, 8))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x, self.weight_orig * self.weight_mask)

    model = Masked()
    torch.testing.assert_close(answer(plain_copy(model)), answer(model))


def test_what_holds_itself_is_copied():
    model = nn.Linear(8, 4)
    model.settings = {}
    model.settings["all"] = model.settings
    torch.testing.assert_close(answer(plain_copy(model)), answer(model))


def test_hooks_on_a_wrapper_are_said_to_be_left():
    model = nn.DataParallel(nn.Linear(8, 4))
    model.register_forward_hook(lambda module, given, out: out * 2)
    assert "without the hooks on the outer one" in what_is_taken(model)[0]


def test_a_module_that_was_compiled_in_place_computes_with_the_copys_own_weights():
    model = weight_norm(nn.Linear(8, 4))
    model.compile(backend="eager")
    plain = plain_copy(model)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.zero_()
    assert not answer(plain).any()
    assert answer(model).any()


def test_what_a_module_keeps_of_a_call_does_not_keep_it_from_being_copied():
    class Keeping(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            self.last = super().forward(x)
            self.cache = {"all": [self.last]}
            return self.last

    model = Keeping(8, 4)
    model(X)
    plain = plain_copy(model)
    assert torch.equal(plain.last, model.last)
    assert plain.cache["all"][0] is plain.last, "one tensor stays one"


def modes_that_are_used() -> Iterator[str]:
    """Where what ``eval()`` or ``train()`` of a module returns is used."""
    for folder in ("autocompress", "plugins", "search_spaces"):
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text("utf-8"))
            alone = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            for node in ast.walk(tree):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node in alone:
                    continue
                own = isinstance(node.func.value, ast.Call)  # of a module that is made there
                if node.func.attr in ("eval", "train") and not (node.args or node.keywords or own):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}"


def test_what_a_users_train_returns_is_used_nowhere():
    """Its owner writes ``model.train()`` as a statement, and may return nothing from it."""
    ours = {"autocompress/demo/digits.py", "autocompress/testing/tasks.py"}
    assert [place for place in modes_that_are_used() if place.rpartition(":")[0] not in ours] == []


class Turned(nn.Module):
    """A linear layer with its matrix the other way round, as GPT-2 has it."""

    def __init__(self, inputs: int, outputs: int, times: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.randn(outputs))
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        return self.times * torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], -1)


def test_a_linear_layer_of_a_class_of_its_own_is_one_and_what_does_more_is_not():
    model = nn.Sequential(Turned(8, 6), nn.ReLU(), Turned(6, 4, times=2.0))
    model[0].bias.requires_grad_(False)
    copied = plain_copy(model)
    assert [type(layer) for layer in copied] == [nn.Linear, nn.ReLU, Turned]
    torch.testing.assert_close(copied(X), model(X))
    assert torch.equal(copied[0].weight, model[0].weight.T)
    assert copied[0].weight.requires_grad
    assert not copied[0].bias.requires_grad
    assert isinstance(model[0], Turned), "the user's own stays"


def test_a_linear_layer_that_is_held_twice_is_one_layer():
    layer = Turned(8, 8)
    copied = plain_copy(nn.ModuleList([layer, layer]))
    assert isinstance(copied[0], nn.Linear)  # type: ignore[index]
    assert copied[0] is copied[1]  # type: ignore[index]


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False, "batch_first": True}]
)
def test_an_lstm_with_projections_is_one_without_and_linear_layers(options: dict[str, Any]):
    model = nn.Sequential(nn.LSTM(8, 6, proj_size=3, **options)).eval()
    for alike in (plain_copy(model), plain_copy(model[0])):
        for got, expected in zip(tensors_of(alike(X)), tensors_of(model(X)), strict=True):
            torch.testing.assert_close(got, expected)
        assert not any(getattr(layer, "proj_size", 0) for layer in alike.modules() if isinstance(layer, nn.LSTM))
    assert what_is_taken(model) == [
        "the LSTM with proj_size (0) is taken as one without, and linear layers behind it: ONNX has no form of it"
    ]


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_its_first_state_is_refused_with_what_to_do():
    found = plain_copy(nn.Sequential(nn.LSTM(8, 6, proj_size=3)))
    with pytest.raises(UsageError, match="leave it out where it is zero"):
        found[0](X, (torch.zeros(1, 3, 3), torch.zeros(1, 3, 6)))  # type: ignore[index]
