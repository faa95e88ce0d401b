"""In which order blocks are taken out: least harmful first.

The harm is the task's own loss on training examples, measured again after each drop. It is measured on the reference,
whose weights are trained: what the loss of a model that other steps have changed rises by says little. Of a slow
reference with many blocks it is measured on fewer examples, and only once where even these would take too long. It is
the reference's own, whoever asks, so that all strategies which drop blocks measure it once for a task.
"""

import copy
from collections.abc import Callable, Collection, Sequence

from torch import nn

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context
from autocompress_plugins.fitting_parts import FittingParts
from autocompress_plugins.reasons import because
from autocompress_plugins.shrinking.block_removal import without
from autocompress_plugins.shrinking.blocks import droppable
from autocompress_plugins.shrinking.training_loss import (
    LOSS_EXAMPLES,
    LOSSES_S,
    affordable,
    mean_loss,
    seconds_an_example,
)

SHORTLIST = 3  # of the blocks that did least harm alone, measured again after each drop


def droppable_of_reference(context: Context) -> FittingParts:
    """What can be dropped from the reference."""
    return context.once("pruning.droppable_blocks", lambda: droppable(context.model, context.example_inputs))


def most_dropped(context: Context) -> int:
    """How many blocks may go from the reference: all that can but one, or the only one."""
    can = len(droppable_of_reference(context).names)
    return min(can, max(1, can - 1))


def least_harmful(model: nn.Module, count: int, context: Context, within_s: float = LOSSES_S) -> list[str]:
    """``count`` blocks of ``model``, in the order in which they go; of more blocks the first are those of fewer. Raises
    CandidateFailed when fewer can. within_s: seconds to find the order in, about, where it is not known yet.
    """
    found = droppable(model, context.example_inputs)
    if not found.names:
        raise CandidateFailed(because("no block is left that can be dropped", found.kept))
    if len(found.names) < count:
        raise CandidateFailed(
            f"{count} blocks are to be dropped and only {len(found.names)} can be: {', '.join(found.names)}"
        )
    order = context.once("pruning.block_order", lambda: _affordable_order(context, within_s))
    return order.first(count, found.names)


def losses_without(context: Context, examples: int = LOSS_EXAMPLES[0]) -> Callable[[Collection[str]], float]:
    """What the reference's loss over the same training examples is without some units; infinite where it is no
    number.
    """
    batches = list(context.train_batches(examples))

    def loss_without(dropped: Collection[str]) -> float:
        return mean_loss(without(copy.deepcopy(context.model), dropped), batches, context.task.loss_fn)

    return loss_without


def _affordable_order(context: Context, within_s: float) -> "_BlockOrder":
    """The best order that there is time for."""
    names, each = droppable_of_reference(context).names, seconds_an_example(context)
    if examples := affordable(each, len(names) * (1 + SHORTLIST), within_s):
        return _BlockOrder(losses_without(context, examples), names, SHORTLIST)
    examples = affordable(each, len(names), within_s) or LOSS_EXAMPLES[-1]
    return _BlockOrder(losses_without(context, examples), names, 1)


class _BlockOrder:
    """The units in the order in which they go, found as far as it was asked for. shortlist: how many are measured again
    after each drop; 1 for none.
    """

    def __init__(self, loss_without: Callable[[Collection[str]], float], names: Sequence[str], shortlist: int) -> None:
        self._loss_without = loss_without
        self._shortlist = shortlist
        alone = {name: loss_without([name]) for name in names}
        self._left = sorted(names, key=alone.__getitem__)
        self._gone: list[str] = []

    def first(self, count: int, names: Sequence[str]) -> list[str]:
        """``count`` of ``names``; those that the reference could not do without come last."""
        chosen = [name for name in self._gone if name in names]
        while self._left and len(chosen) < count:
            near = self._left[: self._shortlist]
            least = min(near, key=lambda name: self._loss_without([*self._gone, name])) if len(near) > 1 else near[0]
            self._left.remove(least)
            self._gone.append(least)
            chosen += [least] if least in names else []
        return [*chosen, *(name for name in names if name not in self._gone)][:count]
