"""How much each unit of a group matters, by one of the criteria of the literature. Higher matters more.

l1, l2: norm of the weights that make and read the unit (Li et al., "Pruning Filters for Efficient ConvNets", 2017).
taylor: squared first-order change of the loss when the unit goes, averaged over small batches (Molchanov et al.,
"Importance Estimation for Neural Network Pruning", 2019). lamp: squared norm relative to that of all units at least as
large, which makes groups comparable (Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning", 2021).
bn_scale: the batch norm's scale (Liu et al., "Network Slimming", 2017); groups without a batch norm go by l2.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from autocompress_plugins.layer_kinds import BATCH_NORMS, CONVOLUTIONS
from autocompress_plugins.shrinking.dependency_graph import by_channel
from autocompress_plugins.shrinking.groups import Group
from autocompress_plugins.shrinking.recurrent_layers import RecurrentLayer

OfWeights = Callable[[Tensor], Tensor]  # of a parameter: its weights, or weights times gradients


def importance(model: nn.Module, group: Group, criterion: str) -> Tensor:
    """Importance of each unit of ``group`` -> (size,) by a criterion that needs no data, scaled to a mean of one (lamp:
    a share each).
    """
    if criterion == "bn_scale":
        scales = _summed(model, group, torch.abs, norms=True)
        if scales.any():
            return _scaled(scales)
        criterion = "l2"
    if criterion == "l1":
        return _scaled(_summed(model, group, torch.abs))
    squares = _summed(model, group, torch.square)
    if criterion == "l2":
        return _scaled(squares.sqrt())
    order = squares.argsort(stable=True)
    ascending = squares[order]
    at_least = ascending.flip(0).cumsum(0).flip(0)
    return torch.empty_like(squares).scatter_(0, order, ascending / at_least.clamp(min=1e-12))


def taylor(model: nn.Module, groups: Sequence[Group], losses: Iterable[Tensor]) -> dict[str, Tensor]:
    """Importance of each group's units -> root: (size,), scaled to a mean of one.

    losses: of one small batch after another. Over many examples the gradients of a trained model add up to nothing.
    """
    found = {group.root: torch.zeros(group.size) for group in groups}
    for loss in losses:
        model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for group in groups:
            found[group.root] += _summed(model, group, lambda w: w, gradients=True).square()
    model.zero_grad()
    return {root: _scaled(values) for root, values in found.items()}


def _scaled(values: Tensor) -> Tensor:
    return values / values.mean().clamp(min=1e-12)


def _summed(
    model: nn.Module, group: Group, reduce: OfWeights, *, norms: bool = False, gradients: bool = False
) -> Tensor:
    """Sum of ``reduce`` over all the weights that go with each unit -> (size,)."""

    def value(parameter: Tensor) -> Tensor:
        gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        return (parameter * gradient if gradients else parameter).detach()

    total = torch.zeros(group.size)
    for member in group.members:
        module = model.get_submodule(member.module)
        if isinstance(module, BATCH_NORMS) != norms:
            continue
        rows = _rows(module, member.side, value)
        if rows is not None:
            each = reduce(rows[list(member.indices)]).flatten(1).sum(1)
            total.index_add_(0, torch.tensor(member.units), each)
    return total


def _rows(module: nn.Module, side: str, value: OfWeights) -> Tensor | None:
    """The weights of a module that go with each of its channels -> (channels, ...); None when it has none."""
    if isinstance(module, BATCH_NORMS):
        return None if module.weight is None else value(module.weight)[:, None]
    if isinstance(module, RecurrentLayer):
        return _recurrent_rows(module, side, value)
    if isinstance(module, nn.Embedding):
        return value(module.weight).T
    if isinstance(module, (*CONVOLUTIONS, nn.Linear)):
        return by_channel(module, value(module.weight), side).flatten(0, 1)
    return None


def _recurrent_rows(module: RecurrentLayer, side: str, value: OfWeights) -> Tensor:
    found = []
    for d in range(module.directions):
        inputs, recurrent = module.matrices(d, value)
        if side == "in":
            found.append(inputs.permute(2, 0, 1).flatten(1))
        else:
            found.append(torch.cat([inputs.transpose(0, 1).flatten(1), recurrent.transpose(0, 1).flatten(1)], 1))
    return torch.cat(found, 1 if side == "in" else 0)
