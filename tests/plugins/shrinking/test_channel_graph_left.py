"""What can be no group is left with a reason, and what lies beside it can shrink."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autocompress.errors import CandidateFailed
from autocompress.task import Inputs
from autocompress_plugins.model_runs import output
from autocompress_plugins.shrinking.channel_graph import ChannelGraph
from autocompress_plugins.shrinking.groups import CHANNELS, HEADS, MLP, FoundGroups
from autocompress_plugins.shrinking.removal import remove_units

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
SEQUENCES = torch.randn(2, 9, 6, generator=torch.Generator().manual_seed(1))
VECTORS = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))


def groups_of(model: nn.Module, inputs: Inputs) -> FoundGroups:
    return ChannelGraph().find_groups(model, inputs)[1]


def found(groups: FoundGroups) -> dict[str, tuple[str, int]]:
    return {group.root: (group.kind, group.size) for group in groups.groups}


def left(groups: FoundGroups) -> dict[str, str]:
    return {part.module: part.reason for part in groups.left}


class PaddedShortcut(nn.Module):
    """The channels of the shortcut lie in the middle of those that it is added to."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3, padding=1), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        return self.head((self.second(x) + F.pad(x, (0, 0, 0, 0, 4, 4))).relu().mean((2, 3)))


class Shuffled(nn.Module):
    """A channel shuffle, and a layer on either side of it that does not see it."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.shuffled, self.after = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3), nn.Conv2d(16, 8, 3)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shuffled(self.before(x).relu())
        x = x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
        return self.head(self.after(x).relu().mean((2, 3)))


class Overlapping(nn.Module):
    """Channels 0, 2 and 4 go together, and 6 by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.head = nn.Conv2d(3, 8, 3), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.wide(x)
        return self.head(torch.cat([x[:, :4] + x[:, 2:6], x[:, 6:]], 1).mean((2, 3)))


class Softmax(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(8, 16), nn.Softmax(-1), nn.Linear(16, 4))


class Subpixel(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 16, 3), nn.PixelShuffle(2), nn.Conv2d(4, 2, 3))


class Scaled(nn.Module):
    """A buffer as wide as the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)
        self.register_buffer("scale", torch.rand(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.conv(x) * self.scale).relu().mean((2, 3)))


class NormOfBoth(nn.Module):
    """A group of this norm holds channels of one layer only, and all groups have to stay equally large."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.norm = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(torch.cat([self.one(x), self.two(x)], 1)).relu().mean((2, 3)))


class TiedLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.one, self.two, self.head = (nn.Linear(8, n) for n in (8, 8, 8, 4))
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.one(self.first(x).relu()).relu()).relu())


class Own(nn.LSTM):
    pass


class OwnLstm(nn.Module):
    def __init__(self, kind: Callable[..., nn.Module], **options: Any) -> None:
        super().__init__()
        self.first, self.rnn = nn.Linear(6, 8), kind(8, 10, batch_first=True, **options)
        self.hidden, self.head = nn.LazyLinear(12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(self.rnn(self.first(x))[0].mean(1)).relu())


