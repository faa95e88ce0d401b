"""What a structural strategy can do to the reference: which layers it changes, and how much is left to compute."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from autocompress.candidate.make import make
from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.request import UntrainedFiles
from autocompress.candidate.structure import build
from autocompress.plugin.contract import Applicable
from autocompress.recipe import Recipe, Step


@dataclass(frozen=True)
class Reach:
    """Of a strategy at its strongest. layers: those of the reference's with weights that are other ones then, or gone.
    of: how many there are. macs: the share of the multiply-accumulates that is left.
    """

    layers: tuple[str, ...]
    of: int
    macs: float


def reach_of(opened: OpenTask, strategy: Applicable, exporter: str, macs: int) -> Reach:
    """macs: of the reference. Raises CandidateFailed."""
    strongest = {p.name: p.choices[-1] if p.by_strength else p.default for p in strategy.parameters}
    recipe = Recipe((Step.of(strategy.name, **strongest),))
    built, _ = build(recipe, opened.context, opened.plugins, None, opened.plans)
    made = make(opened, UntrainedFiles(recipe, exporter))
    changed = changed_layers(opened.context.model, built)
    return Reach(changed, len(_layers(opened.context.model)), made.macs / max(1, macs))


def changed_layers(model: nn.Module, built: nn.Module) -> tuple[str, ...]:
    """The layers of ``model`` with weights that have others in ``built``, or are gone. One that only has another form
    there (a recurrent layer or an attention that could lose units) has not changed while what holds it has as many
    weights.
    """
    before, after = _layers(model), _layers(built)
    held, holding = _held(model), _held(built)

    def as_many(name: str) -> bool:
        while name not in holding:
            name = name.rpartition(".")[0]
        return held[name] == holding[name]

    return tuple(
        name for name, own in before.items() if after.get(name) != own and (name in after or not as_many(name))
    )


def _held(model: nn.Module) -> dict[str, int]:
    """How many weights each module holds, by name."""
    return {name: sum(own.numel() for own in module.parameters()) for name, module in model.named_modules()}


def _layers(model: nn.Module) -> dict[str, Sequence[Any]]:
    """The shapes of the weights of each layer that has any, by name."""
    held = {
        name: [(key, tuple(own.shape)) for key, own in module.named_parameters(recurse=False)]
        for name, module in model.named_modules()
    }
    return {name: own for name, own in held.items() if own}
