"""Networks in which units are doubles of others, and their repair once these are gone: it can be all but exact."""

import copy
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from autocompress.candidate.repair.declared import check_declared
from autocompress.candidate.repair.original import run_original
from autocompress.candidate.repair.repair import Repair, repair
from autocompress.data import call
from autocompress.nested import primary
from autocompress.plugin.contract import Counterparts
from autocompress_plugins.shrinking import narrowing
from autocompress_plugins.shrinking.attention_layers import HeadAttention
from autocompress_plugins.shrinking.counterparts import (
    narrowed_counterparts,
)
from autocompress_plugins.shrinking.prunable import prunable
from autocompress_plugins.shrinking.recurrent_layers import GATES, RecurrentLayer

N = 251  # examples
IMAGES, SERIES, VECTORS = (N, 3, 6, 6), (N, 7, 5), (N, 8)


def context_of(x: Tensor) -> Any:
    memory: dict[Any, Any] = {}

    def once(key: str, compute: Callable[[], Any]) -> Any:
        if key not in memory:
            memory[key] = compute()
        return memory[key]

    return SimpleNamespace(example_inputs=x[:2], once=once)


def lively(model: nn.Module) -> nn.Module:
    """With batch norms that have seen data, and shifts that differ."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for values, low in ((module.running_mean, -0.5), (module.running_var, 0.5)):
                assert isinstance(values, Tensor)
                values.uniform_(low, low + 1)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()


def double(module: nn.Module, kept: int, gone: int) -> None:
    """Unit ``gone`` gives what ``kept`` gives: a channel, a head, a hidden unit of each direction."""
    with torch.no_grad():
        if isinstance(module, HeadAttention):
            width = module.num_heads * module.head_size
            one, other = (
                [part * width + column for part in range(3) for column in module.head_columns([head])]
                for head in (kept, gone)
            )
            tensors: Sequence[tuple[Tensor, Any, Any]] = [(t, one, other) for t in module.qkv.parameters()]
        elif isinstance(module, RecurrentLayer):
            size, gates = int(module.core.hidden_size), GATES[type(module.core)]
            one, other = ([gate * size + unit for gate in range(gates)] for unit in (kept, gone))
            tensors = [(t, one, other) for t in module.core.parameters()]
        else:
            tensors = [(t, kept, gone) for t in module.state_dict().values() if t.dim()]
        for tensor, source, target in tensors:
            tensor[target] = tensor[source]


def apply_and_repair(
    model: nn.Module, changed: nn.Module, declared: Counterparts, x: Tensor, **settings: Any
) -> Repair:
    check_declared(declared, changed.eval())
    return repair(changed, declared, run_original(declared.whole, x, len(x)), x, **settings)


def narrowed(model: nn.Module, x: Tensor, removals: Mapping[str, Sequence[int]]) -> tuple[nn.Module, Repair]:
    context = context_of(x)
    declared = narrowed_counterparts(model, removals, context)
    changed = narrowing.apply(copy.deepcopy(model), {"remove": removals}, context)
    return changed, apply_and_repair(model, changed, declared, x)


def output(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return primary(call(model.eval(), x))


def same_state(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# -- networks ----------------------------------------------------------------------------------------------------------


def plain() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 16, 4),
    )


class Residual(nn.Module):
    """Two blocks beside a stream."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1))
            for _ in range(2)
        )
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.relu().mean((2, 3)))


class Joined(nn.Module):
    """Two branches side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 6, 3), nn.Conv2d(3, 6, 3)
        self.norm, self.last, self.head = nn.BatchNorm2d(12), nn.Conv2d(12, 5, 3), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.one(x), self.other(x).tanh()], 1)
        return self.head(self.last(self.norm(x).relu()).mean((2, 3)))


def separable() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 1),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, groups=8, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 4, 1),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


class Grouped(nn.Module):
    """A convolution in two groups, each of which reads half of the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.grouped = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3, padding=1, groups=2)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.grouped(self.first(x).relu()).relu().mean((2, 3)))


