"""Which units of a model can be removed together: output channels, recurrent units, attention heads.

Channels are coupled by the layers between them (a residual sum, a batch norm, the next layer's inputs);
torch-pruning's dependency graph finds them. Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023. Its
answer is not taken on trust: a group counts when removing some of its units gives the outputs that the model has with
the weights that read those units set to zero.
"""

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from autocompress.data import call, primary
from autocompress.errors import CandidateFailed, one_line
from autocompress.task import Inputs
from autocompress_plugins.pruning.attention_layers import HeadAttention, MultiheadSelfAttention, agrees
from autocompress_plugins.pruning.opaque import Opaque
from autocompress_plugins.pruning.prunable import opaque, prunable
from autocompress_plugins.pruning.recurrent_layers import RecurrentBarrier, RecurrentLayer

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d)
ROOTS = (*CONVOLUTIONS, nn.Linear, nn.Embedding, RecurrentLayer)
MIXING_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)  # their statistics change when a channel goes
CHANNELS, RECURRENT, HEADS, MLP = "channels", "recurrent units", "heads", "mlp"


@dataclass(frozen=True)
class Member:
    """A module's part in a group. side: "out", "in" or "heads". index i of it belongs to unit ``units[i]``."""

    module: str
    side: str
    indices: tuple[int, ...]
    units: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """Units that go together. root: names the group, and is the layer whose outputs are counted.

    blocks: a removal takes equally many units from each of this many equal runs (the directions of a recurrent layer).
    macs: multiply-accumulates of one example in the layers that lose work with the group.
    """

    root: str
    kind: str
    size: int
    members: tuple[Member, ...]
    blocks: int = 1
    macs: float = 1.0


@dataclass(frozen=True)
class Left:
    """A part that could shrink by its kind and is left as it is."""

    module: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Survey:
    """groups: what can shrink, in the order of the model. left: the parts that cannot."""

    groups: tuple[Group, ...]
    left: tuple[Left, ...]

    def of(self, kinds: frozenset[str]) -> tuple[Group, ...]:
        return tuple(group for group in self.groups if group.kind in kinds)

    def left_of(self, kinds: frozenset[str]) -> tuple[Left, ...]:
        return tuple(part for part in self.left if part.kind in kinds)


class ChannelGraph:
    """Finds a model's groups and removes units. What was verified once is remembered for that kind of structure."""

    def __init__(self) -> None:
        self._verified: dict[str, tuple[Left, ...]] = {}

    def survey(self, model: nn.Module, inputs: Inputs) -> tuple[nn.Module, Survey]:
        """A copy of ``model`` in prunable form, and its groups. Raises CandidateFailed when it cannot be traced."""
        model = copy.deepcopy(model).eval()
        unknown = prunable(model, inputs)
        groups = list(_groups(model, inputs))
        key = repr([(name, type(module).__name__) for name, module in model.named_modules()])  # whatever the widths
        if key not in self._verified:
            checked = [(group, _verify(model, inputs, group)) for group in groups]
            self._verified[key] = tuple(Left(g.root, g.kind, reason) for g, reason in checked if reason is not None)
        wrong = {part.module for part in self._verified[key]}
        left = (*(_left(model, name, reason) for name, reason in unknown.items()), *self._verified[key])
        return model, Survey(tuple(g for g in groups if g.root not in wrong), left)

    def remove(self, model: nn.Module, inputs: Inputs, removals: Mapping[str, Sequence[int]]) -> nn.Module:
        """Take units out of ``model`` in place: root -> units. The same removals give the same model."""
        prunable(model, inputs)
        for root, units in removals.items():
            module = model.get_submodule(root)
            if isinstance(module, HeadAttention):
                module.remove_heads(units)
        for root, units in removals.items():
            module = model.get_submodule(root)
            if not isinstance(module, HeadAttention):
                graph = _trace(model, inputs)  # anew: it knows slices by where they lay before
                with _quiet():
                    prune_outputs = graph.get_pruner_of_module(module).prune_out_channels
                    graph.get_pruning_group(module, prune_outputs, list(units)).prune(record_history=False)
        return model


