"""Which layers a strategy changes."""

import copy

import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.reach import changed_layers
from autocompress_plugins.shrinking.prunable import prunable
from autocompress_plugins.shrinking.removal import remove_units

X = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0))


class Several(nn.Module):
    """(N, T, 8) -> (N, 3): layers that are exchanged for others before any of them can lose units."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 8)
        self.rnn, self.cell = nn.LSTM(8, 8, num_layers=2, batch_first=True), nn.GRUCell(8, 8)
        self.attend, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.rnn(self.second(torch.relu(self.first(x))))[0]
        y, state = y + self.attend(y, y, y, need_weights=False)[0], None
        for step in y.unbind(1):
            state = self.cell(step, state)
        return self.head(state)


@pytest.mark.parametrize(
    ("root", "changed"),
    [
        ("first", {"first", "second"}),
        ("rnn.layers.0", {"rnn"}),
        ("attend", {"attend", "attend.out_proj"}),
        ("cell", {"cell", "head"}),
    ],
)
def test_layers_have_changed_where_they_have_other_weights_and_not_where_they_have_another_form(
    root: str, changed: set[str]
) -> None:
    model = Several().eval()
    built = copy.deepcopy(model)
    assert prunable(built, X) == {}
    assert changed_layers(model, built) == ()
    remove_units(built, X, {root: [0]})
    assert set(changed_layers(model, built)) == changed


def test_a_layer_that_is_gone_has_changed() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    assert changed_layers(model, nn.Sequential(nn.Linear(4, 4))) == ("1",)
