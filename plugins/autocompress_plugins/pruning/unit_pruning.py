"""What the strategies that prune units share: which parameters, and how ``narrowing`` plans and carries them out."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import nn

from autocompress.plugin.contract import (
    Context,
    Counterparts,
    Parameter,
    Params,
    Plan,
    ShrinkableGroup,
    StructureStrategy,
)
from autocompress_plugins.shrinking import narrowing
from autocompress_plugins.shrinking.counterparts import narrowed_counterparts
from autocompress_plugins.shrinking.narrowing import Amount

RATIO = Parameter("ratio", tuple(round(0.1 + 0.05 * i, 2) for i in range(17)), 0.5, by_strength=True)
CRITERIA = ("l1", "l2", "taylor", "surgeon")
ALLOCATION = Parameter("allocation", ("uniform", "global", "sensitivity"), "uniform")


def importance_parameter(*more: str) -> Parameter:
    """The criteria that are offered everywhere, and ``more``."""
    return Parameter("importance", (*CRITERIA, *more), "surgeon")


class UnitPruning(StructureStrategy):
    """kinds: of the groups whose units go. nothing: why it does not apply where no such group can shrink."""

    kinds: frozenset[str]
    nothing: str

    @abstractmethod
    def amount(self, params: Params) -> Amount:
        """How much of each kind goes, and how; importance and allocation are added to it."""

    def refuses(self, context: Context) -> str | None:
        return narrowing.refuses(context, self.kinds, self.nothing)

    def plan(self, model: nn.Module, params: Params, context: Context) -> Plan:
        amount = self.amount(params)
        amount = replace(amount, criterion=str(params["importance"]), allocation=str(params["allocation"]))
        return narrowing.plan(model, amount, context)

    def apply(self, model: nn.Module, plan: Plan, context: Context) -> nn.Module:
        return narrowing.apply(model, plan, context)

    def counterparts(self, model: nn.Module, plan: Plan, context: Context) -> Counterparts:
        return narrowed_counterparts(model, plan["remove"], context)

    def shrinkable_groups(self, context: Context) -> Sequence[ShrinkableGroup]:
        return narrowing.shrinkable_groups(context, self.kinds)

    def left_alone(self, context: Context) -> Mapping[str, str]:
        return narrowing.left_alone(context, self.kinds)
