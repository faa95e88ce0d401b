"""Running a model once, and seeing what the modules inside it are given and give."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from autocompress.data import call
from autocompress.nested import primary, tensors_of
from autocompress.plain_model import evaluating
from autocompress.task import Inputs

SAME_OUTPUT = 1e-4  # of the output's range

# Of each call: the module's name, the module, what it is given (positional, then named), what it gives.
See = Callable[[str, nn.Module, tuple[Any, ...], Any], object]


def output(model: nn.Module, inputs: Inputs) -> Tensor:
    """What the model gives that is scored, (N, ...): in evaluation mode, in which it stays, and without gradients."""
    with torch.no_grad():
        return primary(call(evaluating(model), inputs))


def outputs(model: nn.Module, inputs: Inputs) -> tuple[Tensor, ...]:
    """All that the model gives, in evaluation mode, in which it stays, and without gradients."""
    with torch.no_grad():
        return tensors_of(call(evaluating(model), inputs))


def same_outputs(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    """Whether each of the outputs agrees, as by ``same_output``."""
    return len(one) == len(other) and all(map(same_output, one, other))


def shapes_of(given: Sequence[Tensor]) -> list[torch.Size]:
    return [tensor.shape for tensor in given]


def same_output(one: Tensor, other: Tensor) -> bool:
    """Whether two outputs agree to 1e-4 of their range."""
    if one.shape != other.shape:
        return False
    if not one.numel() or not one.is_floating_point():
        return torch.equal(one, other)
    return bool((one - other).abs().max() <= SAME_OUTPUT * (other.max() - other.min()).clamp(min=1e-6))


@contextmanager
def watched(modules: Iterable[tuple[str, nn.Module]], see: See) -> Iterator[None]:
    """While open, ``see`` is called after each call of these modules."""

    def show(name: str, module: nn.Module, args: tuple[Any, ...], named: dict[str, Any], gave: Any) -> None:
        see(name, module, (*args, *named.values()), gave)

    handles = [module.register_forward_hook(partial(show, name), with_kwargs=True) for name, module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class ModuleCall:
    """One call of a module: what it was given, copied before it could change, and what it gave."""

    args: tuple[Any, ...]
    named: Mapping[str, Any]
    gave: Any


def inner_outputs(model: nn.Module, inputs: Inputs, names: Sequence[str]) -> dict[str, Tensor]:
    """What the named modules give while the model runs, in evaluation mode; of a tuple the first tensor."""
    found: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, given: tuple[Any, ...], gave: Any) -> None:
        found[name] = primary(gave)

    with watched(((name, model.get_submodule(name)) for name in names), keep):
        output(model, inputs)
    return found
