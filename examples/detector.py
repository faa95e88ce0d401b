"""Detection: a one-stage detector without anchors on scenes of digits, judged by mean average precision.

The model gives raw maps of two levels, and what turns them into boxes is outside of it: the metric calls ``boxes_of``,
as the application would. Targets are a dict a scene, since scenes have different numbers of digits. Trains in about
half a minute the first time.

    autocompress search examples/detector.py:task --speedup 2 --minutes 5
"""

from typing import Any

import torch
from digit_scenes import SIDE, Scenes, scenes
from mean_average_precision import BoxPrecision, Found, overlaps
from quick_training import trained
from torch import Tensor, nn
from torch.nn import functional as F

from autocompress import Task

STRIDES = {"fine": 4, "coarse": 8}  # pixels a cell
LARGE = 22  # pixels: digits at least as large are found on the coarse level
DIGITS, MOST = 10, 10  # kinds of boxes; boxes a scene that are kept

Maps = dict[str, Tensor]  # of each level (N, 1 + 4 + 10, H, W): presence, distances to four sides in cells, digits


def layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class Detector(nn.Module):
    """(N, 1, 64, 64) -> raw maps of both levels, in the manner of FCOS (Tian et al., ICCV 2019)."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(layer(1, width, 2), layer(width, 2 * width, 2), layer(2 * width, 2 * width))
        self.deep = nn.Sequential(
            layer(2 * width, 4 * width, 2), layer(4 * width, 4 * width), layer(4 * width, 4 * width)
        )
        self.down = nn.Conv2d(4 * width, 2 * width, 1)
        self.fine = nn.Sequential(layer(2 * width, 2 * width), nn.Conv2d(2 * width, 5 + DIGITS, 1))
        self.coarse = nn.Sequential(layer(4 * width, 2 * width), nn.Conv2d(2 * width, 5 + DIGITS, 1))

    def forward(self, x: Tensor) -> Maps:
        fine = self.stem(x)
        coarse = self.deep(fine)
        fine = fine + F.interpolate(self.down(coarse), scale_factor=2.0)
        return {"fine": self.fine(fine), "coarse": self.coarse(coarse)}


def centres(stride: int) -> Tensor:
    """The middle of each cell, in pixels -> (H, W, 2)."""
    along = (torch.arange(SIDE // stride) + 0.5) * stride
    return torch.stack(torch.meshgrid(along, along, indexing="xy"), 2)


def wanted_maps(targets: list[Found], level: str) -> Tensor:
    """What a level should give -> (N, 6, H, W): presence, distances in cells, the digit. A box belongs to the cells
    near its middle.
    """
    stride = STRIDES[level]
    at, maps = centres(stride), torch.zeros(len(targets), SIDE // stride, SIDE // stride, 6)
    for found, own in zip(targets, maps, strict=True):
        for box, label in zip(found["boxes"], found["labels"], strict=True):
            if (float(box[2] - box[0]) >= LARGE) != (level == "coarse"):
                continue
            middle = (box[:2] + box[2:]) / 2
            near = ((at - middle).abs() <= 0.8 * stride).all(2)
            sides = torch.cat([at - box[:2], box[2:] - at], 2) / stride
            own[near] = torch.cat(
                [torch.ones(SIDE // stride, SIDE // stride, 1), sides, label.expand_as(at[..., :1])], 2
            )[near]
    return maps.permute(0, 3, 1, 2)


def loss(returned: Maps, targets: list[Found]) -> Tensor:
    """Focal loss of presence (Lin et al., ICCV 2017), and at the cells of a box the errors of its sides and digit."""
    return map_loss(returned, {level: wanted_maps(targets, level) for level in STRIDES})


def map_loss(returned: Maps, wanted: Maps) -> Tensor:
    terms = []
    for level, maps in returned.items():
        there = wanted[level][:, 0]
        count = there.sum().clamp(min=1)
        missed = F.binary_cross_entropy_with_logits(maps[:, 0], there, reduction="none")
        terms.append(((1 - (-missed).exp()).square() * missed).sum() / count)
        at = there.bool()
        sides = F.l1_loss(maps[:, 1:5].movedim(1, -1)[at], wanted[level][:, 1:5].movedim(1, -1)[at], reduction="sum")
        digits = wanted[level][:, 5].long()[at]
        kinds = F.cross_entropy(maps[:, 5:].movedim(1, -1)[at], digits, reduction="sum")
        terms.append((sides + kinds) / count)
    return torch.stack(terms).sum()


def boxes_of(returned: Maps) -> list[Found]:
    """At most ten boxes a scene, without those that overlap a better one of their digit by half."""
    boxes, scores, labels = [], [], []
    for level, maps in returned.items():
        stride = STRIDES[level]
        at = centres(stride).permute(2, 0, 1)
        sides = maps[:, 1:5] * stride
        boxes.append(torch.cat([at - sides[:, :2], at + sides[:, 2:]], 1).flatten(2))
        likelihood, label = maps[:, 5:].softmax(1).max(1)
        scores.append((maps[:, 0].sigmoid() * likelihood).flatten(1))
        labels.append(label.flatten(1))
    box, score, label = torch.cat(boxes, 2).transpose(1, 2), torch.cat(scores, 1), torch.cat(labels, 1)
    found = []
    for own, best in enumerate(score.topk(4 * MOST).indices):
        alike = (overlaps(box[own, best], box[own, best]) > 0.5) & (label[own, best][:, None] == label[own, best])
        kept: list[int] = []
        for row in range(len(best)):
            if len(kept) < MOST and not alike[row, kept].any():
                kept.append(row)
        best = best[kept]
        found.append({"boxes": box[own, best], "scores": score[own, best], "labels": label[own, best]})
    return found


class DetectionPrecision(BoxPrecision):
    """Mean average precision of the raw maps."""

    def update(self, returned: Maps, targets: list[Found]) -> None:
        super().update(boxes_of(returned), targets)


def targets_of(found: Scenes) -> list[dict[str, Any]]:
    return [{"boxes": boxes, "labels": labels} for boxes, labels in zip(found.boxes, found.labels, strict=True)]


def task(examples: int = 1500, steps: int = 500) -> Task:
    torch.manual_seed(0)
    parts = {"train": examples, "val": -(-examples // 4), "test": -(-examples // 4)}
    data = {part: scenes(count, part) for part, count in parts.items()}
    images, model = data["train"].images, Detector()
    wanted = {level: wanted_maps(targets_of(data["train"]), level) for level in STRIDES}

    def loss_of(rows: Tensor) -> Tensor:
        return map_loss(model(images[rows]), {level: maps[rows] for level, maps in wanted.items()})

    return Task(
        "detector",
        trained(model, loss_of, examples, steps),
        **{part: (found.images, targets_of(found)) for part, found in data.items()},
        loss=loss,
        metric=DetectionPrecision(),
    )
