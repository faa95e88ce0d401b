"""What a model returns, by name: examples first, and while it trains too, when it may be more or other."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from autocompress.data import Batch, OutputLayout, output_layout
from autocompress.task import Task


class Returned(NamedTuple):
    logits: Tensor
    aux: Tensor


class StepsFirst(nn.Module):
    """(N, 5) -> steps (7, N, 3), as torch's CTC loss wants them; while training with an auxiliary output."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 21)

    def forward(self, x: Tensor) -> Tensor | Returned:
        steps = self.layer(x).view(len(x), 7, 3).transpose(0, 1)
        return Returned(steps, x) if self.training else steps


def layout_of(model: nn.Module) -> OutputLayout:
    pair = torch.randn(4, 5), torch.zeros(4)
    return output_layout(Task("steps", model, pair, pair), model.eval(), Batch(*pair))


def test_heads_and_rows_of_one_model_are_alike_wherever_its_examples_are() -> None:
    model, x = StepsFirst(), torch.randn(4, 5)
    layout = layout_of(model)
    with torch.no_grad():
        rows, heads = layout.rows_of(model.eval()(x)), layout.heads(model.train()(x))
    assert layout.axes == {"output": 1}
    assert rows.keys() == heads.keys() == {"output"}
    assert heads["output"].shape == (4, 7, 3)
    assert torch.equal(heads["output"], rows["output"])


def test_what_stands_for_the_rest_is_there_when_training_mode_names_it_otherwise() -> None:
    layout = layout_of(StepsFirst())
    aux, logits = torch.zeros(4, 2), torch.ones(7, 4, 3)
    assert torch.equal(layout.heads({"aux": aux, "logits": logits})["output"], torch.ones(4, 7, 3))
