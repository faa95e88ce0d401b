"""A small MobileNetV3-like network on Fashion-MNIST: depthwise-separable, with squeeze-and-excitation.

autocompress search examples/fashion_mobilenet.py:task --speedup 3 --minutes 8
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for fashion_mnist, from wherever this file is loaded
import fashion_mnist
from safetensors.torch import load_file
from torch import Tensor, nn

from autocompress import Task


class ConvNorm(nn.Sequential):
    """Convolution, batch norm and, unless ``linear``, hard-swish."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, linear: bool = False
    ) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.Identity() if linear else nn.Hardswish(),
        )


class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate in 0..1 computed from all channels' means, (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int, ratio: int = 4) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // ratio, 1),
            nn.ReLU(),
            nn.Conv2d(channels // ratio, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class InvertedResidual(nn.Module):
    """Widen, filter each channel by itself, gate, narrow; a shortcut where the shapes allow it.

    (B, inputs, H, W) -> (B, outputs, H / stride, W / stride)
    """

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = expansion * inputs
        self.body = nn.Sequential(
            ConvNorm(inputs, hidden),
            ConvNorm(hidden, hidden, 3, stride, groups=hidden),
            SqueezeExcitation(hidden),
            ConvNorm(hidden, outputs, linear=True),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.shortcut else self.body(x)


class MobileNet(nn.Module):
    """(B, 1, 28, 28) -> (B, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(1, 16, 3)
        self.blocks = nn.Sequential(
            InvertedResidual(16, 24, 2, stride=2),
            InvertedResidual(24, 24, 4, stride=1),
            InvertedResidual(24, 64, 4, stride=2),
            *(InvertedResidual(64, 64, 4, stride=1) for _ in range(4)),
        )
        self.last = ConvNorm(64, 384)
        self.head = nn.Linear(384, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.blocks(self.stem(x))).mean((2, 3)))


def task() -> Task:
    """The trained network and its data."""
    model = MobileNet()
    model.load_state_dict(load_file(Path(__file__).with_suffix(".safetensors")))  # float16 in the file
    return Task(name="fashion_mobilenet", model=model.eval(), **fashion_mnist.splits(), augment=fashion_mnist.flip)
