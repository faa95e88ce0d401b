"""A changed model repaired, front to back, in one run over the calibration examples.

Each layer that stands for one of the original is refitted in the moment in which the run reaches it: it reads what the
layers before it give after their own repair, and what follows reads what it gives after its. The statistics of a batch
norm are recalibrated in the same moment.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from autocompress.candidate.repair.original import (
    BATCH_NORM_LAYERS,
    LINEAR_LAYERS,
    RECURRENT_CORES,
    GaveRows,
    GaveStates,
    OriginalRun,
    Statistics,
    by_example,
    first_tensor,
)
from autocompress.candidate.repair.refitting import LayerFit, refit_matrix, refit_recurrent
from autocompress.data import call
from autocompress.errors import CandidateFailed
from autocompress.kept_parts import is_frozen, why_kept
from autocompress.nested import Nested, tensors_of
from autocompress.plain_model import evaluating
from autocompress.plugin.contract import Counterpart, Counterparts
from autocompress.task import Inputs

LEAST_VAR = 1e-8  # of a channel, before or now, below which the variance that its norm goes by is left


@dataclass(frozen=True)
class Repair:
    """fits: of the layers that were refitted, in the order in which the model calls them. error: of the output,
    squared, as a share of the original's spread; before: with norms recalibrated and nothing refitted.
    """

    fits: tuple[LayerFit, ...]
    before: float
    error: float


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
    changed.load_state_dict(untouched)
    fits, error = _run(changed, counterparts, original, inputs, goes_on)
    if math.isfinite(error) and not error >= before:
        return Repair(tuple(fits), before, error)
    changed.load_state_dict(recalibrated if math.isfinite(before) else untouched)
    return Repair((), before, before)


def _run(
    changed: nn.Module,
    counterparts: Counterparts,
    original: OriginalRun,
    inputs: Inputs,
    goes_on: Callable[[], bool],
) -> tuple[list[LayerFit], float]:
    """The fits, and the error of the output."""
    fits: list[LayerFit] = []
    shared = _shared(changed)
    stays = {own.layer for own in counterparts.layers if _stays(changed.get_submodule(own.layer))}
    norms = {
        own.original
        for own in counterparts.layers
        if own.layer not in stays and isinstance(original.once(own.original), Statistics)
    }

    def reach(counterpart: Counterpart, layer: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        given, gave = first_tensor(args, named), original.once(counterpart.original)
        if given is None or gave is None or counterpart.layer in stays:
            return
        outputs = torch.tensor(counterpart.outputs)
        if isinstance(layer, BATCH_NORM_LAYERS) and isinstance(gave, Statistics):
            _recalibrate(layer, Statistics.of(given), gave, outputs)
            return
        if counterpart.layer in shared or not goes_on():
            return
        # A layer of which the rows cannot be told by example, or whose fit fails, stays as it is.
        with suppress(CandidateFailed, RuntimeError):
            if isinstance(layer, LINEAR_LAYERS) and isinstance(gave, GaveRows):
                normed = original.norms.get(counterpart.original) in norms
                fits.extend(
                    refit_matrix(
                        counterpart.layer, layer, given, gave, outputs, examples=original.examples, normed=normed
                    )
                )
            elif isinstance(layer, RECURRENT_CORES) and isinstance(gave, GaveStates):
                whole = counterparts.whole.get_submodule(counterpart.original)
                assert isinstance(whole, nn.RNNBase)
                now = by_example(layer, given)
                fits.extend(refit_recurrent(counterpart.layer, layer, whole, now, gave, outputs))

    handles = [
        changed.get_submodule(own.layer).register_forward_pre_hook(partial(reach, own), with_kwargs=True)
        for own in counterparts.layers
    ]
    try:
        with torch.no_grad():
            returned = call(evaluating(changed), inputs)
    finally:
        for handle in handles:
            handle.remove()
    return fits, relative_output_error(returned, original.output)


def _stays(layer: nn.Module) -> bool:
    return why_kept(layer) is not None or is_frozen(layer)


def _recalibrate(norm: nn.Module, now: Statistics, before: Statistics, outputs: Tensor) -> None:
    """Move the statistics of a batch norm by as much as what it reads has moved on the same examples: what the sample
    says otherwise than the training data did cancels.
    """
    if getattr(norm, "running_mean", None) is None:
        return
    mean, var = before.mean[outputs], before.var[outputs]
    assert isinstance(norm.running_mean, Tensor)
    assert isinstance(norm.running_var, Tensor)
    varies = (var > LEAST_VAR) & (now.var > LEAST_VAR)
    scale = torch.where(varies, now.var / var.clamp(min=LEAST_VAR), 1.0)
    norm.running_mean.copy_(norm.running_mean.double() * scale.sqrt() + now.mean - mean * scale.sqrt())
    norm.running_var.copy_(norm.running_var.double() * scale)


def _shared(model: nn.Module) -> set[str]:
    """Names of the layers of which a parameter is held elsewhere in the model too."""
    holders: dict[int, list[str]] = {}
    for name, _ in model.named_parameters(remove_duplicate=False):
        path = name.rpartition(".")[0]
        holders.setdefault(id(model.get_parameter(name)), []).append(path)
    return {path for paths in holders.values() if len(paths) > 1 for path in paths}


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
