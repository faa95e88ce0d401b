"""Attention in the model's own code, as libraries write it: found by what it computes, and smaller by whole heads."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.export import EXPORTERS, export
from autocompress.data import feed_of
from autocompress.kept_parts import KEPT_BY_NAME, mark_kept
from autocompress.nested import tensors_of
from autocompress_plugins.model_runs import outputs, same_outputs, watched
from autocompress_plugins.shrinking.attention_layers import PrunableAttention
from autocompress_plugins.shrinking.channel_graph import ChannelGraph
from autocompress_plugins.shrinking.groups import HEADS
from autocompress_plugins.shrinking.own_attention_reading import HEADS_FIXED, NO_ATTENTION
from autocompress_plugins.shrinking.own_attention_search import OTHER_PRODUCTS
from autocompress_plugins.shrinking.prunable import prunable
from autocompress_plugins.shrinking.removal import remove_units
from autocompress_plugins.weights.thin_layers import factorizable
from tests.layouts import layout_of

N, T, E, H = 2, 6, 16, 4


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """(N, H, T, D) each -> (N, T, H, D)."""
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    return ((scores if bias is None else scores + bias).softmax(-1) @ v).transpose(1, 2)


class Heads(nn.Module):
    """Without an output projection, which reads the first of the two that it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.head_size, self.all_head_size = E // H, E
        self.query, self.key, self.value = (nn.Linear(E, E) for _ in range(3))

    def forward(self, hidden: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, None]:
        q, k, v = (
            layer(hidden).view(*hidden.shape[:2], -1, self.head_size).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = attend(q, k, v, attention_mask)
        return mixed.reshape(*hidden.shape[:2], self.all_head_size), None


class OutputApart(nn.Module):
    """As BERT: scores, then a projection, a sum and a norm outside."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.dense, self.norm = Heads(), nn.Linear(E, E), nn.LayerNorm(E)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.norm(self.dense(self.heads(x, attention_mask=mask)[0]) + x)


class Grouped(nn.Module):
    """As Llama: two queries to a key and value, positions by rotation."""

    def __init__(self) -> None:
        super().__init__()
        self.head_dim, self.groups = E // H, 2
        self.q, self.o = nn.Linear(E, E, bias=False), nn.Linear(E, E, bias=False)
        self.k, self.v = (nn.Linear(E, E // 2, bias=False) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (layer(x).view(N, T, -1, self.head_dim).transpose(1, 2) for layer in (self.q, self.k, self.v))
        turn = torch.linspace(0, 1, T)[:, None]
        q, k = (torch.cos(turn) * y + torch.sin(turn) * y.flip(-1) for y in (q, k))
        k, v = (y.repeat_interleave(self.groups, 1) for y in (k, v))
        return self.o(attend(q, k, v, mask).flatten(2))


class GroupedSliced(nn.Module):
    """As Phi-3: the same in one layer, cut where the code says."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.o = nn.Linear(E, 2 * E), nn.Linear(E, E)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        qkv = self.qkv(x)
        q, k, v = qkv[..., :E], qkv[..., E : E + E // 2], qkv[..., E + E // 2 :]
        q, k, v = (y.view(N, T, -1, E // H).transpose(1, 2) for y in (q, k, v))
        k, v = (y.repeat_interleave(2, 1) for y in (k, v))
        return self.o(attend(q, k, v, mask).flatten(2))


class BiasByLayers(Heads):
    """As Swin v2: layers of its own make a bias of the positions."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.by_head = nn.Linear(1, 8), nn.Linear(8, H, bias=False)

    def forward(self, hidden: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, None]:
        apart = torch.linspace(-1, 1, T * T).view(T, T, 1)
        bias = self.by_head(self.hidden(apart).relu()).permute(2, 0, 1)[None]
        return super().forward(hidden, bias if attention_mask is None else bias + attention_mask)


class BiasByLayersApart(OutputApart):
    def __init__(self) -> None:
        super().__init__()
        self.heads = BiasByLayers()


class OneKey(nn.Module):
    """As Gemma: all heads share one key and one value."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.size = H, E // H
        self.q, self.k, self.v, self.o = (nn.Linear(E, w) for w in (E, E // H, E // H, E))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q = self.q(x).view(*x.shape[:2], -1, self.size).transpose(1, 2)
        k, v = (layer(x)[:, None].expand(-1, self.heads, -1, -1) for layer in (self.k, self.v))
        return self.o(attend(q, k, v, mask).flatten(2))


class OneKeyFused(OneKey):
    """As Falcon: with the queries in one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(E, E + 2 * self.size)
        del self.q, self.k, self.v

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        each = self.qkv(x).view(*x.shape[:2], self.heads + 2, self.size).transpose(1, 2)
        return self.o(attend(each[:, :-2], each[:, -2:-1], each[:, -1:], mask).flatten(2))


class Split(nn.Module):
    """As GPT-2: one fused projection, split at a size that is kept."""

    def __init__(self, width: int = E) -> None:
        super().__init__()
        self.num_heads, self.split_size = H, width
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        parts = self.qkv(x).split(self.split_size, 2)
        q, k, v = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in parts)
        return self.out(attend(q, k, v, mask).flatten(2))


class Biased(Split):
    """As Swin: a table of positions with a column for each head, and a norm before the projection."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.table = nn.LayerNorm(E), nn.Parameter(torch.randn(T * T, H))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(self.before(x), mask + self.table.view(T, T, -1).permute(2, 0, 1))


class ByWidth(Split):
    """As many are written: its code takes the width of the input for the one of all heads."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q / (x.size(-1) // self.num_heads) ** 0.5) @ k.transpose(-2, -1) + mask
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, c))


class ByWidthAlone(Split):
    """The same, with a residual and a norm inside, and queries and keys that are normed by head."""

    def __init__(self) -> None:
        super().__init__()
        self.queries, self.keys, self.after = nn.LayerNorm(E // H), nn.LayerNorm(E // H), nn.LayerNorm(E)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.after(x + self.out(attend(self.queries(q), self.keys(k), v, mask).reshape(n, t, c)))


class Reduced(nn.Module):
    """As PVT: keys and values are those of fewer places than queries."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.fewer = H, nn.Conv1d(E, E, 2, 2)
        self.q, self.kv, self.out = nn.Linear(E, E), nn.Linear(E, 2 * E), nn.Linear(E, E)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        n, t, c = x.shape
        q = self.q(x).reshape(n, t, self.num_heads, c // self.num_heads).transpose(1, 2)
        fewer = self.fewer(x.transpose(1, 2)).transpose(1, 2)
        k, v = self.kv(fewer).reshape(n, -1, 2, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(attend(q, k, v, mask[..., ::2]).reshape(n, t, c))


class Written(Split):
    """Its code has the number of heads in it."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        parts = self.qkv(x).reshape(N, T, 3, 4, 4).permute(2, 0, 3, 1, 4)
        return self.out(attend(parts[0], parts[1], parts[2], mask).reshape(N, T, E))


class WrittenFlat(Split):
    """The same, with the heads beside the examples, and a bias of each head that no size says."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Linear(T, 4 * T)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        n = len(x)
        q, k, v = (part.transpose(0, 1).reshape(T, n * 4, 4).transpose(0, 1) for part in self.qkv(x).split(E, -1))
        scores = torch.bmm(q, k.transpose(1, 2)).view(n, 4, T, T)
        scores += self.positions(torch.eye(T)).view(1, 4, T, T) + mask
        mixed = torch.bmm(scores.softmax(-1).view(n * 4, T, -1), v)
        return self.out(mixed.view(n, 4, T, -1).transpose(1, 2).reshape(n, -1, E))


class OneByOne(Split):
    """Its code goes through the heads one after the other."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.qkv(x).reshape(N, T, 3, 4, 4).permute(2, 0, 3, 1, 4)
        mixed = [attend(q[:, [h]], k[:, [h]], v[:, [h]], mask) for h in range(4)]
        return self.out(torch.cat(mixed, -1).reshape(N, T, E))


class Talking(Split):
    """As CaiT: what the heads look at is mixed of all, before the softmax and after it."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(H, H), nn.Linear(H, H)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4)
        scores = self.before((q @ k.transpose(-2, -1)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2) + mask
        weights = self.after(scores.softmax(-1).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.out((weights @ v).transpose(1, 2).reshape(n, t, c))


class TalkingWritten(Talking):
    """The same, with the number of heads in its code and a layer that is as wide by chance."""

    def __init__(self) -> None:
        super().__init__()
        self.chance = nn.Linear(H, H)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (4, 4)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        warmth = self.chance(torch.ones(4)).mean().exp()
        scores = self.before((q @ k.transpose(-2, -1)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2) * warmth + mask
        weights = self.after(scores.softmax(-1).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.out((weights @ v).transpose(1, 2).reshape(*x.shape))


class Apart(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_heads = H
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (y(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for y in (self.q, self.k, self.v))
        return self.out(attend(q, k, v, mask).flatten(2))


class OneAsks(Apart):
    """As CaiT's last layers: the first place alone looks at the others."""

    def __init__(self) -> None:
        super().__init__(E)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        read = (self.q, x[:, :1]), (self.k, x), (self.v, x)
        q, k, v = (y(places).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for y, places in read)
        return self.out(attend(q, k, v, mask[..., :1, :]).flatten(2))


class Cosine(nn.Module):
    """As Swin v2: weights handed over by name, a temperature of each head, and a bias of positions by an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.temperature = H, nn.Parameter(torch.rand(H, 1, 1) * 3)
        self.positions = nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, H, bias=False))
        self.qkv, self.out = nn.Linear(E, 3 * E, bias=False), nn.Linear(E, E)
        self.q_bias, self.v_bias = nn.Parameter(torch.randn(E)), nn.Parameter(torch.randn(E))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        fused = nn.functional.linear(input=x, weight=self.qkv.weight, bias=bias)
        q, k, v = fused.reshape(len(x), -1, 3, self.num_heads, E // H).permute(2, 0, 3, 1, 4)
        scores = nn.functional.normalize(q, dim=-1) @ nn.functional.normalize(k, dim=-1).transpose(-2, -1)
        apart = (torch.arange(T)[:, None] - torch.arange(T)).float()[..., None]
        scores = scores * self.temperature.exp() + self.positions(apart).permute(2, 0, 1) + mask
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(len(x), -1, E))


class InOneCall(nn.Module):
    """As CLIP's pooling and fairseq: torch's function is handed the weights of its layers. own: of its own instead, as
    open_clip has them.
    """

    def __init__(self, own: bool = False) -> None:
        super().__init__()
        self.num_heads, self.out = H, nn.Linear(E, E)
        if own:
            self.weight, self.bias = nn.Parameter(torch.randn(3 * E, E) / 4), nn.Parameter(torch.randn(3 * E))
        else:
            self.q, self.k, self.v = (nn.Linear(E, E) for _ in range(3))
        self.own = own

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        n, t, c = x.shape
        places = x.transpose(0, 1)
        given: dict[str, Any] = (
            {"in_proj_weight": self.weight, "in_proj_bias": self.bias}
            if self.own
            else {
                "in_proj_weight": None,
                "in_proj_bias": torch.cat([self.q.bias, self.k.bias, self.v.bias]),
                "use_separate_proj_weight": True,
                **{f"{name}_proj_weight": getattr(self, name).weight for name in "qkv"},
            }
        )
        y, _ = nn.functional.multi_head_attention_forward(
            places,
            places,
            places,
            c,
            self.num_heads,
            bias_k=None,
            bias_v=None,
            add_zero_attn=False,
            dropout_p=0.0,
            out_proj_weight=self.out.weight,
            out_proj_bias=self.out.bias,
            attn_mask=mask.expand(-1, H, -1, -1).reshape(n * H, t, t),
            training=self.training,
            **given,
        )
        return y.transpose(0, 1)


class OwnWeights(nn.Module):
    """All of its weights are parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = H
        self.qkv, self.bias = nn.Parameter(torch.randn(3 * E, E) / 4), nn.Parameter(torch.randn(3 * E))
        self.proj = nn.Parameter(torch.randn(E, E) / 4)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = nn.functional.linear(x, self.qkv, self.bias).chunk(3, -1)
        q, k, v = (y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for y in (q, k, v))
        return nn.functional.linear(attend(q, k, v, mask).flatten(2), self.proj)


class ByProduct(OwnWeights):
    """As OwnWeights, without F.linear."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (x @ self.qkv.T + self.bias).unflatten(-1, (3, H, -1)).permute(2, 0, 3, 1, 4)
        return attend(q, k, v, mask).flatten(2) @ self.proj.T


class ByEinsum(nn.Module):
    """Weights with an axis of heads."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Parameter(torch.randn(H, E, E // H) / 4) for _ in range(3))
        self.out = nn.Parameter(torch.randn(H, E // H, E) / 4)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (torch.einsum("nte,hed->nhtd", x, weight) for weight in (self.q, self.k, self.v))
        return torch.einsum("nthd,hde->nte", attend(q, k, v, mask), self.out)


class OwnMLP(nn.Module):
    """No place sees another one."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Parameter(torch.randn(E, 2 * E) / 4), nn.Parameter(torch.randn(2 * E, E) / 4)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return (x @ self.up).relu() @ self.down


class Weighed(nn.Module):
    """F.linear takes a weight of one axis too."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(E))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x * nn.functional.linear(x, self.weight).unsqueeze(-1)


class ByFunction(nn.Module):
    """As torchvision's Swin: a function is handed the weights of layers that nobody calls."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(E, 3 * E), nn.Linear(E, E)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        n, t, c = x.shape
        fused = nn.functional.linear(x, self.qkv.weight, self.qkv.bias)
        q, k, v = fused.reshape(n, t, 3, H, c // H).permute(2, 0, 3, 1, 4)
        mixed = attend(q, k, v, mask).reshape(n, t, c)
        return nn.functional.linear(mixed, self.proj.weight, self.proj.bias)


class BiasApart(ByFunction):
    """As BEiT: no keys have a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(E, 3 * E, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.randn(E)), nn.Parameter(torch.randn(E))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        fused = nn.functional.linear(x, self.qkv.weight, bias)
        q, k, v = fused.reshape(len(x), -1, 3, H, E // H).permute(2, 0, 3, 1, 4)
        return self.proj(attend(q, k, v, mask).reshape(len(x), -1, E))


class NotAttention(nn.Module):
    """Three layers that read one input, and places that see each other, without heads."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.out = (nn.Linear(E, E) for _ in range(4))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        shared = (self.a(x) * self.b(x)).sum(-1, keepdim=True).mean(1, keepdim=True)
        return self.out(shared * self.c(x))


class Around(nn.Module):
    """(N, T, E) and a mask -> (N, 3): the attention, an MLP, a head; ``times`` through the same layers."""

    def __init__(self, attention: nn.Module, times: int = 1) -> None:
        super().__init__()
        self.attention, self.times = attention, times
        self.up, self.down = nn.Linear(E, 2 * E), nn.Linear(2 * E, E)
        self.norm, self.head = nn.LayerNorm(E), nn.Linear(E, 3)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for _ in range(self.times):
            x = x + self.attention(x, mask)
            x = self.norm(x + self.down(torch.relu(self.up(x))))
        return self.head(x.mean(1))


LOOKING: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "output apart": (OutputApart, H),
    "grouped queries": (Grouped, 2),
    "grouped, sliced": (GroupedSliced, 2),
    "bias by layers": (BiasByLayersApart, H),
    "one key": (OneKey, H),
    "one key, fused": (OneKeyFused, H),
    "split": (Split, H),
    "biased": (Biased, H),
    "by width": (ByWidth, H),
    "by width alone": (ByWidthAlone, H),
    "reduced": (Reduced, H),
    "written": (Written, H),
    "written flat": (WrittenFlat, H),
    "by function": (ByFunction, H),
    "bias apart": (BiasApart, H),
    "talking": (Talking, H),
    "talking written": (TalkingWritten, H),
    "one asks": (OneAsks, H),
    "cosine": (Cosine, H),
    "in one call": (InOneCall, H),
    "in one call, own weights": (lambda: InOneCall(own=True), H),
    "own weights": (OwnWeights, H),
}


def given() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(N, 1, T, T)
    mask[1, ..., -1] = -1e4
    return torch.randn(N, T, E, generator=generator), mask


def model_with(make: Callable[[], nn.Module], times: int = 1) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Around(make(), times).eval()


def attentions(model: nn.Module) -> list[PrunableAttention]:
    return [module for module in model.modules() if isinstance(module, PrunableAttention)]


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("name", LOOKING)
def test_its_heads_go_as_if_what_reads_them_were_zero_and_nothing_else_changes(name: str, times: int):
    make, heads = LOOKING[name]
    model, x = model_with(make, times), given()
    whole, found = ChannelGraph().find_groups(model, x, frozenset({HEADS}))
    (group,) = found.groups  # removing half of them was compared with zeroing
    assert not found.left
    assert group.size == heads
    assert same_outputs(outputs(whole, x), outputs(model, x))

    smaller = remove_units(copy.deepcopy(whole), x, {group.root: [1]})
    zeroed = copy.deepcopy(whole)
    for own in attentions(zeroed)[0].head_layers():
        if "in" in own.sides:
            with torch.no_grad():
                own.layer.weight[:, list(own.heads[1])] = 0
    assert same_outputs(outputs(smaller, x), outputs(zeroed, x))
    (left,) = attentions(smaller)
    assert left.removable_heads == heads - 1
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())
    if heads > 2:
        again = remove_units(smaller, x, {group.root: [0]})
        assert attentions(again)[0].removable_heads == heads - 2
        assert outputs(again, x)[0].shape == outputs(model, x)[0].shape


@pytest.mark.parametrize("make", [ByProduct, ByEinsum])
def test_attention_by_other_products_is_named_with_the_reason(make: Callable[[], nn.Module]):
    _, found = ChannelGraph().find_groups(model_with(make), given(), frozenset({HEADS}))
    assert not found.groups
    assert found.reasons == {"attention": OTHER_PRODUCTS}


@pytest.mark.parametrize("make", [OwnMLP, Weighed])
def test_weights_of_its_own_by_which_no_place_sees_another_are_no_attention(make: Callable[[], nn.Module]):
    _, found = ChannelGraph().find_groups(model_with(make), given())
    assert "up" in {group.root for group in found.groups}
    assert HEADS not in {part.kind for part in found.left}


@pytest.mark.parametrize("make", [ByFunction, BiasApart, Cosine, OwnWeights])
@pytest.mark.parametrize("gone", [[], [1, 3]])
def test_whoever_watches_layers_sees_those_that_a_function_is_handed(gone: list[int], make: Callable[[], nn.Module]):
    """A repair and importances go by what they read and give."""
    model, x = model_with(make), given()
    prunable(model, x)
    remove_units(model, x, {"attention": gone} if gone else {})
    seen: list[tuple[int, int]] = []
    layers = [("", own.layer) for own in attentions(model)[0].head_layers()]
    with watched(layers, lambda name, layer, given, gave: seen.append((given[0].shape[-1], gave.shape[-1]))):
        outputs(model, x)
    width = E - len(gone) * E // H
    assert seen == [(E, 3 * width), (width, E)]


class Reading(nn.Module):
    """A decoder's, (N, T, E) -> (N, 3): queries of its own sequence, keys and values of another one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.memory, self.inside, self.head = nn.Linear(E, E), nn.Linear(E, E), Elsewhere(), nn.Linear(E, 3)

    def forward(self, x: Tensor) -> Tensor:
        x, memory = self.first(x), self.memory(x[:, : T // 2])
        return self.head((x + self.inside(x, key_value_states=memory)).mean(1))


class Elsewhere(Split):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(E, E) for _ in range(3))
        del self.qkv

    def forward(self, x: Tensor, key_value_states: Tensor) -> Tensor:
        layers = (self.q, x), (self.k, key_value_states), (self.v, key_value_states)
        q, k, v = (y(states).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for y, states in layers)
        return self.out(attend(q, k, v).flatten(2))


def test_attention_to_another_sequence_loses_heads_and_both_sequences_the_same_channels():
    model, x = Reading().eval(), given()[0]
    whole, found = ChannelGraph().find_groups(model, x)
    assert {group.root: group.size for group in found.groups} == {"first": E, "inside": H}
    smaller = remove_units(whole, x, {"first": [2, 9], "inside": [0]})
    assert smaller.get_submodule("memory").weight.shape == (E - 2, E)
    assert outputs(smaller, x)[0].shape == (N, 3)


def test_it_trains_as_before_and_is_the_users_class():
    model, x = model_with(OutputApart), given()
    original: Any = model.attention
    prunable(model, x)
    assert isinstance(original.heads, Heads)
    model.train()(*x).sum().backward()
    assert original.heads.query.weight.grad is not None


def test_a_second_time_nothing_happens():
    model, x = model_with(Grouped), given()
    prunable(model, x)
    before = attentions(model)
    assert prunable(model, x) == {}
    assert attentions(model) == before


@pytest.mark.parametrize(("make", "reason"), [(OneByOne, HEADS_FIXED), (NotAttention, NO_ATTENTION)])
def test_what_cannot_lose_heads_is_left_with_its_reason(make: Callable[[], nn.Module], reason: str):
    model, x = model_with(make), given()
    before = tensors_of(model(*x))
    assert prunable(model, x) == {"attention": reason}
    assert not attentions(model)
    assert torch.equal(model(*x), before[0])


class Handed(nn.Module):
    """As MPNet: both layers are handed one table of positions with a column for each head."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(T, H)
        self.first, self.second, self.head = Split(), Split(), nn.Linear(E, 3)

    def forward(self, x: Tensor) -> Tensor:
        bias = of_positions(self.table)
        for layer in (self.first, self.second):
            x = x + layer(x, bias)
        return self.head(x.mean(1))


def of_positions(table: nn.Embedding) -> Tensor:
    """(1, H, T, T)."""
    apart = (torch.arange(T)[:, None] - torch.arange(T)).abs()
    return table(apart).permute(2, 0, 1)[None]


class Handing(nn.Module):
    """As T5: without a bias of positions it makes one, for the other layers too. Gives its scores as well."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.n_heads, self.size = H, E // H
        self.q, self.k, self.v, self.o = (nn.Linear(E, E, bias=False) for _ in range(4))
        self.table = nn.Embedding(T, H) if first else None

    def forward(self, x: Tensor, mask: Tensor, bias: Tensor | None = None) -> tuple[Tensor, ...]:
        q, k, v = (y(x).view(N, -1, self.n_heads, self.size).transpose(1, 2) for y in (self.q, self.k, self.v))
        if bias is None:
            assert self.table is not None
            bias = of_positions(self.table) + mask
        mixed = attend(q, k, v, bias).reshape(N, -1, self.n_heads * self.size)
        return self.o(mixed), bias, q @ k.transpose(-2, -1)


class HandedOn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = Handing(True), Handing(False), nn.Linear(E, 3)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        gave, bias, _ = self.first(x, mask)
        x = x + gave
        return self.head((x + self.second(x, mask, bias)[0]).mean(1))


@pytest.mark.parametrize(("make", "x"), [(Handed, (0,)), (HandedOn, (0, 1))])
def test_layers_that_share_a_bias_of_each_head_lose_different_heads(make: Callable[[], nn.Module], x: tuple[int, ...]):
    model, inputs = make().eval(), tuple(given()[at] for at in x)
    whole, found = ChannelGraph().find_groups(model, inputs, frozenset({HEADS}))
    assert {group.root: group.size for group in found.groups} == {"first": H, "second": H}
    smaller = remove_units(copy.deepcopy(whole), inputs, {"first": [0, 1, 3], "second": [2]})
    zeroed = copy.deepcopy(whole)
    for attention, heads in zip(attentions(zeroed), ([0, 1, 3], [2]), strict=True):
        out = attention.head_layers()[-1]
        with torch.no_grad():
            out.layer.weight[:, [i for head in heads for i in out.heads[head]]] = 0
    assert [attention.removable_heads for attention in attentions(smaller)] == [1, 3]
    assert same_outputs(outputs(smaller, inputs), outputs(zeroed, inputs))


def test_weights_by_which_it_looks_everywhere_alike_hide_nothing():
    """Where the scores are all but equal, any cut of queries and keys would seem right."""
    model, x = model_with(Split), given()
    with torch.no_grad():
        model.attention.qkv.weight.mul_(1e-4)  # type: ignore[union-attr,operator]
    prunable(model, x)
    (found,) = attentions(model)
    assert found.removable_heads == H


class Wide(nn.Module):
    """Heads of 64, as most have. ``first``: the places are the first axis."""

    def __init__(self, first: bool = False) -> None:
        super().__init__()
        self.num_heads, self.first = 4, first
        self.q, self.k, self.v = (nn.Linear(E, 256) for _ in range(3))
        self.out = nn.Linear(256, E)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (self.num_heads, -1)) for layer in (self.q, self.k, self.v))
        if self.first:
            q, k, v = (y.transpose(0, 1) for y in (q, k, v))
        y = attend(*(y.transpose(1, 2) for y in (q, k, v)), None if self.first else mask).flatten(2)
        return self.out(y.transpose(0, 1) if self.first else y)


class Turned(nn.Module):
    """The attention inside is given (T, N, E)."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = Wide(first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.inside(x.transpose(0, 1), mask).transpose(0, 1)


@pytest.mark.parametrize("make", [Wide, Turned])
def test_heads_of_a_usual_size_are_found_wherever_the_places_lie(make: Callable[[], nn.Module]):
    _, found = ChannelGraph().find_groups(model_with(make), given(), frozenset({HEADS}))
    assert [group.size for group in found.groups] == [4]


class WideStream(nn.Module):
    """(N, T, 256), places that have nothing in common -> (N, 3)."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention, self.head = attention, nn.Linear(256, 3)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.head((x + self.attention(x, mask)).mean(1))


class Patches(nn.Module):
    """Images (N, 3, 16, 24) -> (N, 3): the attention works on what a convolution gives."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.stem, self.attention, self.head = nn.Conv2d(3, E, 8, 8), attention, nn.Linear(E, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        return self.head((x + self.attention(x, x.new_zeros(1, 1, T, T))).mean(1))


@pytest.mark.parametrize("make", [ByWidth, ByFunction])
def test_what_seems_as_wide_as_its_heads_can_be_of_any_width(make: Callable[[], nn.Module]):
    images = torch.randn(N, 3, 16, 24)
    whole, found = ChannelGraph().find_groups(Patches(make()).eval(), images)
    assert {group.root: group.size for group in found.groups} == {"stem": E, "attention": H}
    smaller = remove_units(whole, images, {"attention": [1], "stem": [0, 1, 2, 3, 4, 5]})
    (attention,) = attentions(smaller)
    assert attention.head_layers()[0].layer.weight.shape == (3 * (E - E // H), E - 6)
    assert outputs(smaller, images)[0].shape == (N, 3)


@pytest.mark.parametrize("make", [ByWidth, WrittenFlat, InOneCall, TalkingWritten, OwnWeights])
@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_file_has_the_heads_that_are_left(exporter: str, make: Callable[[], nn.Module], tmp_path: Path):
    model, x = model_with(make), given()
    prunable(model, x)
    remove_units(model, x, {"attention": [1, 2]})
    path = tmp_path / "model.onnx"
    export(model, layout_of(model, x), x, path, exporter)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert same_outputs([torch.from_numpy(session.run(None, feed_of(x))[0])], outputs(model, x))


@pytest.mark.parametrize("kind", [Split, Apart])
def test_attention_over_as_many_channels_as_usual_is_found(kind: Callable[[int], nn.Module]):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = WideStream(kind(256)).eval()
        x = torch.randn(N, T, 256), torch.zeros(N, 1, T, T)
    _, found = ChannelGraph().find_groups(model, x, frozenset({HEADS}))
    assert [group.size for group in found.groups] == [H]


class OwnNames(Split):
    """It calls its own sizes what others call theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.out_channels, self.in_channels = 7, 5

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(x, mask) * self.out_channels / self.in_channels


class Pooled(Split):
    """Gives fewer places than it is given."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(x, mask)[:, ::2]


class Pooling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.up, self.down, self.head = Pooled(), nn.Linear(E, 24), nn.Linear(24, E), nn.Linear(E, 3)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x[:, ::2] + self.attention(x, mask)
        return self.head(self.down(torch.relu(self.up(x))).mean(1))


class BothWays(Around):
    """Calls its attention in two ways."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(x, mask) + self.attention(mask=mask, x=x)
        return self.head(self.down(torch.relu(self.up(x))).mean(1))


def test_names_of_the_users_own_stay_theirs():
    model, x = model_with(OwnNames), given()
    whole, found = ChannelGraph().find_groups(model, x, frozenset({HEADS}))
    assert [group.size for group in found.groups] == [H]
    assert same_outputs(outputs(whole, x), outputs(model, x))


def made(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().eval()


class PoolingTwice(Pooling):
    """The places that its attention gives are others each time."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x[:, ::2] + self.attention(x, mask)
        return super().forward(x, mask[..., ::2, ::2])


@pytest.mark.parametrize("make", [PoolingTwice, lambda: BothWays(Split())])
def test_one_that_cannot_stand_for_itself_is_left_and_the_rest_shrinks(make: Callable[[], nn.Module]):
    whole, found = ChannelGraph().find_groups(made(make), given())
    assert "up" in [group.root for group in found.groups]
    assert not attentions(whole)
    assert "a form of it that can shrink" in found.reasons["attention"]


def test_weights_that_a_module_holds_itself_are_its_own_again_where_it_is_left():
    model = made(lambda: BothWays(OwnWeights()))
    whole, found = ChannelGraph().find_groups(model, given())
    assert "attention" in found.reasons
    assert whole.state_dict().keys() == model.state_dict().keys()
    assert same_outputs(outputs(whole, given()), outputs(model, given()))


def test_weights_that_a_module_holds_itself_are_kept_with_it():
    model = model_with(OwnWeights)
    mark_kept(model, ["attention"], ())
    _, found = ChannelGraph().find_groups(model, given(), frozenset({HEADS}))
    assert not found.groups
    assert KEPT_BY_NAME in found.reasons["attention"]


class Summary(nn.Module):
    """As CLIP's ResNets end: the mean of a picture (N, E, H, W) looks at its places -> (N, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = H
        self.q, self.k, self.v, self.out = (nn.Linear(E, width) for width in (E, E, E, 5))

    def forward(self, x: Tensor) -> Tensor:
        places = x.flatten(2).transpose(1, 2)
        read = (self.q, places.mean(1, keepdim=True)), (self.k, places), (self.v, places)
        q, k, v = (y(of).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for y, of in read)
        return self.out(attend(q, k, v).flatten(2))[:, 0]


class Summarized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.attention, self.head = nn.Conv2d(3, E, 8, 8), Summary(), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.attention(self.stem(x))))


@pytest.mark.parametrize(
    ("make", "x", "others"),
    [(Pooling, given(), {"up": 24, "down": E}), (Summarized, torch.randn(N, 3, 16, 24), {"stem": E})],
)
def test_one_that_gives_other_places_than_it_is_given_loses_heads(
    make: Callable[[], nn.Module], x: Any, others: dict[str, int]
):
    whole, found = ChannelGraph().find_groups(made(make), x)
    assert {group.root: group.size for group in found.groups} == {"attention": H, **others}
    smaller = remove_units(whole, x, {"attention": [0, 3]} | {root: [1] for root in others})
    assert attentions(smaller)[0].removable_heads == H - 2
    assert outputs(smaller, x)[0].shape[-1] == 3


def test_its_layers_are_not_taken_apart():
    model, x = model_with(OutputApart), given()
    prunable(model, x)
    reasons = factorizable(model, x).kept
    for name in ("attention.heads.query", "attention.heads.key", "attention.heads.value", "attention.dense"):
        assert "may do more than a layer of its kind" in reasons[name]
