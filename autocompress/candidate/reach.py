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
    before, after = _layers(opened.context.model), _layers(built)
    changed = tuple(name for name, own in before.items() if after.get(name) != own)
    made = make(opened, UntrainedFiles(recipe, exporter))
    return Reach(changed, len(before), made.macs / max(1, macs))


def _layers(model: nn.Module) -> dict[str, Sequence[Any]]:
    """The shapes of the weights of each layer that has any, by name."""
    held = {
        name: [(key, tuple(own.shape)) for key, own in module.named_parameters(recurse=False)]
        for name, module in model.named_modules()
    }
    return {name: own for name, own in held.items() if own}
