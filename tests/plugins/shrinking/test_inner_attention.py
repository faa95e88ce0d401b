"""Attention in code that computes other things beside it: heads and the rest can go, each by itself."""

import copy
from collections.abc import Callable
from pathlib import Path

import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autocompress.candidate.export import EXPORTERS, export
from autocompress.data import feed_of
from autocompress_plugins.model_runs import outputs, same_outputs
from autocompress_plugins.shrinking.channel_graph import ChannelGraph
from autocompress_plugins.shrinking.groups import CHANNELS, HEADS, MLP
from autocompress_plugins.shrinking.prunable import prunable
from autocompress_plugins.shrinking.removal import remove_units
from tests.layouts import layout_of

N, T, E, H, M = 2, 6, 16, 4, 24
D = E // H


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(N, T, E) each -> (N, T, E), as many heads as there are."""
    q, k, v = (x.unflatten(-1, (-1, D)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Parallel(nn.Module):
    """As GPT-J: attention and MLP read the same."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.norm2 = nn.LayerNorm(E), nn.LayerNorm(E)
        self.q, self.k, self.v, self.o = (nn.Linear(E, E) for _ in range(4))
        self.up, self.down = nn.Linear(E, M), nn.Linear(M, E)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return x + self.o(attended(self.q(y), self.k(y), self.v(y))) + self.down(F.gelu(self.up(y)))


class MLPFirst(Parallel):
    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        mlp = self.down(F.gelu(self.up(y)))
        return x + mlp + self.o(attended(self.q(y), self.k(y), self.v(y)))


class Block(Parallel):
    """One after the other."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        x = x + self.o(attended(self.q(y), self.k(y), self.v(y)))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Written(Parallel):
    """With the number of heads and the width in its code."""

    def forward(self, x: Tensor) -> Tensor:
        y, (n, t, width) = self.norm(x), x.shape
        q, k, v = (layer(y).view(n, t, H, width // H).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = (q @ k.transpose(-2, -1) * D**-0.5).softmax(-1) @ v
        return x + self.o(mixed.transpose(1, 2).reshape(n, t, width)) + self.down(F.gelu(self.up(y)))


class Gated(nn.Module):
    """Fused queries, keys and values; a gated MLP behind."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.norm2 = nn.LayerNorm(E), nn.LayerNorm(E)
        self.qkv, self.o = nn.Linear(E, 3 * E, bias=False), nn.Linear(E, E, bias=False)
        self.gate, self.up, self.down = nn.Linear(E, M), nn.Linear(E, M), nn.Linear(M, E)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.o(attended(*self.qkv(self.norm(x)).chunk(3, -1)))
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Decoding(Parallel):
    """Attention to itself, and to another sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.q2, self.k2, self.v2, self.o2 = (nn.Linear(E, E) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        other, y = x.flip(1).tanh(), self.norm(x)
        x = x + self.o(attended(self.q(y), self.k(y), self.v(y)))
        x = x + self.o2(attended(self.q2(x), self.k2(other), self.v2(other)))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Around(nn.Module):
    """(N, T, E) -> (N, 3)."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = nn.Linear(E, E), nn.Sequential(make(), make()), nn.Linear(E, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean(1))


KINDS: dict[type[nn.Module], tuple[str, ...]] = {
    Parallel: ("o",),
    MLPFirst: ("o",),
    Block: ("o",),
    Written: ("o",),
    Gated: ("o",),
    Decoding: ("o", "o2"),
}


def model_of(kind: type[nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Around(kind).eval()


def given() -> Tensor:
    return torch.randn(N, T, E, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", KINDS)
def test_heads_units_and_width_are_found_and_go_together(kind: type[nn.Module]):
    model, x = model_of(kind), given()
    whole, found = ChannelGraph().find_groups(model, x)  # each by itself was compared with zeroing
    wide = "gate" if kind is Gated else "up"
    expected = {f"blocks.{n}.{out}": (HEADS, H) for n in range(2) for out in KINDS[kind]}
    expected |= {f"blocks.{n}.{wide}": (MLP, M) for n in range(2)} | {"stem": (CHANNELS, E)}
    assert {group.root: (group.kind, group.size) for group in found.groups} == expected
    assert {part.module for part in found.left} == {"head"}
    assert same_outputs(outputs(whole, x), outputs(model, x))

    gone = {f"blocks.0.{out}": [1] for out in KINDS[kind]} | {f"blocks.0.{wide}": [0, 5], "blocks.1.o": [0, 3]}
    smaller, zeroed = remove_units(copy.deepcopy(whole), x, gone), copy.deepcopy(model)
    with torch.no_grad():
        for out in KINDS[kind]:
            zeroed.get_submodule(f"blocks.0.{out}").weight[:, D : 2 * D] = 0
        zeroed.blocks[0].down.weight[:, [0, 5]] = 0
        zeroed.blocks[1].o.weight[:, [*range(D), *range(3 * D, E)]] = 0
    assert same_outputs(outputs(smaller, x), outputs(zeroed, x))
    assert smaller.blocks[0].o.in_features == E - D
    assert smaller.blocks[0].down.in_features == M - 2
    again = remove_units(smaller, x, {"stem": [0, 1, 2, 3], "blocks.0.o": [0]})
    assert again.blocks[0].o.weight.shape == (E - 4, E - 2 * D)
    assert outputs(again, x)[0].isfinite().all()


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_file_has_the_heads_that_are_left(exporter: str, tmp_path: Path):
    model, x = model_of(Written), given()
    prunable(model, x)
    remove_units(model, x, {"blocks.0.o": [1, 2]})
    path = tmp_path / "model.onnx"
    export(model, layout_of(model, x), x, path, exporter)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert same_outputs([torch.from_numpy(session.run(None, feed_of(x))[0])], outputs(model, x))


def test_it_is_the_users_class_and_trains_as_before():
    model, x = model_of(Block), given()
    names = [name for name, _ in model.named_parameters()]
    prunable(model, x)
    assert isinstance(model.blocks[0], Block)
    assert [name for name, _ in model.named_parameters()] == names
    model.train()(x).sum().backward()
    assert all(p.grad is not None and p.grad.any() for n, p in model.named_parameters() if "k.bias" not in n)


class OwnProducts(nn.Module):
    """Weights of its own in each product of a block: torch-pruning follows what depends on them in circles."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.o, self.up, self.down = (
            nn.Parameter(0.2 * torch.randn(shape)) for shape in ((3 * E, E), (E, E), (M, E), (E, M))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + F.linear(attended(*F.linear(x, self.qkv).chunk(3, -1)), self.o)
        return x + F.linear(F.gelu(F.linear(x, self.up)), self.down)


def test_what_leads_in_circles_is_left_with_a_reason():
    _, found = ChannelGraph().find_groups(model_of(OwnProducts), given(), frozenset({CHANNELS}))
    assert found.reasons["stem"] == "what depends on it leads in circles"
