"""What the training examples say of a model's units: importances by Taylor and surgeon, and losses without half of a
group.

Each is measured once for a state of a model, and is kept as long as the task is open.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from autocompress.arrays import Floats
from autocompress.data import call
from autocompress.plain_model import evaluating
from autocompress.plugin.contract import Context
from autocompress_plugins.shrinking.channel_graph import channel_graph
from autocompress_plugins.shrinking.consumer_inputs import consumer_statistics
from autocompress_plugins.shrinking.groups import Group
from autocompress_plugins.shrinking.importance import importance, taylor
from autocompress_plugins.shrinking.removal import remove_units
from autocompress_plugins.shrinking.state import state_of
from autocompress_plugins.shrinking.surgeon import surgeon_importance
from autocompress_plugins.shrinking.training_loss import examples_for, mean_loss, rise

BOTTOM_UP_SECTIONS = 4  # of a model whose groups are removed bottom up
TAYLOR_BATCH = 16
TAYLOR_COST = 3 * (BOTTOM_UP_SECTIONS + 1)  # forward passes: a backward one is two, and each section is done anew
SURGEON_COST = BOTTOM_UP_SECTIONS + 3  # forward passes: one for each section, and two for the products of all inputs
HALVED_EXAMPLES = 128


def importances(model: nn.Module, groups: Sequence[Group], criterion: str, context: Context) -> dict[str, Tensor]:
    """Importance of each group's units -> root: (size,)."""
    if criterion == "surgeon":
        return _by_surgeon(model, groups, context)
    if criterion != "taylor":
        return {group.root: importance(model, group, criterion) for group in groups}
    kinds, key = frozenset(group.kind for group in groups), (state_of(model), tuple(groups))
    known = context.once(("pruning.taylor", kinds), dict[tuple[str, tuple[Group, ...]], dict[str, Tensor]])
    if key not in known:
        batches = context.train_batches(examples_for(context, TAYLOR_COST), TAYLOR_BATCH)
        losses = (context.task.loss_fn(call(evaluating(model), b.inputs), b.targets) for b in batches)
        found = taylor(model, groups, losses)
        known.clear()  # only of the model last asked about
        known[key] = found
    return known[key]


def _by_surgeon(model: nn.Module, groups: Sequence[Group], context: Context) -> dict[str, Tensor]:
    known, state = context.once("pruning.surgeon", dict[tuple[str, str], Tensor]), state_of(model)
    unknown = [group for group in groups if (state, group.root) not in known]
    if unknown:
        batches = context.train_batches(examples_for(context, SURGEON_COST))
        read = consumer_statistics(model, unknown, (batch.inputs for batch in batches))
        for group in unknown:
            own = read[group.root]  # none where other layers read it than can be refitted
            by_error = surgeon_importance(own, group.size, group.blocks) if own else importance(model, group, "l2")
            known[state, group.root] = by_error
    return {group.root: known[state, group.root] for group in groups}


def losses_without_half(model: nn.Module, groups: Sequence[Group], context: Context) -> Floats:
    """By how much the training loss rises when half of a group goes, without training -> (groups,); infinite where
    what is left gives no number.
    """
    known = context.once("pruning.losses_without_half", dict[tuple[str, str], float])
    state, loss_fn = state_of(model), context.task.loss_fn
    unknown = [group for group in groups if (state, group.root) not in known]
    if unknown:
        examples = min(HALVED_EXAMPLES, examples_for(context, len(unknown)))
        batches = list(context.train_batches(examples))
        base = mean_loss(model, batches, loss_fn)
        for group in unknown:
            units = least_important(importance(model, group, "l2"), group, half_width(group))
            trial = remove_units(copy.deepcopy(model), context.example_inputs, {group.root: units})
            known[state, group.root] = rise(mean_loss(trial, batches, loss_fn), base)
    return np.array([known[state, group.root] for group in groups])


def trained_losses_without_half(model: nn.Module, groups: Sequence[Group], context: Context) -> Floats:
    """``losses_without_half`` of the reference, for the groups it has too: its weights are trained, and what the loss
    of a model that other steps have changed rises by says little.
    """
    kinds, roots = frozenset(group.kind for group in groups), {group.root for group in groups}
    reference, found = channel_graph(context).find_groups(context.model, context.example_inputs, kinds)
    shared = [group for group in found.groups if group.root in roots]
    losses = dict(zip((g.root for g in shared), losses_without_half(reference, shared, context), strict=True))
    others = [group for group in groups if group.root not in losses]
    losses |= zip((g.root for g in others), losses_without_half(model, others, context), strict=True)
    return np.array([losses[group.root] for group in groups])


def half_width(group: Group) -> int:
    """The width of which half is gone, or as near to it as its blocks allow."""
    return max(group.blocks, round(group.size / 2 / group.blocks) * group.blocks)


def least_important(values: Tensor, group: Group, width: int) -> list[int]:
    """The least important units beyond ``width``, equally many from each block."""
    run = group.size // group.blocks
    count = run - width // group.blocks
    order = values.reshape(group.blocks, run).argsort(dim=1, stable=True)[:, :count]
    return sorted((order + run * torch.arange(group.blocks)[:, None]).flatten().tolist())
