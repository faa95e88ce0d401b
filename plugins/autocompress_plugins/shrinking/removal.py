"""Taking units out of a model, with everything that goes with them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set

import torch
from torch import nn

from autocompress.errors import CandidateFailed
from autocompress.kept_parts import untrained
from autocompress.task import Inputs
from autocompress_plugins.shrinking.attention_layers import PrunableAttention
from autocompress_plugins.shrinking.dependency_graph import group_of, knows_places, remove_group, trace


def remove_units(model: nn.Module, inputs: Inputs, removals: Mapping[str, Sequence[int]]) -> nn.Module:
    """Take units out of ``model``, which is in prunable form, in place: root -> units. The same removals give the same
    model. Raises CandidateFailed.
    """
    before, frozen, graph, called = ties(model), untrained(model), None, set[nn.Module]()
    for root, units in removals.items():
        module = model.get_submodule(root)
        if isinstance(module, PrunableAttention):
            module.remove_heads(units)
            continue
        graph = graph or trace(model, inputs)
        called |= set(graph.module2node)
        group = group_of(graph, module, units)
        remove_group(group)
        if knows_places(group):
            graph = None
    for module in model.modules():
        if isinstance(module, nn.Embedding):  # one whose weights are read as a table does not know
            module.embedding_dim = module.weight.shape[1]
    _tie(model, before, called)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in frozen:
            parameter.requires_grad_(False)  # what was cut is another tensor
    return model


def ties(model: nn.Module) -> list[list[str]]:
    """Names of the parameters that are one, for each that has several."""
    names: dict[int, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[id(parameter)].append(name)
    return [own for own in names.values() if len(own) > 1]


def _tie(model: nn.Module, names: list[list[str]], called: Set[nn.Module]) -> None:
    """Make one again what was one, as far as it is still alike; what nothing calls (the shared embedding that T5's
    encoder and decoder have copies of) follows.
    """
    for own in names:
        holders = {name: model.get_submodule(name.rpartition(".")[0]) for name in own}
        first, *others = [name for name in own if holders[name] in called] or own
        parameter = model.get_parameter(first)
        for name in others:
            if not torch.equal(model.get_parameter(name), parameter):
                raise CandidateFailed(f"{first} and {name} are one weight and would no longer be")
        for name in own:
            setattr(holders[name], name.rpartition(".")[2], parameter)