def _left(model: nn.Module, name: str, reason: str) -> Left:
    return Left(name, RECURRENT if isinstance(model.get_submodule(name), RecurrentBarrier) else HEADS, reason)


def _groups(model: nn.Module, inputs: Inputs) -> Iterator[Group]:
    """Every group, whether or not it is sound."""
    names = {module: name for name, module in model.named_modules()}
    positions = _positions(model, inputs)
    attends = any(isinstance(module, HeadAttention) for module in names)
    for name, module in model.named_modules():
        if isinstance(module, HeadAttention) and module.num_heads > 1:
            heads = tuple(range(module.num_heads))
            macs = positions.get(name, 0.0) * (module.qkv.weight.numel() + module.out.weight.numel())
            yield Group(name, HEADS, module.num_heads, (Member(name, "heads", heads, heads),), macs=macs)
    graph, seen = _trace(model, inputs), set()
    for name, module in model.named_modules():
        inside = any(isinstance(parent, Opaque) for parent in _parents(model, name))
        if not isinstance(module, ROOTS) or inside or name in seen or module not in graph.module2node:
            continue
        pruner = graph.get_pruner_of_module(module)
        size = int(pruner.get_out_channels(module))
        with _quiet():
            found = graph.get_pruning_group(module, pruner.prune_out_channels, list(range(size)))
        members, to_output = [], False
        for item in found:
            target, out = item.dep.target.module, graph.is_out_channel_pruning_fn(item.dep.handler)
            to_output |= type(target).__name__ == "_OutputOp"
            if target in names:
                members.append(Member(names[target], "out" if out else "in", tuple(item.idxs), tuple(item.root_idxs)))
        seen |= {member.module for member in members if member.side == "out"}
        if to_output or size < 2:
            continue  # its channels are the model's output
        outs = [model.get_submodule(member.module) for member in members if member.side == "out"]
        blocks = max((m.directions for m in outs if isinstance(m, RecurrentLayer)), default=1)
        linear = all(isinstance(model.get_submodule(member.module), nn.Linear) for member in members)
        kind = RECURRENT if isinstance(module, RecurrentLayer) else MLP if attends and linear else CHANNELS
        macs = sum(_macs(model, member, positions) for member in members)
        yield Group(name, kind, size, tuple(members), blocks, macs)


