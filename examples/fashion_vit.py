"""A small vision transformer on Fashion-MNIST, attention written by hand.

autocompress search examples/fashion_vit.py:task --speedup 2 --minutes 8
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for fashion_mnist, from wherever this file is loaded
import fashion_mnist
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from autocompress import Task


class Attention(nn.Module):
    """Multi-head self-attention, (B, N, C) -> (B, N, C)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        attention = (q * self.scale @ k.transpose(-2, -1)).softmax(-1)  # (B, heads, N, N)
        return self.proj((attention @ v).transpose(1, 2).reshape(b, n, c))


class Block(nn.Module):
    """Attention and a two-layer MLP, each after a layer norm and beside a shortcut, (B, N, C) -> (B, N, C)."""

    def __init__(self, width: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """(B, 1, 28, 28) -> (B, 10), by 49 patches of 4x4 pixels."""

    def __init__(self, width: int = 96, depth: int = 4, heads: int = 4, ratio: int = 2) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, 4, 4)
        self.position = nn.Parameter(torch.zeros(1, 49, width))
        self.blocks = nn.Sequential(*(Block(width, heads, ratio) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(x)).mean(1))


def task() -> Task:
    """The trained transformer and its data."""
    model = VisionTransformer()
    model.load_state_dict(load_file(Path(__file__).with_suffix(".safetensors")))  # float16 in the file
    return Task(name="fashion_vit", model=model.eval(), **fashion_mnist.splits(), augment=fashion_mnist.flip)