class Gated(nn.Module):
    """(N, T, 5) -> (N, 3): what is read is the product of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.up = nn.Linear(5, 8), nn.Linear(8, 12), nn.Linear(8, 12)
        self.down, self.head = nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.head((x + self.down(nn.functional.silu(self.gate(x)) * self.up(x))).mean(1))


class GroupedQueries(nn.Module):
    """(N, T, 16) -> the same: four heads of queries, two to a head of keys and values, of which one is the other's
    double.
    """

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(16, width) for width in (16, 8, 8, 16))
        with torch.no_grad():
            for layer in (self.q, self.k, self.v):
                for tensor in layer.parameters():
                    tensor[len(tensor) // 2 :] = tensor[: len(tensor) // 2]

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (-1, 4)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        k, v = (part.repeat_interleave(2, 1) for part in (k, v))
        y = (q @ k.mT / 2).softmax(-1) @ v
        return self.o(y.transpose(1, 2).flatten(2))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], *, batch_first: bool = True, directions: int = 2) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.rnn: nn.Module = kind(5, 6, 2, batch_first=batch_first, bidirectional=directions == 2)
        self.head = nn.Linear(6 * directions, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.rnn(x if self.batch_first else x.transpose(0, 1))[0]
        return self.head(y.mean(1 if self.batch_first else 0))


class PackedRecurrent(Recurrent):
    """Over sequences of several lengths."""

    def forward(self, x: Tensor) -> Tensor:
        lengths = 1 + torch.arange(len(x)) % x.shape[1]
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.head(y.mean(1))


class Encoder(nn.Module):
    def __init__(self, *, batch_first: bool = True) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 4, 16, dropout=0.0, batch_first=batch_first)
        self.first, self.batch_first = nn.Linear(5, 8), batch_first
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.encoder(x if self.batch_first else x.transpose(0, 1))
        return self.head(x.mean(1 if self.batch_first else 0))


# Where each lies: the network, its data, the modules whose unit is doubled, the root of the group, units kept and gone.
BLOCK, ATTENTION = "rnn.layers.1", "encoder.layers.0.self_attn"
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], Sequence[str], str, Sequence[int], Sequence[int]]] = {
    "convolutions with norms": (plain, IMAGES, ["0", "1"], "0", [2], [5]),
    "into a flattened image": (plain, IMAGES, ["3", "4"], "3", [1], [0]),
    "a residual stream": (Residual, IMAGES, ["stem", "blocks.0.3", "blocks.1.3"], "stem", [0], [6]),
    "beside a stream": (Residual, IMAGES, ["blocks.1.0", "blocks.1.1"], "blocks.1.0", [3], [4]),
    "side by side": (Joined, IMAGES, ["one", "norm"], "one", [1], [5]),
    "depthwise separable": (separable, IMAGES, ["0", "1", "3", "4"], "0", [1], [7]),
    "in groups": (Grouped, IMAGES, ["first"], "first", [1, 5], [2, 7]),
    "a gated mlp": (Gated, SERIES, ["gate", "up"], "gate", [4], [9]),
    "lstm, first layer": (lambda: Recurrent(nn.LSTM), SERIES, ["rnn.layers.0"], "rnn.layers.0", [1], [4, 10]),
    "lstm, last layer": (lambda: Recurrent(nn.LSTM), SERIES, [BLOCK], BLOCK, [0], [3, 9]),
    "lstm, time first": (lambda: Recurrent(nn.LSTM, batch_first=False), SERIES, [BLOCK], BLOCK, [0], [3, 9]),
    "lstm, one direction": (lambda: Recurrent(nn.LSTM, directions=1), SERIES, [BLOCK], BLOCK, [5], [2]),
    "lstm, packed": (lambda: PackedRecurrent(nn.LSTM), SERIES, ["rnn.layers.0"], "rnn.layers.0", [1], [4, 10]),
    "gru": (lambda: Recurrent(nn.GRU), SERIES, ["rnn.layers.0"], "rnn.layers.0", [5], [2, 8]),
    "gru, last layer, time first": (
        lambda: Recurrent(nn.GRU, batch_first=False, directions=1), SERIES, [BLOCK], BLOCK, [5], [2]
    ),
    "rnn": (lambda: Recurrent(nn.RNN, directions=1), SERIES, ["rnn.layers.0"], "rnn.layers.0", [5], [2]),
    "heads": (Encoder, SERIES, [ATTENTION], ATTENTION, [1], [3]),
    "heads, time first": (lambda: Encoder(batch_first=False), SERIES, [ATTENTION], ATTENTION, [1], [3]),
    "mlp": (Encoder, SERIES, ["encoder.layers.1.linear1"], "encoder.layers.1.linear1", [4], [9]),
}  # fmt: skip


def doubled(name: str) -> tuple[nn.Module, Tensor, dict[str, Sequence[int]]]:
    """In the form in which units can be removed."""
    make, shape, modules, root, kept, gone = CASES[name]
    model, x = lively(make()), torch.randn(shape)
    assert prunable(model, x[:2]) == {}
    for module in modules:
        pairs = (
            zip(kept, gone, strict=True) if isinstance(model.get_submodule(module), nn.Conv2d) else [(kept[0], gone[0])]
        )
        for one, other in pairs:
            double(model.get_submodule(module), one, other)
    return model, x, {root: gone}
