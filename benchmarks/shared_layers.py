"""Tasks whose models call a layer more than once, on scikit-learn's handwritten digits (1,797 real scans, 8x8):

    python benchmarks/repair.py curves benchmarks/shared_layers.py:shared_blocks --strategies prune_attention
    python benchmarks/repair.py curves benchmarks/shared_layers.py:cell_in_a_loop --strategies prune_recurrent

The rows of an image are a sequence of eight. Each model is trained anew, in seconds, always in the same way.
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from autocompress.task import Task

TRAIN_EXAMPLES, VAL_EXAMPLES = 900, 597  # the remaining 300 are the test split
EPOCHS, BATCH, WIDTH, BLOCKS, HIDDEN = 30, 32, 32, 4, 64


class SharedBlocks(nn.Module):
    """(N, 8, 8) -> (N, 10): one transformer block called several times after each other, as in ALBERT."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.position = nn.Linear(8, WIDTH), nn.Parameter(0.1 * torch.randn(8, WIDTH))
        self.block = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, 0.0, batch_first=True)
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + self.position
        for _ in range(BLOCKS):
            x = self.block(x)
        return self.head(x.mean(1))


class CellInALoop(nn.Module):
    """(N, 8, 8) -> (N, 10): an LSTM's cell called for each row."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(8, HIDDEN), nn.Linear(HIDDEN, 10)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for row in range(x.shape[1]):
            state = self.cell(x[:, row], state)
        assert state is not None
        return self.head(state[0])


def shared_blocks() -> Task:
    return _task("digits_shared_blocks", SharedBlocks)


def cell_in_a_loop() -> Task:
    return _task("digits_cell_in_a_loop", CellInALoop)


def _task(name: str, make: type[nn.Module]) -> Task:
    images, labels = load_digits(return_X_y=True)
    x, y = torch.from_numpy(images).float().reshape(-1, 8, 8) / 8 - 1, torch.from_numpy(labels).long()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        order = torch.randperm(len(y))
        train, val, test = order.split([TRAIN_EXAMPLES, VAL_EXAMPLES, len(y) - TRAIN_EXAMPLES - VAL_EXAMPLES])
        model = _trained(make(), x[train], y[train])
    return Task(name=name, model=model, train=(x[train], y[train]), val=(x[val], y[val]), test=(x[test], y[test]))


def _trained(model: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
    steps = EPOCHS * len(x) // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(x), (BATCH,))
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
        schedule.step()
    return model.eval()
