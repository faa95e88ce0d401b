"""Which layers stay in float in an int8 file, and why."""

import pytest
import torch
from torch import nn

from autocompress.task import Task
from autocompress_plugins.quantization.left_in_float import (
    WITHOUT_DYNAMIC_FORM,
    WITHOUT_STATIC_FORM,
    Reasons,
    left_in_float,
)


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gru, self.lstm = nn.Conv1d(2, 4, 3), nn.GRU(4, 4), nn.LSTM(4, 4)
        self.norm, self.head, self.other = nn.LayerNorm(4), nn.Linear(4, 2), nn.Linear(4, 2)


@pytest.mark.parametrize(
    ("without_form", "layers"), [(WITHOUT_DYNAMIC_FORM, {"conv", "gru"}), (WITHOUT_STATIC_FORM, {"gru", "lstm"})]
)
def test_layers_without_an_int8_form_are_told_with_those_that_the_task_keeps(
    without_form: Reasons, layers: set[str]
) -> None:
    data = torch.zeros(2, 2), torch.zeros(2)
    found = left_in_float(Task("it", Several(), data, data, keep=("head",)).copy_of_model(), without_form)
    assert found.keys() == {*layers, "head"}
    assert found["head"] == "Task.keep names it"
    assert "kernel for a GRU" in found["gru"] or "static int8 form" in found["gru"]
