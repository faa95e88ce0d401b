"""A task whose examples take long to decode, for benchmarks/loading.py: striped pictures of four kinds, each made from
its number by 5 ms of computing. Every decoding is written down in the file that ``LOADING_LOG`` names.
"""

import os
import struct
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from autocompress import Task

EXAMPLES = int(os.environ.get("LOADING_EXAMPLES", "200000"))  # of each split
DECODING_S = float(os.environ.get("LOADING_DECODING_S", "0.005"))
RECORD = struct.Struct("=cqd")  # split, number, time


def picture(number: int) -> tuple[Tensor, int]:
    """(3, 32, 32) and its kind."""
    generator = torch.Generator().manual_seed(number)
    kind = number % 4
    wave = torch.sin(torch.arange(32.0) * (0.4 + 0.3 * kind) + float(torch.rand(1, generator=generator)) * 6)
    return wave[None, None, :].expand(3, 32, 32) + 1.5 * torch.randn(3, 32, 32, generator=generator), kind


class SlowlyDecoded(Dataset[Any]):
    def __init__(self, split: str, first: int) -> None:
        self.split, self.first = split[:1].encode(), first

    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        began = time.monotonic()
        example = picture(self.first + index)
        while time.monotonic() - began < DECODING_S:
            pass
        if log := os.environ.get("LOADING_LOG"):
            with Path(log).open("ab", buffering=0) as file:
                file.write(RECORD.pack(self.split, index, time.time()))
        return example


def task() -> Task:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(
            nn.Conv2d(3, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 4)),
    ).train()
    images, kinds = zip(*(picture(10**7 + n) for n in range(1024)), strict=True)
    x, y = torch.stack(images), torch.tensor(kinds)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(60):
        at = torch.arange(64) + 64 * step
        optimizer.zero_grad()
        F.cross_entropy(model(x[at % 1024]), y[at % 1024]).backward()
        optimizer.step()
    train, val = (
        DataLoader(SlowlyDecoded(split, first), 64, shuffle=split == "train", num_workers=2)
        for split, first in (("train", 0), ("val", EXAMPLES))
    )
    return Task("slow_decoding", model.eval(), train, val)
