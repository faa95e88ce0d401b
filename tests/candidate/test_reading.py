"""What a read task tells of its labels."""

import pytest
import torch
from torch import nn

from autocompress.candidate.reading import commonest_class
from autocompress.data import read_data
from autocompress.task import Task

LABELS = torch.tensor([0, 1, 2, 2] * 10)


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.int64, torch.bool])
def test_the_commonest_class_is_told_of_labels_of_any_kind(dtype: torch.dtype | None) -> None:
    """Half of the examples are of one class of three, whether labels are whole numbers or one-hot."""
    targets = LABELS if dtype is None else torch.eye(3)[LABELS].to(dtype)
    generator = torch.Generator().manual_seed(0)
    train, val = (torch.randn(len(LABELS), 4, generator=generator) for _ in range(2))
    task = Task("rows", nn.Linear(4, 3), (train, targets), (val, targets))
    data = read_data(task)
    assert commonest_class(task, data.splits["val"], data.layout) == 0.5
