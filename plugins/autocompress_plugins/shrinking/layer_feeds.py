"""Which layers inside a module feed which other one: what one gives reaches what the other reads, through no third."""

import copy
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from autocompress_plugins.model_runs import ModuleCall


@dataclass(frozen=True)
class Feeding:
    """layers: those that feed one, in the order in which they were called. places_meet: whether what it reads for one
    place of a sequence comes of other places of theirs.
    """

    layers: tuple[nn.Linear, ...]
    places_meet: bool


def feeding(module: nn.Module, call: ModuleCall, layers: Collection[nn.Linear]) -> dict[nn.Linear, Feeding]:
    """For each of these layers inside ``module`` what feeds it in a call like ``call``; not of those that are called
    more than once or never, and of none where gradients cannot be followed.
    """
    originals = tuple(layers)
    gave: dict[nn.Linear, Tensor] = {}
    read: dict[nn.Linear, Tensor] = {}
    again: set[nn.Linear] = set()

    def cut(layer: nn.Linear, given: tuple[Any, ...], out: Tensor) -> Tensor:
        """What comes after is followed back to here, and no further."""
        if layer in gave:
            again.add(layer)
        read[layer], gave[layer] = given[0], out.detach().requires_grad_()
        return gave[layer]

    try:  # of a copy, which may keep what it computes
        module, args, named, copies = copy.deepcopy((module, call.args, dict(call.named), originals))
        for layer in copies:
            layer.register_forward_hook(cut)
        with torch.enable_grad():
            module(*args, **named)
        order = {own: gave[own] for own in gave if own not in again}
        original = dict(zip(copies, originals, strict=True))
        found = {original[layer]: _feeding(read[layer], order) for layer in order}
    except Exception:  # the model's own code, followed in a way that it may not know
        return {}
    return {layer: Feeding(tuple(original[own] for own in fed.layers), fed.places_meet) for layer, fed in found.items()}


def _feeding(x: Tensor, gave: dict[nn.Linear, Tensor]) -> Feeding:
    if not x.requires_grad or x.dim() < 3:
        return Feeding((), False)
    generator, reached, meet = torch.Generator().manual_seed(0), set[nn.Linear](), False
    axis, sources = x.dim() - 2, list(gave.values())
    for place in (0, -1):  # of a causal one the first place sees itself alone
        part = x.select(axis, place)
        weighed = (part * torch.randn(part.shape, generator=generator, dtype=part.dtype)).sum()
        for layer, slopes in zip(
            gave, torch.autograd.grad(weighed, sources, retain_graph=True, allow_unused=True), strict=True
        ):
            if slopes is None or not slopes.any():
                continue
            reached.add(layer)
            if slopes.dim() == x.dim() and slopes.shape[axis] > 1:
                others = slopes.shape[axis] - 1
                meet |= bool(slopes.narrow(axis, 1 if place == 0 else 0, others).any())
    return Feeding(tuple(layer for layer in gave if layer in reached), meet)
