"""Small tasks to try a strategy on: a convolutional, a recurrent and an attention network, each a classification.

Each trains in about a second, once in a process, the same way each time. None has dropout, so that a training of it
can be repeated bit for bit.
"""

import copy
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from autocompress.task import Task

CLASSES = 4
FIT_STEPS, FIT_BATCH = 30, 64
Examples = tuple[Tensor, Tensor]
MakeExamples = Callable[[int, int], Examples]


class Residual(nn.Module):
    """Two convolutions beside a shortcut, (N, C, H, W) -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(x + self.bn2(self.conv2(y)))


class Cnn(nn.Module):
    """(N, 1, 8, 8) -> (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU())
        self.blocks = nn.Sequential(Residual(16), Residual(16))
        self.down = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.down(self.blocks(self.stem(x))))
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


class Lstm(nn.Module):
    """(N, 12, 6) -> (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(6, 24, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(48, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0].mean(1))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Multi-head self-attention, (N, T, E) -> the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, e = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, e // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) * (e // self.heads) ** -0.5).softmax(-1)  # (N, heads, T, T)
        return self.out((weights @ v).transpose(1, 2).reshape(n, t, e))  # type: ignore[no-any-return]


class TransformerBlock(nn.Module):
    """Attention and a two-layer MLP, each after a layer norm and beside a shortcut, (N, T, E) -> the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """(N, 12) tokens of 16 kinds -> (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(16, 32)
        self.position = nn.Parameter(torch.zeros(1, 12, 32))
        self.blocks = nn.Sequential(TransformerBlock(32, 4), TransformerBlock(32, 4))
        self.norm = nn.LayerNorm(32)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.blocks(self.embedding(tokens) + self.position)
        return self.head(self.norm(x).mean(1))  # type: ignore[no-any-return]


def cnn() -> Task:
    """Four kinds of stripes in noise: convolutions, batch norm, two residual blocks."""
    return _task("cnn", Cnn, _stripes)


def lstm() -> Task:
    """Waves of four frequencies in noise: a two-layer bidirectional LSTM."""
    return _task("lstm", Lstm, _waves)


def transformer() -> Task:
    """Which quarter of the vocabulary is the commonest: two blocks of attention written by hand, over token ids."""
    return _task("transformer", Transformer, _tokens)


ALL: tuple[Callable[[], Task], ...] = (cnn, lstm, transformer)


def _stripes(size: int, seed: int) -> Examples:
    """(N, 1, 8, 8)."""
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    kinds = torch.stack([(w * 1.2).sin() for w in (rows, columns, rows + columns, rows - columns)])
    labels, generator = _labels(size, seed)
    return kinds[labels][:, None] + 0.7 * torch.randn(size, 1, 8, 8, generator=generator), labels


def _waves(size: int, seed: int) -> Examples:
    """(N, 12, 6)."""
    labels, generator = _labels(size, seed)
    angles = torch.arange(12.0)[None, :, None] * (labels[:, None, None] + 1) * 0.5 + torch.arange(6.0)
    return angles.sin() + 0.7 * torch.randn(size, 12, 6, generator=generator), labels


def _tokens(size: int, seed: int) -> Examples:
    """(N, 12) int64."""
    labels, generator = _labels(size, seed)
    own = torch.rand(size, 12, generator=generator) < 0.5
    quarter = torch.randint(4, (size, 12), generator=generator)
    return torch.where(own, 4 * labels[:, None] + quarter, torch.randint(16, (size, 12), generator=generator)), labels


def _labels(size: int, seed: int) -> tuple[Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(CLASSES, (size,), generator=generator), generator


def _task(name: str, network: Callable[[], nn.Module], examples: MakeExamples) -> Task:
    train, val = examples(256, 1), examples(96, 2)
    return Task(name=name, model=copy.deepcopy(_trained(network, examples)), train=train, val=val)


@cache
def _trained(network: Callable[[], nn.Module], examples: MakeExamples) -> nn.Module:
    x, y = examples(256, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = network().train()
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for step in range(FIT_STEPS):
            at = torch.arange(step * FIT_BATCH, (step + 1) * FIT_BATCH) % len(y)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[at]), y[at]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model.eval()
