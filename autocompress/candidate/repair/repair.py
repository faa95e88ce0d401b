"""A changed model repaired, and what that did to its output; what does not help is taken back."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor, nn

from autocompress.candidate.repair.dropped_blocks import taking_over
from autocompress.candidate.repair.front_to_back import FrontToBack
from autocompress.candidate.repair.original import OriginalRun
from autocompress.candidate.repair.refitting import LayerFit
from autocompress.errors import CandidateFailed
from autocompress.nested import Nested, tensors_of
from autocompress.plugin.contract import Counterparts
from autocompress.task import Inputs


@dataclass(frozen=True)
class Repair:
    """fits: of the layers that were refitted, in that order. error: of the output,
    squared, as a share of the original's spread; before: with norms recalibrated and nothing refitted. on_few_rows: of
    the layers that were to be refitted, also where they stayed as they were, those with few rows for their width.
    """

    fits: tuple[LayerFit, ...]
    before: float
    error: float
    on_few_rows: tuple[LayerFit, ...] = ()


def repair(
    changed: nn.Module,
    counterparts: Counterparts,
    original: OriginalRun,
    inputs: Inputs,
    goes_on: Callable[[], bool] = lambda: True,
    *,
    refits: bool = True,
) -> Repair:
    """Repair ``changed`` in place. inputs: those that the original was run on. goes_on: asked before each layer whether
    it is refitted too; what it raises ends the repair. refits: whether layers are refitted, or norms recalibrated
    alone.
    """
    untouched = {name: value.clone() for name, value in changed.state_dict().items()}
    before = _run(changed, counterparts, original, inputs, lambda: False)[1]
    if not refits:
        if not math.isfinite(before):
            changed.load_state_dict(untouched)
        return Repair((), before, before)
    recalibrated = {name: value.clone() for name, value in changed.state_dict().items()}
    best, kept = Repair((), before, before), recalibrated if math.isfinite(before) else untouched
    for targets in filter(None, (original, taking_over(changed, counterparts, original, inputs))):
        changed.load_state_dict(untouched)
        tried, error = _run(changed, counterparts, targets, inputs, goes_on)
        on_few_rows = tuple(fit for fit in tried if fit.on_few_rows)
        best = replace(best, on_few_rows=best.on_few_rows or on_few_rows)
        if math.isfinite(error) and not error >= best.error:
            best = Repair(tuple(fit for fit in tried if fit.ridge is not None), before, error, on_few_rows)
            kept = {name: value.clone() for name, value in changed.state_dict().items()}
    changed.load_state_dict(kept)
    return best


def _run(
    changed: nn.Module,
    counterparts: Counterparts,
    original: OriginalRun,
    inputs: Inputs,
    goes_on: Callable[[], bool],
) -> tuple[tuple[LayerFit, ...], float]:
    """The fits, those included that left a layer as it was, and the error of the output."""
    work = FrontToBack(changed, counterparts, original, goes_on)
    returned = work.run(inputs)
    return work.fits, relative_output_error(returned, original.output)


def relative_output_error(returned: Nested, wanted: Nested) -> float:
    """Squared error of what a model returns, as a share of how far the original's outputs lie from their mean: the mean
    over the outputs. Raises CandidateFailed where they are not of the same shapes.
    """
    pairs = list(zip(tensors_of(returned), tensors_of(wanted), strict=False))
    if [one.shape for one in tensors_of(returned)] != [other.shape for other in tensors_of(wanted)]:
        raise CandidateFailed("the changed model returns other outputs than the original")
    errors = [_relative(one, other) for one, other in pairs if other.is_floating_point()]
    return sum(errors) / max(len(errors), 1)


def _relative(output: Tensor, wanted: Tensor) -> float:
    spread = (wanted - wanted.mean(0)).double().square().sum().clamp(min=1e-30)
    return float((output - wanted).double().square().sum() / spread)
