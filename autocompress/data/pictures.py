"""An example as a picture, where its input is one."""

import base64
import io

import torch
from torch import Tensor

from autocompress.data.batch import Batch, named_inputs

SHORTEST, LONGEST = 8, 4096  # sides of what is taken for a picture, in pixels
OBLONG = 2  # times the shorter side: what is longer, and has no axis of colours, is a sequence
PICTURE_SIDE = 96  # pixels of the longer side, at most


def picture_of(example: Batch) -> str:
    """A PNG in base64 of the first input (1, H, W), (1, 1, H, W) or (1, 3, H, W) of one example, from its smallest
    value as black to its largest as white; empty where there is none.
    """
    for tensor in named_inputs(example.inputs).values():
        planes = tensor[0] if tensor.dim() == 4 else tensor
        if planes.dim() != 3 or len(planes) not in (1, 3) or not (tensor.is_floating_point() or tensor.dim() == 4):
            continue
        short, long = sorted(planes.shape[1:])
        if SHORTEST <= short <= long <= (LONGEST if tensor.dim() == 4 else OBLONG * short):
            return _png(planes.float())
    return ""


def _png(planes: Tensor) -> str:
    from PIL import Image  # not when a process starts: few ever draw

    low, high = planes.min(), planes.max()
    grey = (255 * (planes - low) / torch.clamp(high - low, min=1e-12)).round().to(torch.uint8).movedim(0, -1)
    image = Image.fromarray(grey.squeeze(-1).contiguous().numpy())
    image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    written = io.BytesIO()
    image.save(written, "PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode("ascii")