def _verify(model: nn.Module, inputs: Inputs, group: Group) -> str | None:
    """Why removing units of a group is wrong; None when it is right."""
    step = max(1, group.size // group.blocks // 3)
    run = group.size // group.blocks
    units = [block * run + unit for block in range(group.blocks) for unit in range(0, run - 1, step)]
    smaller, zeroed = copy.deepcopy(model), copy.deepcopy(model)
    try:
        ChannelGraph().remove(smaller, inputs, {group.root: units})
        got = _output(smaller, inputs)
    except Exception as error:  # the graph did not cover this layer, or the model's code fixes its size
        return f"removing its units breaks the model ({type(error).__name__}: {one_line(error, 120)})"
    expected = _output(model, inputs)
    if got.shape != expected.shape:
        return "its units are the model's output"
    if any(isinstance(model.get_submodule(m.module), MIXING_NORMS) for m in group.members):
        return None  # a norm over the channels: no zeroing gives the same
    for member in group.members:
        _zero_readers(zeroed.get_submodule(member.module), member, set(units))
    if not agrees(got, _output(zeroed, inputs)):
        return "removing its units gives another function than zeroing them"
    return None


def _zero_readers(module: nn.Module, member: Member, units: set[int]) -> None:
    """Set the weights that read the units to zero."""
    gone = [i for i, unit in zip(member.indices, member.units, strict=True) if unit in units]
    with torch.no_grad():
        if isinstance(module, HeadAttention):
            if member.side == "heads":
                module.out.weight[:, module.head_columns(gone)] = 0
            elif member.side == "in":
                module.qkv.weight[:, gone] = 0
        elif isinstance(module, RecurrentLayer):
            for d in range(module.directions):
                inputs, recurrent = module.matrices(d)
                if member.side == "in":
                    inputs[:, :, gone] = 0
                else:
                    size = int(module.core.hidden_size)
                    recurrent[:, :, [i - d * size for i in gone if i // size == d]] = 0
        elif member.side == "in" and isinstance(module, nn.Linear):
            module.weight[:, gone] = 0
        elif member.side == "in" and isinstance(module, CONVOLUTIONS) and module.groups == 1:
            module.weight[gone if module.transposed else slice(None)][:, slice(None) if module.transposed else gone] = 0


class _OpaquePruner(tp.pruner.function.BasePruningFunc):  # type: ignore[misc]
    def prune_out_channels(self, layer: Opaque, indices: Sequence[int]) -> nn.Module:
        layer.remove_outputs(list(indices))
        return layer

    def prune_in_channels(self, layer: Opaque, indices: Sequence[int]) -> nn.Module:
        layer.remove_inputs(list(indices))
        return layer

    def get_out_channels(self, layer: Opaque) -> int:
        return layer.out_channels

    def get_in_channels(self, layer: Opaque) -> int:
        return layer.in_channels


class _SlicePruner(tp.ops.SlicePruner):  # type: ignore[misc]
    """Tells how many channels a slice of the channels has, without which a concatenation of slices is not followed."""

    def get_out_channels(self, layer: Any) -> int | None:
        sizes = layer.grad_fn._saved_self_sym_sizes
        if len(sizes) > 3 or layer.dim % len(sizes) != len(sizes) - 1:
            return None
        return len(range(int(sizes[-1]))[layer.start : layer.end : layer.step])


def _trace(model: nn.Module, inputs: Inputs) -> Any:
    kinds = (RecurrentLayer, RecurrentBarrier, HeadAttention, MultiheadSelfAttention)
    try:
        with _quiet(), opaque(model), torch.enable_grad():
            graph = tp.DependencyGraph()
            graph.REGISTERED_PRUNERS[tp.ops.OPTYPE.SLICE] = _SlicePruner()
            return graph.build_dependency(
                model,
                inputs,
                forward_fn=lambda m, x: primary(call(m, x)),
                customized_pruners={kind: _OpaquePruner() for kind in kinds},
            )
    except Exception as error:
        raise CandidateFailed(
            f"the dependency graph cannot be traced: {type(error).__name__}: {one_line(error, 160)}"
        ) from error


def _positions(model: nn.Module, inputs: Inputs) -> dict[str, float]:
    """At how many places each layer is computed for one example: pixels, or steps of a sequence."""
    found: dict[str, float] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            y = primary(out)
            width = y.shape[1] if isinstance(module, CONVOLUTIONS) else y.shape[-1]
            found[name] = found.get(name, 0.0) + y[0].numel() / max(width, 1)

        return hook

    kinds = (*CONVOLUTIONS, nn.Linear, Opaque)
    handles = [m.register_forward_hook(note(n)) for n, m in model.named_modules() if isinstance(m, kinds)]
    try:
        _output(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _macs(model: nn.Module, member: Member, positions: Mapping[str, float]) -> float:
    """Multiply-accumulates of one example in a member that fall with the group."""
    module = model.get_submodule(member.module)
    if isinstance(module, (*CONVOLUTIONS, nn.Linear)):
        weights = module.weight.numel()
    elif isinstance(module, Opaque):
        weights = sum(p.numel() for p in module.parameters() if p.dim() > 1)
    else:
        return 0.0
    width = {"out": _out_width(module), "in": None}.get(member.side)
    share = len(set(member.indices)) / width if width else 1.0
    return positions.get(member.module, 0.0) * weights * share


def _out_width(module: nn.Module) -> int | None:
    return int(getattr(module, "out_channels", 0) or getattr(module, "out_features", 0)) or None


def _parents(model: nn.Module, name: str) -> Iterator[nn.Module]:
    parts = name.split(".")
    for end in range(1, len(parts)):
        yield model.get_submodule(".".join(parts[:end]))


def _output(model: nn.Module, inputs: Inputs) -> Tensor:
    with torch.no_grad():
        return primary(call(model.eval(), inputs))


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch_pruning").setLevel(logging.ERROR)
        yield
