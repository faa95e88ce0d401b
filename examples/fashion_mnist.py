"""Fashion-MNIST (70,000 photographs of clothes, 28x28, ten classes) as tensors, read from its four idx.gz files."""

import gzip
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = "/usr/share/datasets/fashion-mnist"  # where Debian's dataset-fashion-mnist puts them
MEAN, STD = 0.2860, 0.3530  # of the training pixels, which run from 0 to 1
TRAIN = 55_000  # the last 5,000 of the 60,000 training images are for validation

Split = tuple[Tensor, Tensor]


def splits() -> dict[str, Split]:
    """{"train", "val", "test"} -> images (N, 1, 28, 28) float32, standardised, and labels (N,) int64 in 0..9."""
    (x, y), test = _read("train"), _read("t10k")
    return {"train": (x[:TRAIN], y[:TRAIN]), "val": (x[TRAIN:], y[TRAIN:]), "test": test}


def flip(x: Tensor) -> Tensor:
    """Mirror each image (N, C, H, W) left to right with probability one half."""
    return torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)


def _read(prefix: str) -> Split:
    images = _idx(f"{prefix}-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
    labels = _idx(f"{prefix}-labels-idx1-ubyte.gz", 8)
    return torch.from_numpy((images.astype(np.float32) / 255 - MEAN) / STD), torch.from_numpy(labels.astype(np.int64))


def _idx(name: str, header: int) -> np.ndarray:
    """The bytes of an idx file after its header."""
    path = Path(os.environ.get("FASHION_MNIST") or FOLDER) / name
    if not path.is_file():
        raise FileNotFoundError(
            f"no {path}: `apt-get install dataset-fashion-mnist`, or set FASHION_MNIST to the folder that holds it"
        )
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)
