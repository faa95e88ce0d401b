"""From groups to a plan: how much of each kind goes, which units, in what order."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import nn

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context, Plan, ShrinkableGroup
from autocompress.task import Inputs
from autocompress_plugins.reasons import because
from autocompress_plugins.shrinking import allocation
from autocompress_plugins.shrinking.channel_graph import channel_graph
from autocompress_plugins.shrinking.group_check import why_wrong
from autocompress_plugins.shrinking.groups import HEADS, FoundGroups, Group
from autocompress_plugins.shrinking.prunable import prunable
from autocompress_plugins.shrinking.removal import remove_units
from autocompress_plugins.shrinking.unit_measurements import (
    BOTTOM_UP_SECTIONS,
    importances,
    least_important,
    trained_losses_without_half,
)


@dataclass(frozen=True)
class Amount:
    """ratios: share of each kind of group to remove. criterion: see ``importance``. allocation: "uniform", "global" or
    "sensitivity". bottom_up: in sections from the input up, the importance found anew after each.
    """

    ratios: Mapping[str, float]
    criterion: str = "l2"
    allocation: str = "uniform"
    bottom_up: bool = False
    round_to: int = 1


def refuses(context: Context, kinds: frozenset[str], nothing: str) -> str | None:
    """Why no group of these kinds can shrink. The first that can is enough."""
    try:
        found = channel_graph(context).find_groups(context.model, context.example_inputs, kinds, sure=1)[1]
    except CandidateFailed as error:
        return error.reason
    return None if found.groups else because(nothing, found.reasons)


def left_alone(context: Context, kinds: frozenset[str]) -> dict[str, str]:
    """Why parts of these kinds keep their size, by name; none of a model that cannot be seen, which is refused."""
    try:
        return channel_graph(context).find_groups(context.model, context.example_inputs, kinds)[1].reasons
    except CandidateFailed:
        return {}


def plan(model: nn.Module, amount: Amount, context: Context) -> Plan:
    """Which units of which group go. Raises CandidateFailed when nothing would, or when it would be wrong.

    The groups are taken on trust and what is planned is checked as a whole; only when that fails is each group checked
    by itself, and the wrong ones are left.
    """
    try:
        return _planned(model, amount, context, sure=0)
    except Exception:  # a wrong group breaks the model in any way, and wherever units are removed on the way
        return _planned(model, amount, context, sure=None)


def apply(model: nn.Module, plan: Plan, context: Context) -> nn.Module:
    """Take the units of a plan out of ``model``, in place."""
    prunable(model, context.example_inputs)
    return remove_units(model, context.example_inputs, plan["remove"])


def shrinkable_groups(context: Context, kinds: frozenset[str]) -> list[ShrinkableGroup]:
    """Each group of the reference by itself, those with most compute first."""
    model, found = channel_graph(context).find_groups(context.model, context.example_inputs, kinds)

    def plan_without(group: Group, count: int) -> Plan:
        values = importances(model, found.groups, "surgeon", context)[group.root]
        return {"remove": {group.root: least_important(values, group, group.size - count)}}

    return [
        ShrinkableGroup(own.root, own.size, range(own.blocks, own.size, own.blocks), partial(plan_without, own))
        for own in sorted(found.groups, key=lambda group: -group.macs)
    ]


def _planned(model: nn.Module, amount: Amount, context: Context, sure: int | None) -> Plan:
    inputs = context.example_inputs
    whole, found = channel_graph(context).find_groups(model, inputs, frozenset(amount.ratios), sure=sure)
    removals = _removals(whole, found, amount, context)
    planned: dict[Group, Sequence[int]] = {g: removals[g.root] for g in found.groups if g.root in removals}
    reason = why_wrong(whole, inputs, planned)
    if reason is not None and sure is None:  # each was right by itself
        planned = _right_together(whole, inputs, planned)
        removals = {root: units for root, units in removals.items() if root in {group.root for group in planned}}
    if reason is not None and not (sure is None and removals):
        raise CandidateFailed(reason)
    return {"remove": removals}


def _right_together(
    whole: nn.Module, inputs: Inputs, planned: Mapping[Group, Sequence[int]]
) -> dict[Group, Sequence[int]]:
    """Those groups that can lose their units together, one after the other as the model calls them."""
    right: dict[Group, Sequence[int]] = {}
    for group, units in planned.items():
        if why_wrong(whole, inputs, {**right, group: units}) is None:
            right[group] = units
    return right


def _removals(whole: nn.Module, found: FoundGroups, amount: Amount, context: Context) -> dict[str, list[int]]:
    """Root of a group -> units, in the order in which they go."""
    inputs, model = context.example_inputs, copy.deepcopy(whole)
    if not found.groups:
        raise CandidateFailed(because("nothing is left that can shrink", found.reasons))
    groups = [group for group in found.groups if amount.ratios[group.kind] > 0]
    widths = _widths(model, groups, amount, context)
    removals: dict[str, list[int]] = {}
    last: dict[str, list[int]] = {}
    for section in _sections(groups) if amount.bottom_up else [groups]:
        if last:  # where the other groups lie in layers that read several has moved
            model, found = channel_graph(context).find_groups(remove_units(model, inputs, last), inputs, sure=0)
            section = [group for group in found.groups if group.root in {own.root for own in section}]
        values = importances(model, section, amount.criterion, context)
        last = {
            group.root: units
            for group in section
            if (units := least_important(values[group.root], group, widths[group.root]))
        }
        removals |= last
    if not removals:
        raise CandidateFailed("nothing would be removed: every group keeps its width at this ratio")
    return removals


def _widths(model: nn.Module, groups: Sequence[Group], amount: Amount, context: Context) -> dict[str, int]:
    """Units that each group keeps."""
    widths: dict[str, int] = {}
    for kind, ratio in amount.ratios.items():
        own = [group for group in groups if group.kind == kind]
        if not own:
            continue
        shares = allocation.uniform(ratio, len(own))
        if amount.allocation == "global":
            values = importances(model, groups, amount.criterion, context)
            shares = allocation.by_importance([values[group.root].double().numpy() for group in own], ratio)
        elif amount.allocation == "sensitivity":
            losses, costs = trained_losses_without_half(model, own, context), np.array([group.macs for group in own])
            shares = allocation.by_sensitivity(np.maximum(losses, 0.0), costs, ratio)
        for group, share in zip(own, shares, strict=True):
            run = group.size // group.blocks
            round_to = 1 if kind == HEADS else amount.round_to
            widths[group.root] = group.blocks * allocation.rounded_width(run * (1 - share), run, round_to)
    return widths


def _sections(groups: Sequence[Group]) -> list[list[Group]]:
    """The groups in a few runs, in the order of the model."""
    size = -(-len(groups) // BOTTOM_UP_SECTIONS)
    return [list(groups[start : start + size]) for start in range(0, len(groups), max(size, 1))]
