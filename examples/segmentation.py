"""Segmentation: a small U-Net that marks digits with a closed loop and digits without, judged by mean IoU.

The loss and the metric are torch's and torchmetrics' own, both of which leave out the pixels on borders. Needs nothing
but what autocompress installs; trains in a minute the first time.

    autocompress search examples/segmentation.py:task --speedup 2 --minutes 5
"""

from itertools import pairwise

import torch
from digit_scenes import BORDER, scenes
from quick_training import trained
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import JaccardIndex

from autocompress import Task

CLASSES = 3  # the background, digits without a closed loop, digits with one
LOOPS = (0, 6, 8, 9)
BACKGROUND = 0.4  # what a pixel of it weighs


def block(*widths: int) -> nn.Sequential:
    """3 x 3 convolutions from each width to the next."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """(N, 1, 64, 64) -> logits (N, 3, 64, 64), in the manner of Ronneberger, Fischer & Brox, MICCAI 2015, at half of
    the resolution.
    """

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, 2, 1)
        self.first, self.second = block(width, width), block(width, 2 * width, 2 * width)
        self.deepest = block(2 * width, 4 * width, 4 * width)
        self.up2, self.up1 = block(6 * width, 2 * width), block(3 * width, width)
        self.head = nn.ConvTranspose2d(width, CLASSES, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        one = self.first(self.stem(x).relu())
        two = self.second(F.max_pool2d(one, 2))
        x = self.deepest(F.max_pool2d(two, 2))
        x = self.up2(torch.cat([two, F.interpolate(x, scale_factor=2.0)], 1))
        x = self.up1(torch.cat([one, F.interpolate(x, scale_factor=2.0)], 1))
        return self.head(x)


def classes_of(masks: Tensor) -> Tensor:
    """Masks of scenes, with a digit for each pixel, as masks of the three classes (N, 64, 64)."""
    with_loop = torch.isin(masks, torch.tensor([1 + digit for digit in LOOPS]))
    return masks.clamp(max=1).masked_fill(with_loop, 2).masked_fill(masks == BORDER, BORDER)


def task(examples: int = 1500, steps: int = 400) -> Task:
    torch.manual_seed(0)
    parts = {"train": examples, "val": -(-examples // 4), "test": -(-examples // 4)}
    data = {part: scenes(count, part) for part, count in parts.items()}
    images, masks = data["train"].images, classes_of(data["train"].masks)
    weights = torch.tensor([BACKGROUND] + [1.0] * (CLASSES - 1))  # most pixels are background
    model, loss = UNet(), nn.CrossEntropyLoss(weights, ignore_index=BORDER)
    return Task(
        "segmentation",
        trained(model, lambda rows: loss(model(images[rows]), masks[rows]), examples, steps, peak=5e-3),
        **{part: (found.images, classes_of(found.masks)) for part, found in data.items()},
        loss=loss,
        metric=JaccardIndex(task="multiclass", num_classes=CLASSES, ignore_index=BORDER),
    )
