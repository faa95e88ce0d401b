"""Which layers of a smaller model stand for which of the model before, with the channels that they still have."""

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from torch import nn

from autocompress.data import is_within, run_in_training_alone
from autocompress.plain_model import evaluating
from autocompress.plugin.contract import Context, Counterpart, Counterparts
from autocompress_plugins.layer_kinds import BATCH_NORMS, CONVOLUTIONS
from autocompress_plugins.shrinking.block_removal import without
from autocompress_plugins.shrinking.channel_graph import every_group
from autocompress_plugins.shrinking.groups import Group, remaining
from autocompress_plugins.shrinking.prunable import prunable
from autocompress_plugins.shrinking.recurrent_layers import RecurrentLayer, RecurrentStack


@dataclass(frozen=True)
class _Gone:
    """Channels that a module loses, by its name."""

    outputs: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    inputs: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    @classmethod
    def of(cls, groups: Sequence[Group], removals: Mapping[str, Sequence[int]]) -> "_Gone":
        """removals: root of a group -> its units that go."""
        gone = cls()
        sides = {"out": gone.outputs, "in": gone.inputs}
        for group in groups:
            units = set(removals.get(group.root, ()))
            for member in group.members:
                indices = (i for i, unit in zip(member.indices, member.units, strict=True) if unit in units)
                sides[member.side][member.module].update(indices)
        return gone


def narrowed_counterparts(model: nn.Module, removals: Mapping[str, Sequence[int]], context: Context) -> Counterparts:
    """After units were removed, by the root of their group: of every layer with channels but those that run in training
    mode alone, of which nothing can be refitted.
    """
    whole = _prunable(model, context)
    groups = every_group(whole, context.example_inputs)  # what is known to be wrong by now may have been planned before
    alone = run_in_training_alone(whole, context.example_inputs)
    layers = _layers(whole, _Gone.of(groups, removals))
    return Counterparts(whole, tuple(own for own in layers if not is_within(own.layer, alone)))


def smaller_counterparts(
    model: nn.Module, dropped: Sequence[str], removals: Mapping[str, Sequence[int]], context: Context
) -> Counterparts:
    """After blocks were taken out, and then units of what was left removed."""
    narrowed = narrowed_counterparts(without(copy.deepcopy(model), dropped), removals, context)
    whole = _prunable(model, context)
    before = {own.layer: own.original for own in shortened_counterparts(whole, dropped).layers}
    return Counterparts(
        whole, tuple(replace(own, original=before[own.layer]) for own in narrowed.layers if own.layer in before)
    )


def shortened_counterparts(model: nn.Module, dropped: Sequence[str]) -> Counterparts:
    """After whole blocks and recurrent layers were taken out: what is left is as it was."""
    whole = evaluating(copy.deepcopy(model))
    paths = [name for name in dropped if ":" not in name]
    layers: dict[str, set[int]] = defaultdict(set)
    for name in dropped:
        path, _, number = name.partition(":")
        if number:
            layers[path].add(int(number))

    def left() -> Iterator[Counterpart]:
        for own in _layers(whole, _Gone()):
            if any(own.layer == path or own.layer.startswith(f"{path}.") for path in paths):
                continue
            renamed = _renamed(whole, own.layer, layers)
            if renamed is not None:
                yield Counterpart(renamed, own.original, own.outputs, own.inputs)

    return Counterparts(whole, tuple(left()))


def factored_counterparts(model: nn.Module, factored: Sequence[str]) -> Counterparts:
    """After some layers became two thin ones: the second gives what the one gave."""
    whole = evaluating(copy.deepcopy(model))
    return Counterparts(
        whole,
        tuple(
            Counterpart(f"{own.layer}.1", own.original, own.outputs) if own.layer in factored else own
            for own in _layers(whole, _Gone())
        ),
    )


def _prunable(model: nn.Module, context: Context) -> nn.Module:
    whole = evaluating(copy.deepcopy(model))
    prunable(whole, context.example_inputs)
    return whole


def _renamed(whole: nn.Module, name: str, dropped: Mapping[str, Set[int]]) -> str | None:
    """What a layer is called once recurrent layers were dropped; None for one that is dropped itself."""
    for path, numbers in dropped.items():
        if not name.startswith(f"{path}."):
            continue
        if not isinstance(whole.get_submodule(path), RecurrentStack):
            return None
        number, rest = name[len(path) + len(".layers.") :].split(".", 1)
        if int(number) in numbers:
            return None
        before = sum(gone < int(number) for gone in numbers)
        return f"{path}.layers.{int(number) - before}.{rest}"
    return name


def _layers(whole: nn.Module, gone: _Gone) -> Iterator[Counterpart]:
    """Of every layer of the original with channels what it still has of them."""
    for name, module in whole.named_modules():
        if (widths := _widths(module)) is not None:
            own = f"{name}.core" if isinstance(module, RecurrentLayer) else name
            outputs = _kept(widths[0], gone.outputs[name] | (gone.inputs[name] if widths[1] is None else set()))
            inputs_lost = gone.outputs[name] if _is_depthwise(module) else gone.inputs[name]
            kept = None if widths[1] is None else _kept(widths[1], inputs_lost)
            yield Counterpart(own, own, outputs, kept)


def _widths(module: nn.Module) -> tuple[int, int | None] | None:
    """Outputs and inputs of a layer with weights; no inputs of one that mixes none. None for what has no channels."""
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    if isinstance(module, (*CONVOLUTIONS, RecurrentLayer)):
        return module.out_channels, module.in_channels
    if isinstance(module, nn.Embedding):
        return module.embedding_dim, None
    if isinstance(module, BATCH_NORMS):
        return module.num_features, None
    if isinstance(module, nn.GroupNorm):
        return module.num_channels, None
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        return int(module.normalized_shape[-1]), None
    return None


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, CONVOLUTIONS) and module.groups == module.out_channels == module.in_channels > 1


def _kept(width: int, gone: Set[int]) -> tuple[int, ...]:
    return tuple(remaining(width, gone))
