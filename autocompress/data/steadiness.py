"""Whether a model answers alike when it is asked alike: one that draws numbers, or keeps something of earlier calls, is
no function that a file could compute.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from autocompress.data.layout import returned_for
from autocompress.data.seeding import seeded
from autocompress.errors import UsageError
from autocompress.nested import Nested, tensors_of

SAME_AGAIN = 1e-3  # of the range of what is given, as an exported file has to agree
ASKED_AT = 0
SEEDED = 4  # calls that draw the same: what is kept of earlier calls may change every few calls alone
LOOKED_FOR = 8  # pairs of calls: two may draw the same by chance, of few numbers
Calls = list[tuple[str, tuple[Tensor, ...], tuple[Tensor, ...]]]  # of modules, as they end: name, given, gave


def refuse_unsteady(model: nn.Module, inputs: Nested, answered: Nested) -> None:
    """Raises UsageError naming the layer by which a model in evaluation mode answers otherwise when it is asked the
    same once more. answered: what it gave for these inputs.
    """
    if _are_alike(tensors_of(answered), _answers(model, inputs)):
        return
    where = _where(model, inputs)  # at once: what is kept of calls that are all alike may settle
    first, *others = (_seeded_answers(model, inputs, ASKED_AT) for _ in range(SEEDED))
    is_drawn = not _are_alike(first, _seeded_answers(model, inputs, ASKED_AT + 1))
    if is_drawn and all(_are_alike(first, other) for other in others):
        raise UsageError(
            f"the model answers by chance: asked the same again, {where} gives something else; draw nothing in "
            "evaluation mode (dropout(..., training=self.training)), or draw outside of the model and give it as an "
            "input"
        )
    raise UsageError(
        f"what the model answers depends on what it was asked before: asked the same again, {where} gives something "
        "else; begin anew in each call, or take what it keeps as an input and return it"
    )


def _answers(model: nn.Module, inputs: Nested) -> tuple[Tensor, ...]:
    return tensors_of(returned_for(model, inputs))


def _seeded_answers(model: nn.Module, inputs: Nested, seed: int) -> tuple[Tensor, ...]:
    with seeded(seed):
        return _answers(model, inputs)


def _where(model: nn.Module, inputs: Nested) -> str:
    """The innermost module that is given the same in two calls and gives something else."""
    for _ in range(LOOKED_FOR):
        first, second = _called(model, inputs), _called(model, inputs)
        for (name, *one), (_name, *other) in zip(first, second, strict=False):
            if _are_alike(one[0], other[0]) and not _are_alike(one[1], other[1]):
                kind = type(model.get_submodule(name)).__name__
                return f"{name} ({kind})" if name else f"the forward of {kind} itself"
    return f"the forward of {type(model).__name__} itself"


def _called(model: nn.Module, inputs: Nested) -> Calls:
    found: Calls = []
    given: dict[int, list[tuple[Tensor, ...]]] = {}

    def before(module: nn.Module, arguments: tuple[Nested, ...], named: dict[str, Nested]) -> None:
        given.setdefault(id(module), []).append(_copied((arguments, named)))

    def after(name: str) -> Callable[[nn.Module, object, Nested], None]:
        def hook(module: nn.Module, arguments: object, output: Nested) -> None:
            found.append((name, given[id(module)].pop(), _copied(output)))

        return hook

    handles = []
    for name, module in model.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(module.register_forward_hook(after(name)))
    try:
        returned_for(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _copied(value: Nested) -> tuple[Tensor, ...]:
    return tuple(tensor.clone() for tensor in tensors_of(value))


def _are_alike(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    return len(one) == len(other) and all(map(_is_alike, one, other))


def _is_alike(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not one.is_floating_point() or not one.numel():
        return bool(torch.equal(one, other))
    one, other = one.double().nan_to_num(), other.double().nan_to_num()
    span = max(float(one.max() - one.min()), float(one.abs().max()), 1e-6)
    return float((one - other).abs().max()) <= SAME_AGAIN * span
