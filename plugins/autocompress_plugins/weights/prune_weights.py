"""Magnitude pruning while training: the smallest weights become zero, more of them as the training goes on.

Changes: the values of convolutions, linear and recurrent layers; their shapes stay, so the file compresses better and
runs no faster, unless the runtime skips zeros. Needs: nothing; an n:m pattern needs inputs in groups of m. Follows:
Zhu & Gupta, "To prune, or not to prune", 2017 (cubic schedule); Lin et al., "Dynamic Model Pruning with Feedback", ICLR
2020 (the pruned model's gradients also train a dense copy, from which weights come back until the schedule ends).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context, Parameter, Params, Strategy, TrainHook, TrainingStrategy
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.weights.matrices import matrices

autocompress_api = 2

SETTLED = 0.7  # share of the training after which the zeros stay where they are and the rest recovers
PATTERNS = ("2:4", "1:4")
INPUTS_SECOND = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.RNNBase, nn.MultiheadAttention)


class Masks(TrainHook):
    """scope: "global", "layer", or "n:m", which keeps n of every m inputs and brings its own sparsity."""

    def __init__(self, sparsity: float, scope: str) -> None:
        self._scope = scope
        self._group = 0
        if scope in PATTERNS:
            kept, self._group = (int(number) for number in scope.split(":"))
            sparsity = 1 - kept / self._group
        self._sparsity = sparsity
        self._done = 0.0  # of the schedule

    def wrap(self, model: nn.Module) -> nn.Module:
        self._weights = self._prunable(model)
        if not self._weights:
            raise CandidateFailed(
                f"the scope {self._scope} fits no layer: its inputs do not come in groups of {self._group or 1}"
            )
        self._masks = [weight != 0 for weight in self._weights]
        self._dense = [weight.detach().clone() for weight in self._weights]
        zeros = sum(int((~mask).sum()) for mask in self._masks)
        self._first = zeros / sum(mask.numel() for mask in self._masks)  # more than 0 on a later rung
        return model

    @torch.no_grad()
    def after_step(self, model: nn.Module, progress: float) -> None:
        self._follow()
        if self._done < 1:
            self._renew(min(1.0, progress / SETTLED))
        else:
            for weight, mask in zip(self._weights, self._masks, strict=True):
                weight.mul_(mask)

    def unwrap(self, model: nn.Module) -> nn.Module:
        self._weights = self._prunable(model)
        self.after_step(model, 1.0)
        return model

    def _follow(self) -> None:
        """Masks and dense copies to where the training has taken the weights."""
        self._masks = [m.to(weight.device) for m, weight in zip(self._masks, self._weights, strict=True)]
        self._dense = [d.to(weight.device) for d, weight in zip(self._dense, self._weights, strict=True)]

    def _prunable(self, model: nn.Module) -> list[nn.Parameter]:
        if not self._group:
            return list(matrices(model).values())
        return [weight for weight in matrices(model, INPUTS_SECOND).values() if weight.shape[1] % self._group == 0]

    def _renew(self, done: float) -> None:
        """Choose the masks anew for this point of the schedule. Where a weight was zero, what the optimizer made of it
        is its update, which goes to the dense copy.
        """
        parts = zip(self._weights, self._masks, self._dense, strict=True)
        self._dense = [torch.where(mask, weight, dense + weight) for weight, mask, dense in parts]
        self._done, last = done, max(self._sparsity, self._first)
        sparsity = last + (self._first - last) * (1 - done) ** 3
        sizes = [dense.abs() for dense in self._dense]
        if self._scope == "global":
            every = _largest(torch.cat([size.flatten() for size in sizes]), sparsity)
            split = torch.split(every, [size.numel() for size in sizes])
            self._masks = [part.view(size.shape) for part, size in zip(split, sizes, strict=True)]
        elif self._group:
            self._masks = [_largest_of_each(size, self._group, sparsity) for size in sizes]
        else:
            self._masks = [_largest(size.flatten(), sparsity).view(size.shape) for size in sizes]
        for weight, mask, dense in zip(self._weights, self._masks, self._dense, strict=True):
            weight.copy_(dense * mask)


def _largest_of_each(sizes: Tensor, group: int, sparsity: float) -> Tensor:
    """``_largest`` of every ``group`` consecutive inputs (dimension 1)."""
    inputs_last = sizes.movedim(1, -1)
    mask = _largest(inputs_last.reshape(-1, group), sparsity)
    return mask.view(inputs_last.shape).movedim(-1, 1)


def _largest(sizes: Tensor, sparsity: float) -> Tensor:
    """Where the largest of the last dimension are: all but ``sparsity`` of them."""
    count = sizes.shape[-1]
    kept = sizes.topk(count - round(sparsity * count), sorted=False).indices
    return torch.zeros_like(sizes, dtype=torch.bool).scatter_(-1, kept, True)


class PruneWeights(TrainingStrategy):
    name = "prune_weights"
    summary = "zero the smallest weights while training"

    def parameters(self, context: Context) -> Sequence[Parameter]:
        return (
            Parameter("sparsity", (0.5, 0.6, 0.7, 0.8, 0.9, 0.95), 0.8),
            Parameter("scope", ("global", "layer", *PATTERNS), "global"),
        )

    def refuses(self, context: Context) -> str | None:
        return None if matrices(context.model) else "no convolution, linear or recurrent layer"

    def size_only(self, context: Context) -> str | None:
        if "zeros" in context.runtime.faster_with(context.profile):
            return None
        return f"{context.runtime.name} multiplies by a zero as by any other number: only the file packs smaller"

    def hook(self, params: Params, context: Context) -> TrainHook:
        return Masks(float(params["sparsity"]), str(params["scope"]))


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [PruneWeights()]
