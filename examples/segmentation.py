"""Segmentation: a small U-Net that says of every pixel which digit it belongs to, judged by mean IoU.

The loss and the metric are torch's and torchmetrics' own, both of which leave out the pixels on borders. Needs nothing
but what autocompress installs; trains in half a minute the first time.

    autocompress search examples/segmentation.py:task --speedup 2 --minutes 5
"""

import torch
from digit_scenes import BORDER, scenes
from quick_training import trained
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import JaccardIndex

from autocompress import Task

CLASSES = 11  # the background and ten digits


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()),
        *(nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()),
    )


class UNet(nn.Module):
    """(N, 1, 64, 64) -> logits (N, 11, 64, 64). Ronneberger, Fischer & Brox, MICCAI 2015."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first, self.second, self.third = block(1, width), block(width, 2 * width), block(2 * width, 4 * width)
        self.deepest = block(4 * width, 4 * width)
        self.up3, self.up2, self.up1 = block(8 * width, 2 * width), block(4 * width, width), block(2 * width, width)
        self.head = nn.Conv2d(width, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.first(x)
        two = self.second(F.max_pool2d(one, 2))
        three = self.third(F.max_pool2d(two, 2))
        x = self.deepest(F.max_pool2d(three, 2))
        x = self.up3(torch.cat([three, F.interpolate(x, scale_factor=2.0)], 1))
        x = self.up2(torch.cat([two, F.interpolate(x, scale_factor=2.0)], 1))
        x = self.up1(torch.cat([one, F.interpolate(x, scale_factor=2.0)], 1))
        return self.head(x)


def task(examples: int = 1500, steps: int = 250) -> Task:
    torch.manual_seed(0)
    parts = {"train": examples, "val": -(-examples // 4), "test": -(-examples // 4)}
    data = {part: scenes(count, part) for part, count in parts.items()}
    images, masks = data["train"].images, data["train"].masks
    model, loss = UNet(), nn.CrossEntropyLoss(ignore_index=BORDER)
    return Task(
        "segmentation",
        trained(model, lambda rows: loss(model(images[rows]), masks[rows]), examples, steps),
        **{part: (found.images, found.masks) for part, found in data.items()},
        loss=loss,
        metric=JaccardIndex(task="multiclass", num_classes=CLASSES, ignore_index=BORDER),
    )
