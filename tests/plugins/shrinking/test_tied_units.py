"""Units that can only go together with others do; layers that nothing reads are no obstacle."""

import copy

import torch
from torch import Tensor, nn

from autocompress_plugins.shrinking.channel_graph import ChannelGraph
from autocompress_plugins.shrinking.removal import remove_units

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Ghost(nn.Module):
    """As GhostNet: half of the channels are made of the other half, and both are added to what the block is given."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.inner, self.primary = nn.Conv2d(8, 12, 1), nn.Conv2d(12, 4, 1)
        self.cheap = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        made = self.primary(torch.relu(self.inner(x)))
        x = x + torch.cat([made, self.cheap(made)], 1)
        return self.head(x.mean((2, 3)))


class Shuffled(nn.Module):
    """As ShuffleNet: channels change places between two blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(4, 12, 1)
        self.outer, self.head = nn.Conv2d(12, 4, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        left, right = torch.relu(self.stem(x)).chunk(2, 1)
        x = torch.cat([left, self.outer(torch.relu(self.inner(right)))], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(x.mean((2, 3)))


def test_units_that_a_concatenation_ties_go_together():
    model = Ghost().eval()
    whole, found = ChannelGraph().find_groups(model, X)  # each by itself was compared with zeroing
    assert {group.root: group.size for group in found.groups} == {"stem": 4, "inner": 12}
    smaller = remove_units(whole, X, {"stem": [1]})
    assert smaller.stem.out_channels == smaller.head.in_features == 6
    assert smaller.primary.out_channels == 3


class Gated(nn.Module):
    """As Phi-3: gates and values of an MLP by one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.both, self.down = nn.Linear(6, 8), nn.Linear(8, 2 * 12), nn.Linear(12, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate, up = self.both(x).chunk(2, -1)
        return self.head(x + self.down(torch.sigmoid(gate) * up))


def test_a_gate_goes_with_its_value():
    x = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
    model = Gated().eval()
    whole, found = ChannelGraph().find_groups(model, x)
    assert {group.root: group.size for group in found.groups} == {"stem": 8, "both": 12}
    smaller = remove_units(copy.deepcopy(whole), x, {"both": [0, 5]})
    with torch.no_grad():
        model.down.weight[:, [0, 5]] = 0
    torch.testing.assert_close(smaller(x), model(x))
    assert smaller.both.out_features == 20


def test_a_shuffle_costs_the_channels_that_it_moves_and_not_those_inside_of_blocks():
    _, found = ChannelGraph().find_groups(Shuffled().eval(), X)
    assert "inner" in [group.root for group in found.groups]


class Pooled(nn.Module):
    """As BERT: a pooler reads the hidden states, and nothing reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pooler, self.head = nn.Linear(3, 16), nn.Linear(16, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        torch.tanh(self.pooler(x))
        return self.head(x)


def test_a_layer_that_no_output_depends_on_loses_the_channels_that_it_reads():
    x = torch.randn(2, 3)
    whole, found = ChannelGraph().find_groups(Pooled().eval(), x)
    (group,) = found.groups
    assert group.root == "stem"
    smaller = remove_units(whole, x, {"stem": [0, 5]})
    assert smaller.get_parameter("pooler.weight").shape == (16, 14)
    assert smaller(x).shape == (2, 5)
