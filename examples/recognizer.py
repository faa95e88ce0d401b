"""Recognition of a row of digits: a loss with lengths (CTC), greedy decoding, an error rate of which lower is better.

Targets are a tuple: labels padded with blanks, and how many of them count. Trains in some seconds the first time.

    autocompress search examples/recognizer.py:task --speedup 2 --minutes 5
"""

import torch
from digit_scenes import PARTS
from quick_training import trained
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.functional.text import char_error_rate

from autocompress import Task

BLANK, MOST, WIDTH = 0, 5, 64  # a digit is 1 + its value
Targets = tuple[Tensor, Tensor]  # labels (N, 5), lengths (N,)


class Recognizer(nn.Module):
    """(N, 1, 8, 64) -> log probabilities of the blank and the digits at each of 32 steps (N, 32, 11)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.see = nn.Sequential(
            *(nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
        )
        self.read = nn.GRU(4 * width, 2 * width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(4 * width, 11)

    def forward(self, x: Tensor) -> Tensor:
        columns = self.see(x).permute(0, 3, 1, 2).flatten(2)
        return self.head(self.read(columns)[0]).log_softmax(2)


def rows_of_digits(count: int, part: str) -> tuple[Tensor, Targets]:
    """Two to five digits in a row, at uneven distances, on noise."""
    images, kinds = load_digits(return_X_y=True)
    first, last = PARTS[part]
    digits = torch.tensor(images, dtype=torch.float32).reshape(-1, 8, 8) / 8 - 1
    generator = torch.Generator().manual_seed(first)
    lengths = torch.randint(2, MOST + 1, (count,), generator=generator)
    chosen = torch.randint(first, last, (count, MOST), generator=generator)
    gaps = torch.randint(0, 5, (count, MOST), generator=generator)
    pictures = 0.2 * torch.rand(count, 1, 8, WIDTH, generator=generator) - 1
    for row in range(count):
        left = 0
        for place in range(int(lengths[row])):
            left += int(gaps[row, place])
            pictures[row, 0, :, left : left + 8] = digits[chosen[row, place]]
            left += 8
    labels = 1 + torch.tensor(kinds)[chosen]
    return pictures, (labels.where(torch.arange(MOST) < lengths[:, None], torch.tensor(BLANK)), lengths)


def ctc(returned: Tensor, targets: Targets) -> Tensor:
    labels, lengths = targets
    steps = torch.full_like(lengths, returned.shape[1])
    return F.ctc_loss(returned.transpose(0, 1), labels, steps, lengths, BLANK, zero_infinity=True)


def read(returned: Tensor) -> list[str]:
    """Greedy: the likeliest of each step, repetitions and blanks left out."""
    texts = []
    for steps in returned.argmax(2):
        kept = torch.unique_consecutive(steps)
        texts.append("".join(str(label - 1) for label in kept.tolist() if label != BLANK))
    return texts


def error_rate(returned: Tensor, targets: Targets) -> float:
    """Edits that make the texts right, by digit: 0 where all are read right."""
    labels, lengths = targets
    right = ["".join(str(k - 1) for k in row[:n].tolist()) for row, n in zip(labels, lengths, strict=True)]
    return float(char_error_rate(read(returned), right))


def task(examples: int = 3000, steps: int = 400) -> Task:
    torch.manual_seed(0)
    parts = {"train": examples, "val": -(-examples // 4), "test": -(-examples // 4)}
    data = {part: rows_of_digits(count, part) for part, count in parts.items()}
    images, (labels, lengths) = data["train"]
    model = Recognizer()
    return Task(
        "recognizer",
        trained(model, lambda rows: ctc(model(images[rows]), (labels[rows], lengths[rows])), examples, steps),
        **data,
        loss=ctc,
        metric=error_rate,
        maximize=False,
    )
