"""The layout of what a test's model returns, as opening a task finds it."""

from typing import Any

import torch
from torch import nn

from autocompress.data import Batch, OutputLayout, output_layout
from autocompress.nested import tensors_of
from autocompress.task import Task


def layout_of(model: nn.Module, inputs: Any) -> OutputLayout:
    """inputs: of one example or more, examples first."""
    count = len(tensors_of(inputs)[0])
    return output_layout(Task("layout", model, (), ()), model.eval(), Batch(inputs, torch.zeros(count)))
