"""A group that is not what it says is seen, under norms too; the model that is asked stays as it was."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from autocompress_plugins.shrinking.channel_graph import ChannelGraph
from autocompress_plugins.shrinking.group_check import half, why_wrong
from autocompress_plugins.shrinking.groups import Group, Member


class Net(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.first, self.norm, self.head = nn.Linear(6, 12), norm, nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.first(x)).relu())


X = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))


class ByHand(nn.Module):
    """A norm in the model's own code, as T5 (not centred) and ConvNeXt have it, or by standard deviations."""

    def __init__(self, centred: bool, deviations: bool = False) -> None:
        super().__init__()
        self.centred, self.deviations, self.weight = centred, deviations, nn.Parameter(torch.rand(12))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(-1, keepdim=True)
        if self.deviations:
            return self.weight * ((x - mean) / (x.std(-1, keepdim=True) + 1e-6))
        if self.centred:
            x = x - mean
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Mean(nn.Module):
    """Beside what goes through, the mean of all channels: no norm."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.mean(-1, keepdim=True)


NORMS = {
    "none": nn.Identity,
    "layer": lambda: nn.LayerNorm(12),
    "rms": lambda: nn.RMSNorm(12),
    "group": lambda: nn.GroupNorm(3, 12),
    "rms by hand": lambda: ByHand(centred=False),
    "layer by hand": lambda: ByHand(centred=True),
    "deviations by hand": lambda: ByHand(centred=True, deviations=True),
}


def shifted(group: Group) -> Group:
    """The same group, said to be read one channel further on."""
    members = [
        replace(m, indices=tuple((i + 1) % 12 for i in m.indices)) if m.module == "head" else m for m in group.members
    ]
    return replace(group, members=tuple(members))


@pytest.mark.parametrize("norm", NORMS)
def test_a_wrong_group_is_seen(norm: str):
    model, found = ChannelGraph().find_groups(Net(NORMS[norm]()), X)
    (group,) = found.groups
    before = copy.deepcopy(model.state_dict())
    assert why_wrong(model, X, {group: half(group)}) is None
    assert why_wrong(model, X, {shifted(group): half(group)}) is not None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_mean_that_is_not_of_a_norm_keeps_its_channels():
    _, found = ChannelGraph().find_groups(Net(Mean()), X)
    assert found.reasons["first"] == "removing units gives another function than zeroing what reads them"


class Spread(nn.Module):
    """Beside what goes through, how far the channels spread, as a value of its own: no norm."""

    def __init__(self, spread: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.spread = spread

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.spread(x))


@pytest.mark.parametrize(
    "spread", [lambda x: x.var(-1, keepdim=True), lambda x: x.std(-1, keepdim=True), lambda x: (x * x).mean(-1, True)]
)
def test_a_spread_that_divides_nothing_keeps_its_channels(spread: Callable[[Tensor], Tensor]):
    _, found = ChannelGraph().find_groups(Net(Spread(spread)), X)
    assert found.reasons["first"] == "removing units gives another function than zeroing what reads them"


def test_unequal_removal_under_a_group_norm_is_seen():
    """It would move channels to other groups, though the network runs."""
    model, found = ChannelGraph().find_groups(Net(nn.GroupNorm(3, 12)), X)
    (group,) = found.groups
    assert why_wrong(model, X, {group: [0, 4, 8]}) is None
    assert why_wrong(model, X, {group: [0, 1, 2]}) is not None


def test_half_of_the_units_without_a_pattern():
    units = half(Group("a", "channels", 40, (Member("a", "out", (), ()),), blocks=2))
    assert [sum(unit // 20 == block for unit in units) for block in range(2)] == [10, 10]
    assert [u for u in units if u < 20] != [u - 20 for u in units if u >= 20]
    assert len(set(torch.tensor(units).diff().tolist())) > 1


class Slopes(nn.Module):
    """As Bloom: slopes of positions are powers, by a tensor of exponents."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        slopes = torch.pow(torch.full((3,), 0.5), torch.arange(3.0))
        return self.down(self.up(x).relu()) * slopes


def test_powers_by_a_tensor_are_no_squares():
    _, found = ChannelGraph().find_groups(Slopes().eval(), torch.randn(2, 8))
    assert [group.root for group in found.groups] == ["up"]
