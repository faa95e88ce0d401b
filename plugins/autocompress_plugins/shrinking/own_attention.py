"""Attention in the model's own code that can lose heads: the module stays what it is, with whatever else it is given
(masks, rotary positions, biases of positions) and whichever way it computes. ``own_attention_reading`` tells where its
heads lie.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from autocompress.errors import CandidateFailed
from autocompress.kept_parts import keep_whole, why_kept
from autocompress.nested import map_tensors, tensors_of
from autocompress_plugins.model_runs import ModuleCall
from autocompress_plugins.shrinking.attention_layers import HeadLayer, Projection, PrunableAttention
from autocompress_plugins.shrinking.fewer_heads import FewerHeads
from autocompress_plugins.shrinking.groups import remaining


@dataclass(frozen=True)
class HeadSize:
    """What a module inside keeps and grows with the heads: a number, one for each head, or one axis of a tensor."""

    module: str
    name: str
    axis: int | None = None

    def of(self, whole: nn.Module) -> int:
        value = getattr(whole.get_submodule(self.module), self.name)
        if isinstance(value, tuple):
            return len(value)
        return int(value if self.axis is None else value.shape[self.axis])

    def cut(self, whole: nn.Module, kept: Sequence[int], heads: int) -> None:
        """Leave what belongs to the kept ones of so many heads."""
        holder, size = whole.get_submodule(self.module), self.of(whole)
        run, value = size // heads, getattr(holder, self.name)
        if self.axis is None:
            left = tuple(value[head] for head in kept) if isinstance(value, tuple) else run * len(kept)
            setattr(holder, self.name, left)
            return
        rows = torch.tensor([head * run + i for head in kept for i in range(run)])
        cut = value.detach().index_select(self.axis, rows)
        setattr(holder, self.name, nn.Parameter(cut) if isinstance(value, nn.Parameter) else cut)


SEEN_WIDTH = HeadSize("", "own_width")
HEADS_LEFT = HeadSize("", "own_counted")
READ_SHAPE = (Tensor.shape.__get__, Tensor.size)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class LayerUses:
    """apart: the layers whose weights alone a module's code takes. other_inputs: arguments beside the sequence that its
    layers read, such as what a decoder attends to.
    """

    apart: tuple[nn.Linear, ...] = ()
    other_inputs: tuple[int | str, ...] = ()


AS_USUAL = LayerUses()


class SeesItsWidth:
    """Beside the class of a user's module. own_input: which argument is the sequence, if one is. own_width: how wide it
    seems to code that takes its width for the one of all heads; None where it is seen as it is.
    """

    own_input: int | str | None
    own_width: int | None

    def sequence(self, args: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
        assert self.own_input is not None
        found: Tensor = args[self.own_input] if isinstance(self.own_input, int) else named[self.own_input]
        return found

    def of_seen(self, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """What the user's code gives for a sequence that seems as wide as ``own_width``."""
        own = super().forward  # type: ignore[misc]
        if self.own_width is None or self.own_width in ((x := self.sequence(args, named)).shape[-1], x.shape[1]):
            return own(*args, **named)
        seen = x.detach()[..., :1].expand(*x.shape[:-1], self.own_width)
        with _SeenAs(x, seen):
            return own(*exchanged(args, x, seen), **exchanged(named, x, seen))