class KeptStates(nn.Module):
    """Its own loop puts the states into a tensor of a size that is written."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.cell, self.head = nn.Linear(6, 8), nn.GRUCell(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x, states = self.first(x), x.new_zeros(len(x), 8, x.shape[1])
        for step in range(x.shape[1]):
            states[..., step] = self.cell(x[:, step], states[..., step - 1])
        return self.head(states.mean(-1))


ANOTHER, BREAKS = "removing units gives another function", "removing units breaks the model"
LEFT: dict[str, tuple[Callable[[], nn.Module], Inputs, dict[str, str]]] = {
    "padded shortcut": (PaddedShortcut, IMAGES, {"first": ANOTHER}),
    "shuffle": (Shuffled, IMAGES, {"shuffled": "a reshape moves its channels to other places"}),
    "overlapping": (Overlapping, IMAGES, {"wide": "some of its units can only go together with others"}),
    "softmax over channels": (Softmax, VECTORS, {"0": ANOTHER}),
    "subpixel": (Subpixel, IMAGES, {"0": BREAKS}),
    "buffer": (Scaled, IMAGES, {"conv": BREAKS}),
    "norm of two layers": (NormOfBoth, IMAGES, {"one": ANOTHER, "two": ANOTHER}),
    "norm of each channel": (
        lambda: nn.Sequential(nn.Conv2d(3, 16, 3), nn.GroupNorm(16, 16), nn.Conv2d(16, 8, 3)),
        IMAGES,
        {"0": "its 16 units lie in 16 runs that cannot lose equally many"},
    ),
    "tied layers": (TiedLayers, VECTORS, {"one": "one.weight and two.weight are one weight"}),
    "weight norm": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 4)),
        VECTORS,
        {"0": BREAKS},
    ),
    "own lstm": (lambda: OwnLstm(Own), SEQUENCES, {"rnn": "Own may do more"}),
    "cell in a loop": (KeptStates, SEQUENCES, {"cell": BREAKS}),
    "one unit": (lambda: nn.Sequential(nn.Linear(8, 1), nn.Linear(1, 4)), VECTORS, {"0": "it has one unit only"}),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", LEFT)
def test_left_with_a_reason(name: str):
    make, inputs, expected = LEFT[name]
    model = make().eval()
    output(model, inputs)
    groups = groups_of(model, inputs)
    reasons = left(groups)
    for module, reason in expected.items():
        assert reasons[module].startswith(reason)
        assert not any(root.startswith(module) for root in found(groups))


def test_what_lies_beside_a_group_that_is_left_can_shrink():
    assert found(groups_of(Shuffled(), IMAGES)) == {"before": (CHANNELS, 8), "after": (CHANNELS, 8)}


class GivenState(nn.Module):
    """An encoder's last state starts the decoder."""

    def __init__(self, named: bool = False) -> None:
        super().__init__()
        self.first, self.rnn, self.named = nn.Linear(6, 8), nn.LSTM(8, 10, batch_first=True), named
        self.hidden, self.head = nn.Linear(10, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        h = x.new_zeros(1, len(x), self.rnn.hidden_size if self.named else 10)
        y = self.rnn(x, hx=(h, h))[0] if self.named else self.rnn(x, (h, h))[0]
        return self.head(self.hidden(y.mean(1)).relu())


@pytest.mark.parametrize("named", [False, True])
def test_a_recurrent_layer_given_its_state_is_a_barrier(named: bool):
    model = GivenState(named).eval()
    prunable, groups = ChannelGraph().find_groups(model, SEQUENCES)
    assert found(groups) == {"hidden": (CHANNELS, 12)}
    reasons = left(groups)
    assert ("no attribute 'hidden_size'" if named else "initial state") in reasons["rnn"]
    assert reasons["first"] == "a recurrent layer that is left as it is fixes them"
    smaller = remove_units(prunable, SEQUENCES, {"hidden": [0, 5]})
    with torch.no_grad():
        model.head.weight[:, [0, 5]] = 0
    torch.testing.assert_close(output(smaller, SEQUENCES), output(model, SEQUENCES), atol=1e-5, rtol=1e-4)


class SharedLayers(nn.Module):
    """One encoder layer, three times in a list."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 30, batch_first=True)
        self.layers, self.head = nn.ModuleList([layer] * 3), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


def test_a_layer_held_several_times_stays_one():
    x = torch.randn(2, 5, 16)
    smaller, groups = ChannelGraph().find_groups(SharedLayers(), x)
    assert found(groups) == {"layers.0.self_attn": (HEADS, 4), "layers.0.linear1": (MLP, 30)}
    remove_units(smaller, x, {"layers.0.self_attn": [0], "layers.0.linear1": [3]})
    assert smaller.layers[0] is smaller.layers[1] is smaller.layers[2]
    assert smaller.layers[2].self_attn.num_heads == 3


def test_units_that_are_the_output_are_left():
    groups = groups_of(nn.Sequential(nn.Linear(8, 4)), VECTORS)
    assert not groups.groups
    assert left(groups) == {"0": "its units are the model's output"}


class Stubborn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(8, 8), nn.Linear(8, 4)

    def __deepcopy__(self, memo: Any) -> nn.Module:
        raise TypeError("not to be copied")

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x))


def test_a_model_that_cannot_be_seen_fails_with_the_cause():
    with pytest.raises(CandidateFailed, match="not to be copied"):
        groups_of(Stubborn(), VECTORS)


class WithoutGradients(nn.Module):
    """A backbone that computes without gradients, under a head that is trained."""

    def __init__(self, how: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> None:
        super().__init__()
        self.backbone, self.head = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), nn.Linear(8, 16)
        self.out, self.how = nn.Linear(16, 4), how

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.head(self.how(self.backbone, x).mean((2, 3))).relu())


def under(context: Callable[[], Any]) -> Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]:
    def computed(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with context():
            return layer(x)

    return computed


HOW = {
    "no_grad": under(torch.no_grad),
    "set_grad_enabled": under(lambda: torch.set_grad_enabled(False)),
    "decorated": lambda layer, x: torch.no_grad()(layer)(x),
    "detach": lambda layer, x: layer(x).detach(),
}


@pytest.mark.parametrize("how", HOW)
def test_what_computes_without_gradients_can_shrink(how: str):
    assert found(groups_of(WithoutGradients(HOW[how]), IMAGES)) == {"backbone.0": (CHANNELS, 8), "head": (CHANNELS, 16)}
    assert torch.is_grad_enabled()


def test_what_computes_in_inference_mode_is_left_with_the_reason():
    def computed(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with torch.inference_mode():
            y = layer(x)
        return y.clone()

    groups = groups_of(WithoutGradients(computed), IMAGES)
    assert list(found(groups)) == ["head"]
    assert "no gradient of the outputs reaches it (inference_mode in forward)" in left(groups)["backbone.0"]
