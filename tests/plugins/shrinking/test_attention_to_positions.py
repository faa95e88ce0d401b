"""Attention that also reads a table of positions, as DeBERTa and Transformer-XL do: heads and width are found."""

import pytest
import torch
from torch import Tensor, nn

from autocompress_plugins.model_runs import outputs, same_outputs
from autocompress_plugins.shrinking.channel_graph import ChannelGraph
from autocompress_plugins.shrinking.groups import CHANNELS, HEADS, MLP
from autocompress_plugins.shrinking.removal import remove_units

N, T, E, H = 2, 6, 16, 4
D = E // H
APART = "positions by layers of their own"
SHARED = "positions by the layers of the words"
FUSED = "queries, keys and values in one"


class Disentangled(nn.Module):
    """Gives what the heads give; the projection lies outside."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.count, self.width = how, H, E
        self.drop = nn.Dropout(0.1)
        if how == FUSED:
            self.qkv, self.positions_k = nn.Linear(E, 3 * E), nn.Linear(E, E, bias=False)
        else:
            self.q, self.k, self.v = (nn.Linear(E, E) for _ in range(3))
            if how == APART:
                self.positions_k, self.positions_q = nn.Linear(E, E, bias=False), nn.Linear(E, E)

    def heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.count, -1).transpose(1, 2)

    def forward(self, x: Tensor, table: Tensor) -> tuple[Tensor, None]:
        positions = self.drop(table)[T // 2 : 2 * T + T // 2].unsqueeze(0)
        if self.how == FUSED:
            q, k, v = map(self.heads, self.qkv(x).chunk(3, -1))
            by_key, by_query = self.positions_k(positions), self.positions_k(positions)
        else:
            q, k, v = (self.heads(layer(x)) for layer in (self.q, self.k, self.v))
            own = (self.positions_k, self.positions_q) if self.how == APART else (self.k, self.q)
            by_key, by_query = (layer(positions) for layer in own)
        apart = (torch.arange(T)[:, None] - torch.arange(T) + T).expand(len(x), self.count, T, T)
        to_key = (q @ self.heads(by_key).transpose(-2, -1)).gather(-1, apart)
        to_query = (k @ self.heads(by_query).transpose(-2, -1)).gather(-1, apart).transpose(-2, -1)
        mixed = ((q @ k.transpose(-2, -1) + to_key + to_query) * (3 * D) ** -0.5).softmax(-1) @ v
        return mixed.transpose(1, 2).reshape(len(x), T, self.width), None


class Model(nn.Module):
    """Words (N, T) -> (N, 3). The table is read whole, and nothing calls the embedding."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.words, self.table, self.norm = nn.Embedding(20, E), nn.Embedding(3 * T, E), nn.LayerNorm(E)
        self.attention = nn.ModuleList(Disentangled(how) for _ in range(2))
        self.out = nn.ModuleList(nn.Linear(E, E) for _ in range(2))
        self.up, self.down, self.head = nn.Linear(E, 24), nn.Linear(24, E), nn.Linear(E, 3)

    def forward(self, words: Tensor) -> Tensor:
        x, table = self.words(words), self.norm(self.table.weight)
        for attention, out in zip(self.attention, self.out, strict=True):
            x = x + out(attention(x, table)[0])
        return self.head((x + self.down(self.up(x).relu())).mean(1))


@pytest.mark.parametrize("how", [APART, SHARED, FUSED])
def test_heads_and_the_width_of_both_streams_are_found(how: str):
    torch.manual_seed(0)
    model, words = Model(how).eval(), torch.randint(20, (N, T), generator=torch.Generator().manual_seed(1))
    whole, found = ChannelGraph().find_groups(model, words)  # each by itself was compared with zeroing
    kinds = {group.root: (group.kind, group.size) for group in found.groups}
    heads = {f"attention.{n}": (HEADS, H) for n in range(2)}
    assert kinds.items() >= (heads | {"words": (CHANNELS, E), "up": (MLP, 24)}).items()
    assert {part.module for part in found.left} == {"head"}
    assert same_outputs(outputs(whole, words), outputs(model, words))
    width = {root: [0, 2, 9] for root, (kind, _) in kinds.items() if kind == CHANNELS}
    smaller = remove_units(whole, words, {"attention.0": [1], **width})
    assert smaller.table.weight.shape == (3 * T, E - 3)
    assert smaller.table.embedding_dim == E - 3
    assert outputs(smaller, words)[0].isfinite().all()