class OwnAttention(SeesItsWidth, PrunableAttention):
    """Beside the class of a user's module, whose ``forward`` it is. own_heads: its layers. own_sizes: what else grows
    with the heads. own_result: what a call gave, for its structure. own_places: the shape of its first tensor, None
    where the channels are, if it has other places than the sequence. own_counted: which of ``own_whole`` heads are
    left, where the code counts on all of them; None where it does not. own_rows: where those lay in the layers that
    read. own_uses: how the code uses its layers. own_parameters: of weights that the module held itself the layer
    inside that holds them now, and what that calls them.
    """

    own_heads: tuple[HeadLayer, ...]
    own_sizes: tuple[HeadSize, ...]
    own_result: Any
    own_places: tuple[int | None, ...] | None
    own_counted: tuple[int, ...] | None
    own_whole: int
    own_rows: tuple[tuple[tuple[int, ...], ...], ...]
    own_uses: LayerUses
    own_parameters: dict[str, tuple[str, str]]

    def forward(self, *args: Any, **named: Any) -> Any:
        x = self.sequence(args, named)
        if self.opaque:
            others = (args[key] if isinstance(key, int) else named[key] for key in self.own_uses.other_inputs)
            return _with_first(self.own_result, self.stand_in_shaped(self._shape_for(x), x, *others))
        left, whole = tuple(range(self.removable_heads)), self.removable_heads
        if self.own_counted is not None:
            left, whole = self.own_counted, self.own_whole
        if len(left) == whole and not self.own_uses.apart:
            return self.of_seen(args, named)
        layers = [own.layer for own in self.own_heads if own.side != "both"]
        with FewerHeads(layers, self.own_rows, whole, left, self.own_uses.apart):
            return self.of_seen(args, named)

    def _shape_for(self, x: Tensor) -> list[int]:
        """Of what is given for a sequence."""
        given, gives = self.opaque_widths()
        if self.own_places is not None:
            return [gives if size is None else size for size in self.own_places]
        return [gives if axis == channel_axis(x, given) else size for axis, size in enumerate(x.shape)]

    def opaque_widths(self) -> tuple[int, int]:
        out = self.own_heads[-1].layer
        return self.own_heads[0].layer.in_features, out.out_features if out in [*self.modules()] else out.in_features

    def head_layers(self) -> tuple[HeadLayer, ...]:
        return self.own_heads

    def remove_heads(self, removed: Sequence[int]) -> None:
        heads = self.removable_heads
        kept = remaining(heads, removed)
        if not kept:
            raise CandidateFailed("attention keeps at least one head")
        for size in self.own_sizes:
            size.cut(self, kept, heads)
        self.own_heads = tuple(without_heads(own, kept) for own in self.own_heads)

    def remove_inputs(self, removed: Sequence[int]) -> None:
        for own in self.own_heads:
            if own.side == "out":
                keep_channels(own.layer, "in", remaining(own.layer.in_features, removed))

    def remove_outputs(self, removed: Sequence[int]) -> None:
        out = self.own_heads[-1].layer
        keep_channels(out, "out", remaining(out.out_features, removed))


class _SeenAs(TorchFunctionMode):
    """While open, a tensor stands for another one: its shape can be read, and whatever is computed is computed of the
    other.
    """

    def __init__(self, tensor: Tensor, seen: Tensor) -> None:
        super().__init__()
        self._tensor, self._seen = tensor, seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READ_SHAPE:
            return func(*args, **(kwargs or {}))
        given, named = (exchanged(each, self._seen, self._tensor) for each in (args, kwargs or {}))
        return func(*given, **named)


def exchanged(structure: Any, one: Tensor, other: Tensor) -> Any:
    """A structure of arguments with ``other`` wherever ``one`` is in it."""
    if structure is one:
        return other
    if isinstance(structure, dict):
        return {key: exchanged(value, one, other) for key, value in structure.items()}
    if type(structure) in (list, tuple):
        return type(structure)(exchanged(value, one, other) for value in structure)
    return structure


def sequence_argument(call: ModuleCall, width: int) -> int | str:
    """The first argument that is a sequence (N, T, width), or else places (N, width, ...). Raises CandidateFailed."""
    given: list[tuple[int | str, Any]] = [*enumerate(call.args), *call.named.items()]
    sequences = [(key, x) for key, x in given if isinstance(x, Tensor) and x.dim() >= 3 and x.is_floating_point()]
    for axis in (-1, 1):
        for key, x in sequences:
            if x.shape[axis] == width:
                return key
    raise CandidateFailed("it is given no sequence (N, T, E) of the width that its layers read")


def channel_axis(x: Tensor, width: int) -> int:
    """Where the channels of a sequence or of places lie."""
    return x.dim() - 1 if x.shape[-1] == width else 1


def _places(x: Tensor, width: int) -> tuple[int | None, ...]:
    """The shape of a sequence or of places, None where the channels are."""
    wide = channel_axis(x, width)
    return tuple(None if axis == wide else size for axis, size in enumerate(x.shape))


