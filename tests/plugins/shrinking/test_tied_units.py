"""Units that can only go together with others are left, and said to be; layers that nothing reads are no obstacle."""

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


def test_units_that_a_concatenation_ties_are_left_with_that_reason():
    _, found = ChannelGraph().find_groups(Ghost().eval(), X)
    assert [group.root for group in found.groups] == ["inner"]
    assert "can only go together with others" in found.reasons["stem"]


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
