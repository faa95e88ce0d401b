"""Mean average precision of boxes as COCO has it: over the classes and over the ten overlaps 0.50, 0.55, ..., 0.95.

torchmetrics' own MeanAveragePrecision gives the same; it needs torchvision and pycocotools beside it.
"""

from collections import defaultdict

import torch
from torch import Tensor

OVERLAPS = torch.arange(0.5, 1.0, 0.05)
RECALLS = torch.linspace(0, 1, 101)

Found = dict[str, Tensor]  # "boxes" (k, 4), left, top, right, bottom; "labels" (k,); of predictions "scores" (k,)


class BoxPrecision:
    """``update`` with one dict a scene on either side, ``compute`` a number in 0..1, higher is better."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._scored: dict[int, list[tuple[Tensor, Tensor]]] = defaultdict(list)  # scores (k,), right (k, overlaps)
        self._there: dict[int, int] = defaultdict(int)  # how many boxes of a class there are

    def update(self, predicted: list[Found], wanted: list[Found]) -> None:
        for found, there in zip(predicted, wanted, strict=True):
            for label in torch.cat([found["labels"], there["labels"]]).unique().tolist():
                own, true = found["labels"] == label, there["labels"] == label
                order = found["scores"][own].argsort(descending=True)
                boxes = found["boxes"][own][order]
                self._scored[label].append((found["scores"][own][order], matched(boxes, there["boxes"][true])))
                self._there[label] += int(true.sum())

    def compute(self) -> float:
        precisions = [self._of_class(label) for label, count in self._there.items() if count]
        return float(torch.stack(precisions).mean()) if precisions else 0.0

    def _of_class(self, label: int) -> Tensor:
        scores, right = (torch.cat(column) for column in zip(*self._scored[label], strict=True))
        right = right[scores.argsort(descending=True, stable=True)].double()
        hits = right.cumsum(0)
        recall = hits / self._there[label]
        precision = hits / torch.arange(1, len(right) + 1)[:, None]
        best = precision.flip(0).cummax(0).values.flip(0) if len(right) else precision  # from each recall on
        values = []
        for column in range(len(OVERLAPS)):
            at = torch.searchsorted(recall[:, column].contiguous(), RECALLS.double())
            values.append(torch.cat([best[:, column], torch.zeros(1)])[at].mean())
        return torch.stack(values).mean()


def matched(boxes: Tensor, there: Tensor) -> Tensor:
    """Whether each box, best first, takes one that is there and that none before it took -> (k, overlaps)."""
    right = torch.zeros(len(boxes), len(OVERLAPS), dtype=torch.bool)
    if not len(there):
        return right
    overlap = overlaps(boxes, there)
    for column, least in enumerate(OVERLAPS):
        free = torch.ones(len(there), dtype=torch.bool)
        for row in range(len(boxes)):
            best = overlap[row].where(free, torch.tensor(-1.0)).argmax()
            if free[best] and overlap[row, best] >= least:
                right[row, column], free[best] = True, False
    return right


def overlaps(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of boxes (a, 4) and (b, 4) -> (a, b)."""
    corner = torch.maximum(one[:, None, :2], other[:, :2]), torch.minimum(one[:, None, 2:], other[:, 2:])
    shared = (corner[1] - corner[0]).clamp(min=0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1) for boxes in (one, other)]
    return shared / (areas[0][:, None] + areas[1] - shared).clamp(min=1e-9)