def become_own_attention(
    module: nn.Module,
    call: ModuleCall,
    heads: tuple[HeadLayer, ...],
    sizes: tuple[HeadSize, ...],
    uses: LayerUses = AS_USUAL,
) -> OwnAttention:
    """``module``, which becomes an OwnAttention in place. call: one of its."""
    own, parameters = type(module), _into_layers(module, [each.layer for each in heads])
    read = {name: property(partial(_parameter_of, *place)) for name, place in parameters.items()}
    module.__class__ = type(own.__name__, (OwnAttention, own), {"__module__": own.__module__, **read})
    count, width = len(heads[0].heads), heads[0].layer.in_features
    key = sequence_argument(call, width)
    x, gave = call.args[key] if isinstance(key, int) else call.named[key], tensors_of(call.gave)[0]
    places = _places(gave, width) if gave.dim() == x.dim() else (*gave.shape[:-1], None)
    vars(module).update(
        own_heads=heads,
        own_sizes=sizes,
        own_input=key,
        own_places=None if places == _places(x, width) else places,
        own_result=map_tensors(lambda tensor: tensor.new_zeros(()).expand(tensor.shape), call.gave),
        own_width=width if {SEEN_WIDTH, HEADS_LEFT} & {*sizes} else None,
        own_counted=tuple(range(count)) if HEADS_LEFT in sizes else None,
        own_whole=count,
        own_rows=tuple(own.heads for own in heads if own.side == "out"),
        own_uses=uses,
        own_parameters=parameters,
    )
    for each in heads:
        if type(each.layer) is nn.Linear:
            each.layer.__class__ = Projection  # what would take it apart knows that it may not
    return module  # type: ignore[return-value]


def leave_own_attention(module: nn.Module, layers: Sequence[nn.Linear]) -> None:
    """Make an OwnAttention what it was before, in place."""
    parameters = vars(module)["own_parameters"]
    held = {name: _parameter_of(layer, key, module) for name, (layer, key) in parameters.items()}
    for layer in layers:
        if type(layer) is Projection:
            layer.__class__ = nn.Linear  # type: ignore[assignment]
    module.__class__ = type(module).__bases__[1]
    for name in [
        name for name in vars(module) if name in {*OwnAttention.__annotations__, *SeesItsWidth.__annotations__}
    ]:
        del vars(module)[name]
    for layer in {layer for layer, _ in parameters.values()}:
        delattr(module, layer)
    for name, parameter in held.items():
        module.register_parameter(name, parameter)


def layer_of(weight: nn.Parameter, bias: nn.Parameter | None) -> nn.Linear:
    """A linear layer that holds these parameters themselves."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight, layer.bias = weight, bias  # type: ignore[assignment]
    return layer


def _into_layers(module: nn.Module, layers: Sequence[nn.Linear]) -> dict[str, tuple[str, str]]:
    """Let those of the layers hold their parameters that the module holds itself, in place. Returns name of a parameter
    -> name of its layer, and what that calls it.
    """
    names = {id(parameter): name for name, parameter in module.named_parameters(recurse=False)}
    found: dict[str, tuple[str, str]] = {}
    for layer in layers:
        own = {key: names[id(p)] for key, p in layer.named_parameters(recurse=False) if id(p) in names}
        if own:
            child = f"own_{own['weight']}"
            found |= {name: (child, key) for key, name in own.items()}
            module.add_module(child, layer)
            if (kept := why_kept(module)) is not None:
                keep_whole(layer, kept)
    for name in found:
        delattr(module, name)
    return found


def _parameter_of(layer: str, key: str, module: nn.Module) -> Any:
    return getattr(module.get_submodule(layer), key)


def without_heads(own: HeadLayer, kept: Sequence[int]) -> HeadLayer:
    """The layer with those heads alone, and where they lie in it then."""
    gone = {i for head in range(len(own.heads)) if head not in kept for i in own.heads[head]}
    whole = own.layer.in_features if own.side == "in" else own.layer.out_features
    left = [i for i in range(whole) if i not in gone]
    at = {index: number for number, index in enumerate(left)}
    for side in own.sides:
        keep_channels(own.layer, side, left)
    return HeadLayer(own.layer, own.side, tuple(tuple(at[i] for i in own.heads[head]) for head in kept))


def keep_channels(layer: nn.Linear, side: str, kept: Sequence[int]) -> None:
    """Leave these outputs or inputs of a layer, in place."""
    index = list(kept)
    if side == "in":
        layer.weight = nn.Parameter(layer.weight.detach()[:, index])
        layer.in_features = len(index)
        return
    layer.weight = nn.Parameter(layer.weight.detach()[index])
    layer.out_features = len(index)
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias.detach()[index])


def _with_first(structure: Any, tensor: Tensor) -> Any:
    """The structure with another first tensor; the others are constants."""
    seen: list[bool] = []

    def replaced(own: Tensor) -> Tensor:
        seen.append(True)
        return tensor if len(seen) == 1 else own

    return map_tensors(replaced, structure)
