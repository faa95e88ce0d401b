"""Which units of a model can be removed together: output channels, recurrent units, attention heads.

Channels are coupled by the layers between them (a residual sum, a batch norm, the next layer's inputs);
torch-pruning's dependency graph finds them. Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023. Its
answer is not taken on trust: ``group_check`` tries each.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch_pruning as tp
from torch import nn

from autocompress.data import is_within, run_in_training_alone
from autocompress.errors import CandidateFailed, one_line
from autocompress.kept_parts import why_kept
from autocompress.plain_model import evaluating
from autocompress.plugin.contract import Context
from autocompress.task import Inputs
from autocompress_plugins.layer_kinds import CONVOLUTIONS
from autocompress_plugins.shrinking.attention_layers import PrunableAttention
from autocompress_plugins.shrinking.dependency_graph import group_of, knows_places, trace
from autocompress_plugins.shrinking.group_check import half, why_wrong
from autocompress_plugins.shrinking.groups import (
    CHANNELS,
    EVERY_KIND,
    HEADS,
    MLP,
    RECURRENT,
    FoundGroups,
    Group,
    LeftAlone,
    Member,
)
from autocompress_plugins.shrinking.opaque import Opaque
from autocompress_plugins.shrinking.prunable import prunable
from autocompress_plugins.shrinking.recurrent_layers import RecurrentBarrier, RecurrentLayer
from autocompress_plugins.shrinking.removal import ties
from autocompress_plugins.shrinking.unit_macs import member_macs, places

ROOTS = (*CONVOLUTIONS, nn.Linear, nn.Embedding, RecurrentLayer)


def channel_graph(context: Context) -> "ChannelGraph":
    """That of the task: what was checked for one strategy is known to all."""
    return context.once("pruning.channel_graph", ChannelGraph)


UNSEEN = "no gradient of the outputs reaches it (inference_mode in forward), so what reads its units cannot be seen"


class ChannelGraph:
    """Finds the groups of a task's models. What was checked once is remembered for that kind of structure."""

    def __init__(self) -> None:
        self._checked: dict[str, dict[str, str | None]] = {}  # structure -> root -> what is wrong with its group

    def find_groups(
        self, model: nn.Module, inputs: Inputs, kinds: frozenset[str] = EVERY_KIND, *, sure: int | None = None
    ) -> tuple[nn.Module, FoundGroups]:
        """A copy of ``model`` in prunable form, and its groups of these kinds. Raises CandidateFailed when it cannot be
        traced.

        sure: groups are checked one after another until so many were right; left out, all are. A group that is known
        to be wrong is left. One that was not checked is taken for right, which is quicker; then whoever removes units
        of it checks what comes of it.
        """
        try:
            model = evaluating(copy.deepcopy(model))
            unknown = prunable(model, inputs)
            found = list(_groups(model, inputs))
        except CandidateFailed:
            raise
        except Exception as error:  # a model's code may do anything to a copy of it
            reason = f"its layers cannot be seen: {type(error).__name__}: {one_line(error, 160)}"
            raise CandidateFailed(reason) from error
        modules = [(name, type(module).__name__) for name, module in model.named_modules()]
        roots = [group.root for group in found if isinstance(group, Group)]
        checked = self._checked.setdefault(repr((modules, ties(model), roots)), {})  # whatever the widths
        groups = [group for group in found if isinstance(group, Group) and group.kind in kinds]
        right = 0
        for group in groups:
            if right == sure:
                break
            if group.root not in checked:
                checked[group.root] = why_wrong(model, inputs, {group: half(group)})
            right += checked[group.root] is None
        left = [_left(model, name, reason) for name, reason in unknown.items()]
        left += [LeftAlone(g.root, g.kind, wrong) for g in groups if (wrong := checked.get(g.root)) is not None]
        left += [part for part in found if isinstance(part, LeftAlone)]
        sound = tuple(group for group in groups if checked.get(group.root) is None)
        return model, FoundGroups(sound, tuple(part for part in left if part.kind in kinds))


