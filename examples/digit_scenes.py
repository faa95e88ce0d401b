"""Scenes of one to three handwritten digits (scikit-learn's, two or three times as large) on noise, 64 x 64."""

from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

SIDE = 64
BORDER = 255  # the label of pixels at the edge of a digit, which belong to nobody
PARTS = {"train": (0, 1000), "val": (1000, 1400), "test": (1400, 1797)}  # of the digits: no scan is in two parts


@dataclass(frozen=True)
class Scenes:
    """images (N, 1, 64, 64). boxes: (k, 4) of each scene, left, top, right, bottom in pixels. labels: (k,), 0..9.
    masks (N, 64, 64): 0 for background, 1 + the digit, BORDER.
    """

    images: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]
    masks: Tensor


def scenes(count: int, part: str) -> Scenes:
    """``count`` scenes from one part of the digits; the same each time."""
    images, kinds = load_digits(return_X_y=True)
    first, last = PARTS[part]
    small = torch.tensor(images[first:last], dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    digits = {side: F.interpolate(small, (side, side), mode="bilinear")[:, 0] for side in (16, 20, 24)}
    generator = torch.Generator().manual_seed(first)

    def drawn(end: int) -> int:
        return int(torch.randint(end, (1,), generator=generator))

    pictures = 0.15 * torch.rand(count, SIDE, SIDE, generator=generator)
    masks = torch.zeros(count, SIDE, SIDE, dtype=torch.int64)
    boxes, labels = [], []
    for picture, mask in zip(pictures, masks, strict=True):
        found: list[tuple[int, int, int, int]] = []
        names = []
        for _ in range(1 + drawn(3)):
            side, which = (16, 20, 24)[drawn(3)], drawn(len(small))
            left, top = drawn(SIDE - side), drawn(SIDE - side)
            box = left, top, left + side, top + side
            if any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in found):
                continue
            found.append(box)
            names.append(int(kinds[first + which]))
            ink = digits[side][which]
            at = slice(top, top + side), slice(left, left + side)
            picture[at] += ink
            mask[at][ink > 0.15] = BORDER
            mask[at][ink > 0.35] = 1 + names[-1]
        boxes.append(torch.tensor(found, dtype=torch.float32))
        labels.append(torch.tensor(names))
    return Scenes(pictures[:, None].clamp(0, 1) * 2 - 1, boxes, labels, masks)
