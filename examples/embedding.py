"""Triplets: a network that puts drawings of one digit near each other, trained on an anchor, a positive and a negative.

Inputs are a dict of three images, outputs a dict of three embeddings of length 1; the metric is the share of triplets
whose anchor lies nearer to the positive. Trains in some seconds the first time.

    autocompress search examples/embedding.py:task --speedup 2 --minutes 5
"""

import torch
from digit_scenes import PARTS
from quick_training import trained
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from autocompress import Task

MARGIN = 0.5
Three = dict[str, Tensor]  # "anchor", "positive", "negative"


class Embedder(nn.Module):
    """Three images (N, 1, 8, 8) -> three embeddings (N, 32) by one network."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU()),
            *(nn.Conv2d(2 * width, 2 * width, 3, 1, 1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU()),
        )
        self.head = nn.Linear(2 * width, 32)

    def embed(self, x: Tensor) -> Tensor:
        return F.normalize(self.head(self.body(x).mean((2, 3))))

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Three:
        return {"anchor": self.embed(anchor), "positive": self.embed(positive), "negative": self.embed(negative)}


def triplets(count: int, part: str) -> tuple[Three, Tensor]:
    """Three images of each triplet, and the digit of the anchor."""
    images, kinds = load_digits(return_X_y=True)
    first, last = PARTS[part]
    x = torch.tensor(images[first:last], dtype=torch.float32).reshape(-1, 1, 8, 8) / 8 - 1
    y = torch.tensor(kinds[first:last])
    generator = torch.Generator().manual_seed(first)
    anchor = torch.randint(len(y), (count,), generator=generator)
    alike = y[anchor][:, None] == y
    positive, negative = (torch.multinomial(m.double(), 1, generator=generator)[:, 0] for m in (alike, ~alike))
    return {"anchor": x[anchor], "positive": x[positive], "negative": x[negative]}, y[anchor]


def triplet_loss(returned: Three, targets: Tensor) -> Tensor:
    return F.triplet_margin_loss(returned["anchor"], returned["positive"], returned["negative"], MARGIN)


def nearer(returned: Three, targets: Tensor) -> float:
    """Share of triplets whose anchor lies nearer to the positive than to the negative."""
    near, far = ((returned["anchor"] - returned[name]).norm(dim=1) for name in ("positive", "negative"))
    return float((near < far).float().mean())


def task(examples: int = 4000, steps: int = 250) -> Task:
    torch.manual_seed(0)
    parts = {"train": examples, "val": -(-examples // 4), "test": -(-examples // 4)}
    data = {part: triplets(count, part) for part, count in parts.items()}
    images, digits = data["train"]
    model = Embedder()

    def loss_of(rows: Tensor) -> Tensor:
        return triplet_loss(model(**{name: x[rows] for name, x in images.items()}), digits[rows])

    return Task("embedding", trained(model, loss_of, examples, steps), **data, loss=triplet_loss, metric=nearer)
