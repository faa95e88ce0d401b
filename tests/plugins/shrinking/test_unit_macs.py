"""Multiply-accumulates that fall with a group, worked out by hand."""

import torch
from torch import Tensor, nn

from autocompress_plugins.shrinking.channel_graph import ChannelGraph

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
SEQUENCES = torch.randn(2, 9, 6, generator=torch.Generator().manual_seed(1))


def macs(model: nn.Module, inputs: Tensor) -> dict[str, float]:
    return {group.root: group.macs for group in ChannelGraph().find_groups(model, inputs)[1].groups}


class SideBySide(nn.Module):
    """One layer reads what another made at half the size, and what was there before."""

    def __init__(self) -> None:
        super().__init__()
        self.full, self.halved = nn.Conv2d(3, 10, 3, padding=1), nn.Conv2d(10, 16, 3, stride=2, padding=1)
        self.doubled, self.out = nn.ConvTranspose2d(16, 5, 2, 2), nn.Conv2d(15, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        kept = self.full(x).relu()
        return self.out(torch.cat([self.doubled(self.halved(kept).relu()), kept], 1))


def test_pixels_and_channels_count_where_the_group_is_read():
    assert macs(SideBySide(), IMAGES) == {
        "full": 256 * 3 * 10 * 9 + 64 * 10 * 16 * 9 + 256 * (10 * 2 * 9),  # of ``out``, only what reads it
        "halved": 64 * 10 * 16 * 9 + 256 * 16 * 5 * 4,
        "doubled": 256 * 16 * 5 * 4 + 256 * (5 * 2 * 9),
    }


class Steps(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(6, 10, 2, batch_first=batch_first, bidirectional=True), nn.Linear(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        first = self.rnn.batch_first
        return self.head(self.rnn(x if first else x.transpose(0, 1))[0].amax(1 if first else 0))


def test_steps_of_a_sequence_count_whichever_dimension_they_are():
    first, other = (macs(Steps(batch_first), SEQUENCES) for batch_first in (True, False))
    assert first == other
    assert first["rnn.layers.1"] == 9 * 2 * 3 * 10 * (20 + 10) + 20 * 4
