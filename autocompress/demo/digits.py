"""The bundled demo: scikit-learn's handwritten digits (1,797 real scans, 8x8, from the UCI Optical Recognition data
set) and a small residual network. The network is trained once, in some seconds, and kept in the user's cache folder.
"""

import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autocompress.storage.store import Store
from autocompress.task import Task

EPOCHS = 12
BATCH = 32
TRAIN_EXAMPLES, VAL_EXAMPLES = 700, 550  # the remaining 547 are the test split


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = (
            nn.Conv2d(inputs, outputs, 1, stride, bias=False) if (inputs, stride) != (outputs, 1) else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class DigitsNet(nn.Module):
    """(N, 1, 8, 8) -> (N, 10)."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.body = nn.Sequential(Block(width, width, 1), Block(width, 2 * width, 2), Block(2 * width, 2 * width, 1))
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))  # type: ignore[no-any-return]


def task() -> Task:
    """The demo's task; trains and caches the reference the first time."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(images).float().reshape(-1, 1, 8, 8) / 8 - 1
    y = torch.from_numpy(labels).long()
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    train, val, test = (
        order[:TRAIN_EXAMPLES],
        order[TRAIN_EXAMPLES : TRAIN_EXAMPLES + VAL_EXAMPLES],
        order[TRAIN_EXAMPLES + VAL_EXAMPLES :],
    )
    return Task(
        name="digits",
        model=_reference(x[train], y[train]),
        train=(x[train], y[train]),
        val=(x[val], y[val]),
        test=(x[test], y[test]),
    )


def _reference(x: Tensor, y: Tensor) -> nn.Module:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    store = Store(cache / "autocompress")
    key = store.key("digits", EPOCHS, BATCH, len(y), torch.__version__, 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = DigitsNet()
        weights = store.load(key)
        if weights is not None:
            model.load_state_dict(weights)
            return model.eval()
        _train(model, x, y)
    cache.mkdir(parents=True, exist_ok=True)
    store.save(key, model.state_dict())
    return model.eval()


def _train(model: nn.Module, x: Tensor, y: Tensor) -> None:
    steps = EPOCHS * (len(y) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    model.train()
    for _ in range(EPOCHS):
        for batch in torch.split(torch.randperm(len(y))[: len(y) // BATCH * BATCH], BATCH):
            shifted = torch.roll(x[batch], tuple(torch.randint(-1, 2, (2,)).tolist()), (2, 3))
            optimizer.zero_grad()
            F.cross_entropy(model(shifted), y[batch], label_smoothing=0.05).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
