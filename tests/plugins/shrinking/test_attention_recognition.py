"""Attention by hand: what is recognised, that removing a head is zeroing it there, and that all else stays."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from autocompress.errors import CandidateFailed
from autocompress_plugins.shrinking.attention_layers import HeadAttention
from autocompress_plugins.shrinking.attention_recognition import as_head_attention
from autocompress_plugins.shrinking.prunable import prunable
from autocompress_plugins.shrinking.removal import remove_units

N, T, E, H = 2, 6, 8, 4


def mixed(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool = False) -> Tensor:
    """(N, H, T, D) each -> (N, T, H * D)."""
    scores = q @ k.transpose(-2, -1) * scale
    if causal:
        scores = scores.masked_fill(torch.ones(q.shape[2], q.shape[2]).triu(1).bool(), -math.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


class Fused(nn.Module):
    """One projection; ``order`` is how its outputs are read."""

    def __init__(self, order: str = "3HD", causal: bool = False, scale: float | None = None, bias: bool = True) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(E, 3 * E, bias=bias), nn.Linear(E, E, bias=bias)
        self.order, self.causal, self.scale = order, causal, scale or (E // H) ** -0.5

    def forward(self, x: Tensor) -> Tensor:
        y = self.qkv(x)
        if self.order == "3HD":
            q, k, v = y.reshape(len(x), -1, 3, H, E // H).permute(2, 0, 3, 1, 4)
        else:
            q, k, v = y.reshape(len(x), -1, H, 3, E // H).permute(3, 0, 2, 1, 4)
        return self.out(mixed(q, k, v, self.scale, self.causal))


class Separate(nn.Module):
    """Four layers, the first three in the order of ``names``; the heads may be narrower together than E."""

    def __init__(self, names: str = "qkv", bias: str = "qkvo", inner: int = E, causal: bool = False) -> None:
        super().__init__()
        for name in names:
            setattr(self, name, nn.Linear(E, inner, bias=name in bias))
        self.o = nn.Linear(inner, E, bias="o" in bias)
        self.drop, self.causal = nn.Dropout(0.1), causal

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (H, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return self.o(self.drop(mixed(q, k, v, q.shape[-1] ** -0.5, self.causal)))


class Flat(Fused):
    """Projects the places of all examples as one list."""

    def forward(self, x: Tensor) -> Tensor:
        n, t, e = x.shape
        q, k, v = self.qkv(x.view(n * t, e)).view(n, t, 3, H, -1).permute(2, 0, 3, 1, 4)
        return self.out(mixed(q, k, v, self.scale).view(n * t, e)).view(n, t, e)


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_qkv, self.to_out = nn.Linear(E, 3 * E, bias=False), nn.Sequential(nn.Linear(E, E), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (H, -1)).transpose(1, 2) for part in self.to_qkv(x).chunk(3, -1))
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.to_out(y.transpose(1, 2).flatten(2))


KNOWN: dict[str, Callable[[], nn.Module]] = {
    "fused (3, H, D)": Fused,
    "fused (H, 3, D)": lambda: Fused("H3D"),
    "fused without bias": lambda: Fused(bias=False),
    "flat": Flat,
    "fused causal": lambda: Fused("H3D", causal=True),
    "scaled by the width": lambda: Fused(scale=E**-0.5),
    "not scaled": lambda: Fused(scale=1.0),
    "separate": Separate,
    "separate without bias": lambda: Separate(bias=""),
    "bias on some": lambda: Separate(bias="qv"),
    "separate causal": lambda: Separate(causal=True),
    "value first": lambda: Separate("vqk"),
    "narrower heads": lambda: Separate(inner=E // 2),
    "functional": Functional,
}


def seen(module: nn.Module) -> tuple[Tensor, Tensor]:
    x = 2 * torch.randn(N, T, E)
    with torch.no_grad():
        return x, module.eval()(x)


@pytest.mark.parametrize("name", KNOWN)
def test_it_is_recognised_and_removing_heads_is_zeroing_their_columns_in_the_users_module(name: str):
    module = KNOWN[name]()
    found = as_head_attention(module, *seen(module)).eval()
    assert (found.num_heads, found.causal) == (H, "causal" in name or name == "functional")
    other = 2 * torch.randn(3, T + 5, E)  # not only on the input that it was recognised by
    torch.testing.assert_close(found(other), module(other), atol=1e-5, rtol=1e-4)

    gone, linears = [0, 2], [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    (out,) = (layer for layer in linears if torch.equal(layer.weight, found.out.weight))
    size = out.in_features // H
    with torch.no_grad():
        for head in gone:
            out.weight[:, head * size : (head + 1) * size] = 0
        found.remove_heads(gone)
        torch.testing.assert_close(found(other), module(other), atol=1e-4, rtol=0)
    assert found.num_heads == H - 2
    assert found.qkv.out_features == 3 * 2 * size


class Dropped(Fused):
    """With dropouts, all of which the heads' outputs do not survive where the rate is 1."""

    def __init__(self, **rates: float) -> None:
        super().__init__()
        self.at_output, self.at_heads, self.at_weights, self.at_input = (
            nn.Dropout(rates.get(place, 0.0)) for place in ("output", "heads", "weights", "input")
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.qkv(self.at_input(x)).reshape(len(x), -1, 3, H, E // H).permute(2, 0, 3, 1, 4)
        weights = self.at_weights((y[0] @ y[1].transpose(-2, -1) * self.scale).softmax(-1))
        return self.at_output(self.out(self.at_heads((weights @ y[2]).transpose(1, 2).flatten(2))))


@pytest.mark.parametrize("place", ["weights", "heads", "output"])
def test_dropout_stays_where_it_was(place: str):
    module = Dropped(**{place: 1.0})
    x, y = seen(module)
    found = as_head_attention(module, x, y)
    torch.testing.assert_close(found.eval()(x), y, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.train()(x), module.train()(x))


def test_each_dropout_keeps_its_own_rate():
    module = Dropped(weights=0.1, output=0.3)
    found = as_head_attention(module, *seen(module))
    assert (found.drop_weights.p, found.drop_heads.p, found.drop_output.p) == (0.1, 0.0, 0.3)
    behind = Functional()
    found = as_head_attention(behind, *seen(behind))
    assert (found.drop_weights.p, found.drop_heads.p, found.drop_output.p) == (0.0, 0.0, 0.1)


def test_a_dropout_on_the_input_is_none_of_the_attention():
    module = Dropped(input=0.5)
    found = as_head_attention(module, *seen(module))
    assert (found.drop_weights.p, found.drop_heads.p, found.drop_output.p) == (0.0, 0.0, 0.0)


def test_recognition_leaves_the_module_as_it_was():
    module = Fused()
    x, y = seen(module)
    before = str(vars(module.qkv))
    as_head_attention(module, x, y)
    assert torch.equal(module(x), y)
    assert str(vars(module.qkv)) == before, "no hook is left"


class Relu(Separate):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (H, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return self.o(((q @ k.transpose(-2, -1)).relu() / T @ v).transpose(1, 2).flatten(2))


class NormedQk(Separate):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (H, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        q, k = (nn.functional.normalize(part, dim=-1) for part in (q, k))
        return self.o(mixed(q, k, v, 10.0))


class Beside(Separate):
    """A shortcut inside the module."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Positional(Separate):
    """A bias that depends on the distance."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (H, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        at = torch.arange(x.shape[1])
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 - 0.3 * (at[:, None] - at).abs()
        return self.o((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class Gated(nn.Module):
    """Two linear layers in the sizes of attention, and none."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Linear(E, 3 * E), nn.Linear(E, E)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = self.wide(x).chunk(3, -1)
        return self.narrow(a.sigmoid() * b + c)


def loses_heads_as_if_zeroed(model: nn.Module, x: Tensor, name: str) -> None:
    """x: of the model."""
    expected = copy.deepcopy(model)
    assert prunable(model, x) == {}
    remove_units(model, x, {name: [1, 2]})
    with torch.no_grad():
        expected.get_submodule(name).o.weight[:, E // H : 3 * E // H] = 0
    torch.testing.assert_close(model(x), expected(x), atol=1e-5, rtol=1e-4)
    assert model.get_submodule(name).q.out_features == 2 * E // H


@pytest.mark.parametrize("kind", [Relu, NormedQk, Beside, Positional])
def test_what_computes_something_else_is_not_recognised_and_loses_heads_in_its_own_code(kind: type[nn.Module]):
    module = kind()
    x, _ = seen(module)
    with pytest.raises(CandidateFailed, match="do not read as"):
        as_head_attention(module, x, module(x))
    loses_heads_as_if_zeroed(nn.Sequential(module, nn.Linear(E, 3)).eval(), x, "0")
    assert isinstance(module, kind)


def test_what_is_no_attention_stays():
    module = Gated()
    x, y = seen(module)
    with pytest.raises(CandidateFailed, match="do not read as"):
        as_head_attention(module, x, y)
    model = nn.Sequential(module, nn.Linear(E, 3)).eval()
    ((name, reason),) = prunable(model, x).items()
    assert (name, type(model[0])) == ("0", Gated)
    assert "do not read as" in reason
    assert torch.equal(module(x), y)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend = Separate()

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(self.attend(x))


def test_attention_that_is_called_twice_loses_heads_in_its_own_code():
    torch.manual_seed(0)
    model = TwoInputs().eval()
    own = model.attend
    loses_heads_as_if_zeroed(model, torch.randn(N, T, E), "attend")
    assert model.attend is own


class Around(nn.Module):
    """Adds what it holds to what it is given."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def test_attention_inside_a_thin_wrapper_is_found():
    torch.manual_seed(0)
    model = nn.Sequential(Around(Fused()), nn.Linear(E, 3)).eval()
    x = torch.randn(N, T, E)
    before = model(x)
    assert prunable(model, x) == {}
    assert isinstance(model[0].inner, HeadAttention)
    assert torch.allclose(model(x), before, atol=1e-4)


def test_the_reason_of_what_cannot_be_read_as_an_attention_names_it():
    model = nn.Sequential(Around(Gated()), nn.Linear(E, 3)).eval()
    assert list(prunable(model, torch.randn(N, T, E))) == ["0.inner"]
