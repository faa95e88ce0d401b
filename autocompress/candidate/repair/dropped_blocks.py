"""The layer before a dropped block takes over what the block added.

In place of a dropped block something gives back what it is given. Where the output of a layer goes into that through
nothing but an addition, the layer's target is what it gave and what the block added to that. Follows: Shopkhoev et al.,
"ReplaceMe", 2025 (arXiv 2505.02819).
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from autocompress.candidate.repair.original import LINEAR_LAYERS, GaveRows, OriginalRun
from autocompress.candidate.repair.rows import rows_at
from autocompress.data import call, is_within, take_rows
from autocompress.nested import Nested
from autocompress.plain_model import evaluating
from autocompress.plugin.contract import Counterparts
from autocompress.task import Inputs

TRIED_EXAMPLES = 2  # on which it is told what lies between a layer and a block
SAME_SHIFT = 1e-3  # share of it, by which what comes of a shift may differ

Hook = Callable[..., Any]


def taking_over(
    changed: nn.Module, counterparts: Counterparts, original: OriginalRun, inputs: Inputs
) -> OriginalRun | None:
    """What the original gave, with what dropped blocks added to what the layers before them gave; None where no layer
    lies so before one. inputs: those that the original was run on.
    """
    whole, few = counterparts.whole, take_rows(inputs, slice(TRIED_EXAMPLES))
    blocks = _dropped(changed, whole)
    if not blocks:
        return None
    originals = {own.layer: own.original for own in counterparts.layers if _rows_of_one_call(original, own.original)}
    try:
        called = _called_before(changed, blocks, originals, few)
        added = {block: layer for block, layer in called.items() if _is_added(changed, layer, block, few)}
        before = {block: originals[layer] for block, layer in added.items()}
        return _with_added(whole, before, original, inputs) if before else None
    except Exception:  # rows cannot be told by example, or the model's own code fails on two examples or a shift
        return None


def _rows_of_one_call(original: OriginalRun, name: str) -> bool:
    return [type(gave) for gave in original.every_call(name)] == [GaveRows]


def _dropped(changed: nn.Module, whole: nn.Module) -> list[str]:
    """What had weights and has none; of modules inside each other the innermost."""
    now = dict(changed.named_modules())
    found = [name for name, own in whole.named_modules() if name in now and _weights(own) and not _weights(now[name])]
    return [name for name in found if not any(is_within(other, [name]) for other in found if other != name)]


def _weights(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _called_before(
    changed: nn.Module, blocks: Collection[str], layers: Collection[str], inputs: Inputs
) -> dict[str, str]:
    """By the block, which of the layers was called last before it."""
    called: list[str] = []
    found: dict[str, str] = {}

    def call_of(layer: str, *_: Any) -> None:
        called.append(layer)

    def reach(block: str, *_: Any) -> None:
        if called:
            found[block] = called[-1]

    linear = [name for name in layers if isinstance(changed.get_submodule(name), LINEAR_LAYERS)]
    hooks = {name: partial(call_of, name) for name in linear}
    _run(changed, inputs, before={name: partial(reach, name) for name in blocks}, after=hooks)
    return found


def _is_added(changed: nn.Module, layer: str, block: str, inputs: Inputs) -> bool:
    """Whether a block is given more by just as much as what the layer gives is shifted by, and gives it back."""
    given: list[Tensor] = []
    shifts: list[Tensor] = []

    def note(module: nn.Module, args: tuple[Any, ...], gave: Nested) -> None:
        if args and args[0] is gave and isinstance(gave, Tensor):
            given.append(args[0].clone())

    def shift(module: nn.Module, args: tuple[Any, ...], gave: Tensor) -> Tensor:
        noise = torch.randn(gave.shape, generator=torch.Generator().manual_seed(0)).to(gave)
        shifts.append(gave.std() * noise)
        return gave + shifts[-1]

    for hooks in ({block: note}, {block: note, layer: shift}):
        _run(changed, inputs, after=hooks)
    if [one.shape for one in given] != [one.shape for one in 2 * shifts] or len(shifts) != 1:
        return False
    off = given[1] - given[0] - shifts[0]
    return float(off.square().sum()) < SAME_SHIFT**2 * float(shifts[0].square().sum())


def _with_added(whole: nn.Module, before: Mapping[str, str], original: OriginalRun, inputs: Inputs) -> OriginalRun:
    """before: by the block, which layer of the original is to take over what it added."""
    taken = {layer: rows for layer in before.values() for rows in original.gave[layer] if isinstance(rows, GaveRows)}
    given: dict[str, Tensor] = {}

    def rows_of(layer: str, values: Tensor) -> Tensor:
        own: Any = whole.get_submodule(layer)
        return rows_at(own, values, original.examples, taken[layer].places)

    def reach(block: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        given[block] = rows_of(before[block], args[0])  # what follows may change it in place

    def leave(block: str, module: nn.Module, args: tuple[Any, ...], gives: Tensor) -> None:
        layer = before[block]
        added = rows_of(layer, gives) - given.pop(block)
        taken[layer] = replace(taken[layer], outputs=taken[layer].outputs + added)

    hooks = [{block: partial(hook, block) for block in before} for hook in (reach, leave)]
    _run(whole, inputs, before=hooks[0], after=hooks[1])
    return replace(original, gave={**original.gave, **{layer: [rows] for layer, rows in taken.items()}})


def _run(
    model: nn.Module, inputs: Inputs, *, before: Mapping[str, Hook] | None = None, after: Mapping[str, Hook]
) -> None:
    """Run a model with hooks before and after calls of modules, by their names."""
    handles = [model.get_submodule(name).register_forward_pre_hook(hook) for name, hook in (before or {}).items()]
    handles += [model.get_submodule(name).register_forward_hook(hook) for name, hook in after.items()]
    try:
        with torch.no_grad():
            call(evaluating(model), inputs)
    finally:
        for handle in handles:
            handle.remove()