def every_group(whole: nn.Module, inputs: Inputs) -> tuple[Group, ...]:
    """The groups of a model in prunable form, sound or not."""
    return tuple(group for group in _groups(whole, inputs) if isinstance(group, Group))


def _left(model: nn.Module, name: str, reason: str) -> LeftAlone:
    recurrent = isinstance(model.get_submodule(name), (RecurrentBarrier, nn.RNNCellBase))
    return LeftAlone(name, RECURRENT if recurrent else HEADS, reason)


def _groups(model: nn.Module, inputs: Inputs) -> Iterator[Group | LeftAlone]:
    """Every group, whether or not it is sound, and what can be no group, in the order in which the model calls them."""
    computed_at = places(model, inputs)
    modules = dict(model.named_modules())
    names = {module: name for name, module in modules.items()}
    attends = any(isinstance(module, PrunableAttention) for module in modules.values())
    graph, seen = trace(model, inputs), set[str]()
    alone = run_in_training_alone(model, inputs)
    called = {name: at for at, name in enumerate(computed_at)}
    for name in sorted(modules, key=lambda name: called.get(name, len(called))):
        module = modules[name]
        if isinstance(module, PrunableAttention) and module.removable_heads > 1:
            members = _of_heads(module, names)
            if kept := _kept(modules, members):
                yield LeftAlone(name, HEADS, kept)
                continue
            yield Group(name, HEADS, module.removable_heads, members, macs=_macs(modules, members, computed_at))
        inside = any(isinstance(parent, Opaque) for parent in _parents(model, name))
        inside |= isinstance(module, Opaque) and isinstance(module, nn.Linear)  # of an attention
        if not isinstance(module, ROOTS) or inside or name in seen:
            continue
        kind = RECURRENT if isinstance(module, RecurrentLayer) else CHANNELS
        if module not in graph.module2node:
            if name in called:
                yield LeftAlone(name, kind, UNSEEN)
            continue
        if is_within(name, alone):
            yield LeftAlone(name, kind, "it runs in training mode alone, and loses what the layers that it reads lose")
            continue
        try:
            named = {m: n for m, n in names.items() if not is_within(n, alone)}
            size, members, ends, places_known = _members(graph, named, module)
        except CandidateFailed as error:
            yield LeftAlone(name, kind, error.reason)
            continue
        except Exception as error:  # torch-pruning lost its way
            reason = f"what depends on it cannot be told ({type(error).__name__}: {one_line(error, 120)})"
            yield LeftAlone(name, kind, reason)
            continue
        seen |= {member.module for member in members if member.side == "out"}
        if attends and all(isinstance(modules[member.module], nn.Linear) for member in members):
            kind = MLP
        members = tuple(own for member in members for own in _in_attention(modules[member.module], member, names))
        if kept := _kept(modules, members):
            yield LeftAlone(name, kind, kept)
            continue
        tied = 1
        run = _tied_run(graph, module, size) if places_known and not ends else size
        if run is not None and run < size:  # unit i of each run goes with that of the others
            members = tuple(replace(own, units=tuple(unit % run for unit in own.units)) for own in members)
            size, tied = run, size // run
        each = (_blocks(modules[member.module], member.side) for member in members)
        blocks = math.lcm(*(own // math.gcd(own, tied) for own in each))
        if ends:
            yield LeftAlone(name, kind, "its units are the model's output")
        elif size == 1:
            yield LeftAlone(name, kind, "it has one unit only")
        elif run is None:
            yield LeftAlone(name, kind, "some of its units can only go together with others")
        elif size == blocks or size % blocks:
            yield LeftAlone(name, kind, f"its {size} units lie in {blocks} runs that cannot lose equally many")
        else:
            yield Group(name, kind, size, members, blocks, _macs(modules, members, computed_at))


def _macs(modules: Mapping[str, nn.Module], members: Sequence[Member], computed_at: Mapping[str, float]) -> float:
    found = sum(member_macs(modules[own.module], own, computed_at.get(own.module, 0.0)) for own in members)
    return max(found, 1.0)


def _kept(modules: Mapping[str, nn.Module], members: Sequence[Member]) -> str | None:
    """Why one of the layers that lose channels may not."""
    for member in members:
        module = modules[member.module]
        reason = why_kept(module.core if isinstance(module, RecurrentLayer) else module)
        if reason is not None:
            return f"{reason} ({member.module})"
    return None


def _of_heads(module: PrunableAttention, names: Mapping[nn.Module, str]) -> tuple[Member, ...]:
    """What goes with the heads of an attention."""
    return tuple(
        Member(
            names[own.layer],
            side,
            tuple(index for indices in own.heads for index in indices),
            tuple(head for head, indices in enumerate(own.heads) for _ in indices),
        )
        for own in module.head_layers()
        if any(own.heads)
        for side in own.sides
    )


def _in_attention(module: nn.Module, member: Member, names: Mapping[nn.Module, str]) -> Iterator[Member]:
    """The member itself; of an attention its layers that read, or the one that gives."""
    if not isinstance(module, PrunableAttention):
        yield member
        return
    for own in module.head_layers():
        if own.side == ("out" if member.side == "in" else "in"):
            yield replace(member, module=names[own.layer])


def _members(graph: Any, names: Mapping[nn.Module, str], root: nn.Module) -> tuple[int, tuple[Member, ...], bool, bool]:
    """Size and members of the group of ``root``, whether its units are the model's output, and whether the graph holds
    where they lie in a tensor.
    """
    size = int(graph.get_pruner_of_module(root).get_out_channels(root))
    found = group_of(graph, root, range(size))
    members, ends, holders = [], False, _holders(names)
    for item in found:
        node, out = item.dep.target, graph.is_out_channel_pruning_fn(item.dep.handler)
        if isinstance(node.module, nn.Parameter) and (kept := why_kept(holders.get(id(node.module), root))) is not None:
            raise CandidateFailed(f"a parameter goes with it that may not be changed: {kept}")
        ends |= node.type == tp.ops.OPTYPE.OUTPUT or (out and not node.outputs)
        if node.module in names:
            side = "out" if out else "in"
            members.append(Member(names[node.module], side, tuple(item.idxs), tuple(item.root_idxs)))
    return size, tuple(members), ends, knows_places(found)


def _holders(names: Mapping[nn.Module, str]) -> dict[int, nn.Module]:
    """Of each parameter the module that holds it itself."""
    return {id(parameter): module for module in names for parameter in module.parameters(recurse=False)}


def _tied_run(graph: Any, root: nn.Module, size: int) -> int | None:
    """Of how long equal runs the outputs of a layer are, of which those at one place go together, as the gates and the
    values of a gated MLP do; all of them where each goes by itself, None where they go together in another way. Told by
    the first and the last.
    """
    run = size
    for unit in (0, size - 1):
        tied = {unit}
        for item in group_of(graph, root, [unit]):
            if item.dep.target.module is root and graph.is_out_channel_pruning_fn(item.dep.handler):
                tied |= set(item.idxs)
        if unit == 0:
            run = size // len(tied)
        if tied != set(range(unit % run, size, run)) or size % run:
            return None
    return run


def _blocks(module: nn.Module, side: str) -> int:
    """Of how many runs a module's channels are that have to stay equally long."""
    if isinstance(module, RecurrentLayer):
        return module.directions if side == "out" else 1
    if isinstance(module, nn.GroupNorm):
        return module.num_groups
    if isinstance(module, CONVOLUTIONS) and module.groups != module.out_channels:
        return module.groups
    return 1


def _parents(model: nn.Module, name: str) -> Iterator[nn.Module]:
    parts = name.split(".")
    for end in range(1, len(parts)):
        yield model.get_submodule(".".join(parts[:end]))
