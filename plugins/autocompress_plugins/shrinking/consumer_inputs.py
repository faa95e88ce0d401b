"""What the layers that read a group's units are given: second moments over training examples, in the model as it is.

A convolution's are between channels, at single pixels, and the weights of each place of its kernel count as outputs of
their own: windows as columns chose no better, and take far longer. A linear layer behind a flattened image has its own
columns, unless they are too many; then it is seen as a convolution of that size.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from autocompress.errors import CandidateFailed
from autocompress.task import Inputs
from autocompress_plugins.layer_kinds import BATCH_NORMS, CONVOLUTIONS
from autocompress_plugins.model_runs import output, watched
from autocompress_plugins.shrinking.dependency_graph import by_channel
from autocompress_plugins.shrinking.groups import Group, Member
from autocompress_plugins.shrinking.input_moments import InputMoments, Rows, channels, features, pixels, states
from autocompress_plugins.shrinking.recurrent_layers import RecurrentLayer
from autocompress_plugins.shrinking.surgeon import ConsumerStatistics

MOST_COLUMNS = 1200  # of several a unit; their products and inverse take well under a second

Key = tuple[str, str, int]  # layer, side, part


@dataclass(frozen=True)
class Consumer:
    """A layer, or a part of it, that reads units. weight: (rows, columns). reads: what it multiplies with them.
    units: of each column; -1 where it is of none of the group.
    """

    key: Key
    weight: Tensor
    reads: Rows
    units: tuple[int, ...]
    bias: bool

    @property
    def layer(self) -> str:
        return self.key[0]


def consumers_of(model: nn.Module, group: Group) -> list[Consumer]:
    """What reads the group's units and can be refitted; depthwise convolutions and norms cannot."""
    found: dict[Key, Consumer] = {}
    for member in group.members:
        for consumer in _of_member(model, member):
            before = found.get(consumer.key)
            units = consumer.units if before is None else tuple(map(max, before.units, consumer.units))
            found[consumer.key] = Consumer(consumer.key, consumer.weight, consumer.reads, units, consumer.bias)
    return [consumer for consumer in found.values() if max(consumer.units) >= 0]


def consumer_statistics(
    model: nn.Module, groups: Sequence[Group], batches: Iterable[Inputs]
) -> dict[str, list[ConsumerStatistics]]:
    """Root of a group -> what the layers that read it are given. Raises CandidateFailed where that is no number."""
    consumers = {group.root: consumers_of(model, group) for group in groups}
    distinct = {consumer.key: consumer for own in consumers.values() for consumer in own}
    moments = _moments(model, list(distinct.values()), batches)
    grams: dict[Key, Tensor] = {}
    for key, found in moments.items():
        if found.count:
            _check(f"the weight of {key[0]}", distinct[key].weight)
            grams[key] = found.gram()
            _check(f"what {key[0]} is given", grams[key])
    return {
        root: [ConsumerStatistics(grams[c.key], c.weight, c.units) for c in own if c.key in grams]
        for root, own in consumers.items()
    }


def _check(what: str, values: Tensor) -> None:
    if not bool(values.isfinite().all()):
        raise CandidateFailed(f"importance by surgeon: {what} is not finite")


def _moments(model: nn.Module, consumers: Sequence[Consumer], batches: Iterable[Inputs]) -> dict[Key, InputMoments]:
    by_layer: dict[str, list[Consumer]] = {}
    for consumer in consumers:
        by_layer.setdefault(consumer.layer, []).append(consumer)
    found = {consumer.key: InputMoments(consumer.weight.shape[1], consumer.bias) for consumer in consumers}
    latest: list[tuple[str, Any, float]] = []

    def see(name: str, module: nn.Module, given: tuple[Any, ...], gave: Any) -> None:
        if isinstance(module, BATCH_NORMS):
            for layer, tensor, total in latest:
                if tensor is given[0] and float(tensor.sum()) == total:  # no activation changed it in place
                    for consumer in by_layer[layer]:
                        found[consumer.key].centred = True
            return
        latest[:] = [(name, gave, float(gave.sum()))] if isinstance(gave, Tensor) else []
        for consumer in by_layer[name]:
            moments = found[consumer.key]
            moments.add(consumer.reads(given, gave, moments.pick))

    norms = [(name, module) for name, module in model.named_modules() if isinstance(module, BATCH_NORMS)]
    with watched([*((name, model.get_submodule(name)) for name in by_layer), *norms], see):
        for inputs in batches:
            output(model, inputs)
            latest.clear()
    return found


def _of_member(model: nn.Module, member: Member) -> Iterator[Consumer]:
    module, name, side = model.get_submodule(member.module), member.module, member.side
    if isinstance(module, RecurrentLayer):
        yield from _recurrent(module, member)
    elif isinstance(module, nn.Linear) and side == "in":
        yield _linear(name, module, member.indices, member.units)
    elif isinstance(module, CONVOLUTIONS) and side == "in" and module.groups < module.in_channels:
        yield from _convolution(module, member)


def _convolution(module: Any, member: Member) -> Iterator[Consumer]:
    """Each of its groups reads its own channels."""
    units = _spread(member.indices, member.units, module.in_channels)
    run, bias = module.in_channels // module.groups, module.bias is not None
    for part, weight in enumerate(by_channel(module, module.weight.detach(), "in")):
        own = slice(part * run, (part + 1) * run)
        yield Consumer((member.module, "in", part), weight.flatten(1).T, channels(own), units[own], bias)


def _linear(name: str, layer: nn.Linear, columns: Sequence[int], units: Sequence[int]) -> Consumer:
    width, weight, bias = layer.in_features, layer.weight.detach(), layer.bias is not None
    own = _spread(columns, units, width)
    places = width // max(len(set(own)), 1)
    if width > MOST_COLUMNS and places > 1 and own == tuple(column // places for column in range(width)):
        places_apart = weight.reshape(len(weight), -1, places).transpose(1, 2).flatten(0, 1)
        return Consumer((name, "in", places), places_apart, pixels(places), tuple(range(width // places)), bias)
    return Consumer((name, "in", 0), weight, features, own, bias)


def _recurrent(module: RecurrentLayer, member: Member) -> Iterator[Consumer]:
    """Its input weights, or the recurrent ones of each direction, which read what the layer gives a step later."""
    name, bias, size = member.module, bool(module.core.bias), int(module.core.hidden_size)
    matrices = [module.matrices(direction) for direction in range(module.directions)]
    if member.side == "in":
        weight = torch.cat([inputs.detach().flatten(0, 1) for inputs, _ in matrices])
        units = _spread(member.indices, member.units, module.in_channels)
        yield Consumer((name, "in", 0), weight, features, units, bias)
        return
    units = _spread(member.indices, member.units, module.out_channels)
    for direction, (_, recurrent) in enumerate(matrices):
        own = slice(direction * size, (direction + 1) * size)
        yield Consumer((name, "out", direction), recurrent.detach().flatten(0, 1), states(own), units[own], bias)


def _spread(columns: Sequence[int], units: Sequence[int], width: int) -> tuple[int, ...]:
    """The unit of each of ``width`` columns."""
    of = dict(zip(columns, units, strict=True))
    return tuple(of.get(column, -1) for column in range(width))
