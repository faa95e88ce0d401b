"""Whether what a structural step declares fits the model that it made."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Counterpart, Counterparts

EVERY_CONVOLUTION = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
NORMS_OF_CHANNELS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)


@dataclass(frozen=True)
class ChannelCounts:
    """Of a layer. inputs: None where a layer reads no channels. directions: parts of equal length that its outputs lie
    in, one after the other.
    """

    outputs: int
    inputs: int | None
    directions: int = 1

    @classmethod
    def of(cls, layer: nn.Module) -> "ChannelCounts | None":
        """None of a layer whose channels are not known."""
        if isinstance(layer, nn.Linear):
            return cls(layer.out_features, layer.in_features)
        if isinstance(layer, EVERY_CONVOLUTION):
            return cls(layer.out_channels, layer.in_channels)
        if isinstance(layer, nn.RNNBase):
            directions = 2 if layer.bidirectional else 1
            return cls(directions * (layer.proj_size or layer.hidden_size), layer.input_size, directions)
        if isinstance(layer, nn.RNNCellBase):
            return cls(layer.hidden_size, layer.input_size)
        if isinstance(layer, nn.Embedding):
            return cls(layer.embedding_dim, None)
        if isinstance(layer, NORMS_OF_CHANNELS):
            return cls(layer.num_features, layer.num_features)
        if isinstance(layer, nn.GroupNorm):
            return cls(layer.num_channels, layer.num_channels)
        if isinstance(layer, (nn.LayerNorm, nn.RMSNorm)):
            return cls(int(layer.normalized_shape[-1]), int(layer.normalized_shape[-1]))
        return None


def check_declared(counterparts: Counterparts, changed: nn.Module) -> None:
    """Raises CandidateFailed where a declaration does not fit the changed model: names, widths and indices. Whether it
    is true is not looked at.
    """
    named: set[str] = set()
    for own in counterparts.layers:
        if own.layer in named:
            raise _misfit(own, "it is named twice")
        named.add(own.layer)
        layer, original = _layer(changed, own.layer), _layer(counterparts.whole, own.original)
        if layer is None:
            raise _misfit(own, "the changed model has no such layer")
        if original is None:
            raise _misfit(own, f"the model before has no layer {own.original}")
        if isinstance(layer, (nn.RNNBase, nn.RNNCellBase)) and _kind(layer) != _kind(original):
            raise _misfit(own, f"{own.original} is no recurrent layer of the same kind and directions")
        now, before = ChannelCounts.of(layer), ChannelCounts.of(original)
        if now is None or before is None:
            continue
        _check_indices(own, "outputs", own.outputs, now.outputs, before.outputs)
        _check_directions(own, now, before)
        if own.inputs is not None:
            _check_indices(own, "inputs", own.inputs, now.inputs or 0, before.inputs or 0)


def narrowed_layers(counterparts: Counterparts) -> Counterparts:
    """The layers that lost channels, and the norms; all where none lost any, as when blocks were taken out."""

    def lost(own: Counterpart) -> bool:
        before = ChannelCounts.of(counterparts.whole.get_submodule(own.original))
        sides = before and ((own.outputs, before.outputs), (own.inputs, before.inputs))
        return any(kept is not None and width is not None and len(kept) < width for kept, width in sides or ())

    def is_norm(own: Counterpart) -> bool:
        return isinstance(counterparts.whole.get_submodule(own.original), NORMS_OF_CHANNELS)

    narrowed = {own.layer for own in counterparts.layers if lost(own) and not is_norm(own)}
    layers = tuple(own for own in counterparts.layers if own.layer in narrowed or is_norm(own))
    return replace(counterparts, layers=layers) if narrowed else counterparts


def _layer(model: nn.Module, name: str) -> nn.Module | None:
    try:
        return model.get_submodule(name)
    except AttributeError:
        return None


def _kind(layer: nn.Module) -> tuple[type[nn.Module], bool]:
    return type(layer), getattr(layer, "bidirectional", False)


def _check_indices(own: Counterpart, side: str, indices: Sequence[int], width: int, before: int) -> None:
    if len(indices) != width:
        raise _misfit(own, f"{len(indices)} {side} are declared, and it has {width}")
    outside = [index for index in indices if not 0 <= index < before]
    if outside:
        raise _misfit(own, f"{outside[0]} is among its {side}, and {own.original} has {before} of them, from 0")
    if len(set(indices)) != len(indices):
        twice = next(index for at, index in enumerate(indices) if index in indices[:at])
        raise _misfit(own, f"{twice} is twice among its {side}")


def _check_directions(own: Counterpart, now: ChannelCounts, before: ChannelCounts) -> None:
    size, whole = now.outputs // now.directions, before.outputs // before.directions
    if now.directions > 1 and any(index // whole != at // size for at, index in enumerate(own.outputs)):
        raise _misfit(own, f"its outputs must be {size} of the one direction, then {size} of the other")


def _misfit(own: Counterpart, why: str) -> CandidateFailed:
    return CandidateFailed(f"the counterpart declared for the layer {own.layer or 'that is the model'}: {why}")
