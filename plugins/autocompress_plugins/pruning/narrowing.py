"""From groups to a plan: how much of each kind goes, which units, in what order."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from autocompress.data import Split, call, primary
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context, Plan, Sensitivity
from autocompress_plugins.pruning import allocation
from autocompress_plugins.pruning.channel_graph import ChannelGraph
from autocompress_plugins.pruning.group_check import why_wrong
from autocompress_plugins.pruning.groups import HEADS, Group, Survey
from autocompress_plugins.pruning.importance import importance, taylor
from autocompress_plugins.pruning.prunable import prunable
from autocompress_plugins.pruning.removal import remove
from autocompress_plugins.pruning.state import state_of
from autocompress_plugins.pruning.training_loss import examples_for, mean_loss, most_sensitive_first, rise
from autocompress_plugins.reasons import because

TAYLOR_BATCH = 16
SENSITIVITY_EXAMPLES = 128
SECTIONS = 4  # from the bottom of the model to its top
TAYLOR_COST = 3 * (SECTIONS + 1)  # forward passes: a backward one is two, and each section is done anew


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


class Narrowing:
    """Plans and carries out the removal of units."""

    def __init__(self) -> None:
        self._graph = ChannelGraph()
        # By data, state of the model, and groups: an instance serves many plans.
        self._rise: dict[tuple[Split, str, str], float] = {}
        self._taylor: dict[tuple[Split, str, tuple[Group, ...]], dict[str, Tensor]] = {}

    def refuses(self, context: Context, kinds: frozenset[str], nothing: str) -> str | None:
        """Why no group of these kinds can shrink. The first that can is enough."""
        try:
            survey = self._graph.survey(context.model, context.example_inputs, kinds, sure=1)[1]
        except CandidateFailed as error:
            return error.reason
        return None if survey.groups else because(nothing, survey.reasons)

    def left_alone(self, context: Context, kinds: frozenset[str]) -> dict[str, str]:
        """Why parts of these kinds keep their size, by name; none of a model that cannot be seen, which is refused."""
        try:
            return self._graph.survey(context.model, context.example_inputs, kinds)[1].reasons
        except CandidateFailed:
            return {}

    def plan(self, model: nn.Module, amount: Amount, context: Context) -> Plan:
        """Which units of which group go. Raises CandidateFailed when nothing would, or when it would be wrong.

        The groups are taken on trust and what is planned is checked as a whole; only when that fails is each group
        checked by itself, and the wrong ones are left.
        """
        try:
            return self._planned(model, amount, context, sure=0)
        except Exception:  # a wrong group breaks the model in any way, and wherever units are removed on the way
            return self._planned(model, amount, context, sure=None)

    def _planned(self, model: nn.Module, amount: Amount, context: Context, sure: int | None) -> Plan:
        inputs = context.example_inputs
        whole, survey = self._graph.survey(model, inputs, frozenset(amount.ratios), sure=sure)
        removals = self._removals(whole, survey, amount, context)
        reason = why_wrong(whole, inputs, {g: removals[g.root] for g in survey.groups if g.root in removals})
        if reason is not None:
            raise CandidateFailed(reason)
        return {"remove": removals}

    def _removals(self, whole: nn.Module, survey: Survey, amount: Amount, context: Context) -> dict[str, list[int]]:
        """Root of a group -> units, in the order in which they go."""
        inputs, model = context.example_inputs, copy.deepcopy(whole)
        if not survey.groups:
            raise CandidateFailed(because("nothing is left that can shrink", survey.reasons))
        groups = [group for group in survey.groups if amount.ratios[group.kind] > 0]
        widths = self._widths(model, groups, amount, context)
        removals: dict[str, list[int]] = {}
        found: dict[str, list[int]] = {}
        for section in _sections(groups) if amount.bottom_up else [groups]:
            if found:  # where the other groups lie in layers that read several has moved
                model, survey = self._graph.survey(remove(model, inputs, found), inputs, sure=0)
                section = [group for group in survey.groups if group.root in {own.root for own in section}]
            values = self.importances(model, section, amount.criterion, context)
            found = {
                group.root: units
                for group in section
                if (units := _least(values[group.root], group, widths[group.root]))
            }
            removals |= found
        if not removals:
            raise CandidateFailed("nothing would be removed: every group keeps its width at this ratio")
        return removals

    def apply(self, model: nn.Module, plan: Plan, context: Context) -> nn.Module:
        prunable(model, context.example_inputs)
        return remove(model, context.example_inputs, plan["remove"])

    def sensitivity(self, context: Context, kinds: frozenset[str]) -> list[Sensitivity]:
        """What removing half of each group costs, most sensitive first."""
        model, survey = self._graph.survey(context.model, context.example_inputs, kinds)
        losses = self._rises(model, survey.groups, context)
        return most_sensitive_first(
            [
                Sensitivity(group.root, group.size, 1 - _half(group) / group.size, float(loss))
                for group, loss in zip(survey.groups, losses, strict=True)
            ]
        )

    def _widths(self, model: nn.Module, groups: Sequence[Group], amount: Amount, context: Context) -> dict[str, int]:
        """Units that each group keeps."""
        widths: dict[str, int] = {}
        for kind, ratio in amount.ratios.items():
            own = [group for group in groups if group.kind == kind]
            if not own:
                continue
            shares = allocation.uniform(ratio, len(own))
            if amount.allocation == "global":
                values = self.importances(model, groups, amount.criterion, context)
                shares = allocation.by_importance([values[group.root].double().numpy() for group in own], ratio)
            elif amount.allocation == "sensitivity":
                losses, costs = self._known_rises(model, own, context), np.array([group.macs for group in own])
                shares = allocation.by_sensitivity(np.maximum(losses, 0.0), costs, ratio)
            for group, share in zip(own, shares, strict=True):
                run = group.size // group.blocks
                round_to = 1 if kind == HEADS else amount.round_to
                widths[group.root] = group.blocks * allocation.rounded(run * (1 - share), run, round_to)
        return widths

    def importances(
        self, model: nn.Module, groups: Sequence[Group], criterion: str, context: Context
    ) -> dict[str, Tensor]:
        """Importance of each group's units -> root: (size,)."""
        if criterion != "taylor":
            return {group.root: importance(model, group, criterion) for group in groups}
        key = (context.train, state_of(model), tuple(groups))
        if key not in self._taylor:
            batches = context.train_batches(examples_for(context, TAYLOR_COST), TAYLOR_BATCH)
            losses = (context.task.loss_fn(primary(call(model.eval(), b.inputs)), b.targets) for b in batches)
            self._taylor = {key: taylor(model, groups, losses)}  # of the model last asked about
        return self._taylor[key]

    def _known_rises(self, model: nn.Module, groups: Sequence[Group], context: Context) -> allocation.Floats:
        """``_rises`` of the reference, for the groups it has too: its weights are trained, and what the loss of a model
        that other steps have changed rises by says little.
        """
        kinds, roots = frozenset(group.kind for group in groups), {group.root for group in groups}
        reference, survey = self._graph.survey(context.model, context.example_inputs, kinds)
        shared = [group for group in survey.groups if group.root in roots]
        known = dict(zip((g.root for g in shared), self._rises(reference, shared, context), strict=True))
        others = [group for group in groups if group.root not in known]
        known |= zip((g.root for g in others), self._rises(model, others, context), strict=True)
        return np.array([known[group.root] for group in groups])

    def _rises(self, model: nn.Module, groups: Sequence[Group], context: Context) -> allocation.Floats:
        """By how much the training loss rises when half of a group goes, without training -> (groups,); infinite where
        what is left gives no number.
        """
        state, loss_fn = state_of(model), context.task.loss_fn
        unknown = [group for group in groups if (context.train, state, group.root) not in self._rise]
        if unknown:
            examples = min(SENSITIVITY_EXAMPLES, examples_for(context, len(unknown)))
            batches = list(context.train_batches(examples))
            base = mean_loss(model, batches, loss_fn)
            for group in unknown:
                units = _least(importance(model, group, "l2"), group, _half(group))
                trial = remove(copy.deepcopy(model), context.example_inputs, {group.root: units})
                self._rise[context.train, state, group.root] = rise(mean_loss(trial, batches, loss_fn), base)
        return np.array([self._rise[context.train, state, group.root] for group in groups])


def _half(group: Group) -> int:
    """The width of which half is gone, or as near to it as its blocks allow."""
    return max(group.blocks, round(group.size / 2 / group.blocks) * group.blocks)


def _least(values: Tensor, group: Group, width: int) -> list[int]:
    """The least important units beyond ``width``, equally many from each block."""
    run = group.size // group.blocks
    count = run - width // group.blocks
    order = values.reshape(group.blocks, run).argsort(dim=1, stable=True)[:, :count]
    return sorted((order + run * torch.arange(group.blocks)[:, None]).flatten().tolist())


def _sections(groups: Sequence[Group]) -> list[list[Group]]:
    """The groups in a few runs, in the order of the model."""
    size = -(-len(groups) // SECTIONS)
    return [list(groups[start : start + size]) for start in range(0, len(groups), max(size, 1))]
