"""Modules that the dependency graph sees as one operation with inputs and outputs, whatever they compute inside."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class _Passage(torch.autograd.Function):
    """Zeros of the right shape that depend on the inputs and on one parameter: one node in the autograd graph."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, shape: Sequence[int], x: Tensor, *others: Tensor) -> Tensor:
        ctx.inputs = 3 + len(others)
        return x.new_zeros(shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, ...]:
        return (None,) * int(ctx.inputs)


class Opaque(nn.Module):
    """While ``opaque`` is set, ``forward`` gives a stand-in instead of computing; channels are the last dimension."""

    opaque = False

    def opaque_widths(self) -> tuple[int, int]:
        """Channels that it is given, and that it gives."""
        raise NotImplementedError

    def remove_outputs(self, removed: "list[int]") -> None:
        """Remove output channels, in place."""
        raise NotImplementedError

    def remove_inputs(self, removed: "list[int]") -> None:
        """Remove input channels, in place."""
        raise NotImplementedError

    def stand_in(self, x: Tensor, width: int, *others: Tensor) -> Tensor:
        """In the place of what is computed of x (..., I), and of others as wide -> (..., width)."""
        return self.stand_in_shaped((*x.shape[:-1], width), x, *others)

    def stand_in_shaped(self, shape: Sequence[int], x: Tensor, *others: Tensor) -> Tensor:
        """The same of this shape, whatever that of x is."""
        return _Passage.apply(next(self.parameters()), shape, x, *others)  # type: ignore[no-any-return, no-untyped-call]


@contextmanager
def out_of_the_graph() -> Iterator[None]:
    """While open, what is computed is no part of the dependency graph, which else has what the model's code computes
    without gradients too.
    """
    with torch._C.DisableTorchFunction(), torch.no_grad():
        yield


@contextmanager
def opaque(model: nn.Module) -> Iterator[None]:
    """While open, opaque modules are one operation each."""
    inside = [module for module in model.modules() if isinstance(module, Opaque)]
    for module in inside:
        module.opaque = True
    try:
        yield
    finally:
        for module in inside:
            module.opaque = False
