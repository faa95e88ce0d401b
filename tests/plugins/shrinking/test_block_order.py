"""The least harmful blocks go first, by the loss without them, which is measured once for a task."""

from collections.abc import Callable, Collection
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from autocompress.plugin.contract import Context
from autocompress.task import Inputs
from autocompress_plugins.distillation.student import Student
from autocompress_plugins.pruning.drop_blocks import DropBlocks
from autocompress_plugins.shrinking.block_order import least_harmful, losses_without
from autocompress_plugins.shrinking.training_loss import LOSS_EXAMPLES

MakeContext = Callable[[nn.Module, Inputs], Context]


class Shift(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.line = nn.Linear(6, 6)
        nn.init.zeros_(self.line.weight)
        nn.init.zeros_(self.line.bias)
        with torch.no_grad():
            self.line.bias[0] = by

    def forward(self, x: Tensor) -> Tensor:
        return x + self.line(x)


@pytest.fixture
def shifts(teaching_itself: MakeContext) -> Context:
    """Of the last two blocks, the one that is needed more makes up for the first one's absence when it goes."""
    blocks = nn.Sequential(Shift(1.0), Shift(2.0), Shift(-2.1))
    return teaching_itself(nn.Sequential(nn.Linear(5, 6), blocks, nn.Linear(6, 4)).eval(), torch.randn(64, 5))


def test_harm_is_measured_again_after_each_drop(shifts: Context):
    assert DropBlocks().plan(shifts.model, {"count": 2}, shifts)["drop"] == ["1.0", "1.2"]


def test_of_a_slow_model_harm_is_measured_once_on_fewer_examples(shifts: Context):
    sizes: list[int] = []
    shifts.model.register_forward_hook(lambda model, inputs, output: sizes.append(len(output)))
    least_harmful(shifts.model, 2, shifts)
    assert max(sizes) == 64
    sizes.clear()
    slow = replace(shifts, memory={})
    assert least_harmful(slow.model, 2, slow, within_s=0.0) == ["1.0", "1.1"], "least harmful alone"
    assert max(sizes) == LOSS_EXAMPLES[-1]


def test_harm_is_measured_once_for_all_strategies_that_drop_blocks(shifts: Context, monkeypatch: pytest.MonkeyPatch):
    measured: list[int] = []

    def counted(context: Context, examples: int) -> Callable[[Collection[str]], float]:
        measured.append(examples)
        return losses_without(context, examples)

    monkeypatch.setattr("autocompress_plugins.shrinking.block_order.losses_without", counted)
    dropped = DropBlocks().plan(shifts.model, {"count": 1}, shifts)["drop"]
    assert len(measured) == 1
    student = Student().plan(shifts.model, {"width": 0.5, "dropped": 1, "weights": "inherited"}, shifts)
    assert student["drop"] == dropped
    assert len(measured) == 1
