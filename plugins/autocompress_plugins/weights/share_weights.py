"""Weight sharing: every layer's weights take a few values only, a codebook; layers of one role may share all of them.

Changes: the values, or which layers hold the same tensor; the arithmetic stays, so the file gets smaller and no call
faster, unless the runtime looks weights up in a table. Needs: layers with many weights. Follows: Han et al., "Deep
Compression", ICLR 2016 (k-means codebook from linear initialization, then trained: the weights of one entry move
together); Lan et al., "ALBERT", ICLR 2020 (layers tied across depth).

One entry is zero, so that what is zero stays zero. A batch norm that is part of a layer in the file gives each of its
channels a multiple of the codebook; tied convolutions would be untied by it, so only linear and recurrent layers are
tied.
"""

import re
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import (
    Context,
    Parameter,
    Params,
    Plan,
    Strategy,
    StructureStrategy,
    TrainHook,
    TrainingStrategy,
)
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.layer_kinds import MATRIX_LAYERS
from autocompress_plugins.weights.matrices import matrices

autocompress_api = 2

CODEBOOKS = (256, 64, 16)
LEAST_PER_ENTRY = 16  # weights, below which a codebook says little that the weights do not
KMEANS_ROUNDS = 25  # when a codebook is first made
TIED = (nn.Linear, nn.RNNBase, nn.MultiheadAttention)


class Codebooks(TrainHook):
    """Leaves the training alone first; then every step moves the entries of the codebooks instead of single weights."""

    starts_at = 0.75  # when what else changes the weights has mostly settled

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._books: dict[str, Tensor] = {}

    def wrap(self, model: nn.Module) -> nn.Module:
        self._weights = _shareable(model, self._entries)
        return model

    @torch.no_grad()
    def after_step(self, model: nn.Module, progress: float) -> None:
        for name, weight in self._weights.items():
            values = weight.flatten()
            book = self._books[name].to(values.device) if name in self._books else _codebook(values, self._entries)
            codes = _nearest(book, values)
            counts = torch.bincount(codes, minlength=len(book))
            self._books[name] = _moved(book, counts, torch.bincount(codes, values.double(), len(book)))
            weight.copy_(self._books[name][codes].view(weight.shape))

    def unwrap(self, model: nn.Module) -> nn.Module:
        self._weights = _shareable(model, self._entries)
        self.after_step(model, 1.0)
        return model


def _shareable(model: nn.Module, entries: int) -> dict[str, nn.Parameter]:
    every = matrices(model, (*MATRIX_LAYERS, nn.Embedding))
    return {name: weight for name, weight in every.items() if weight.numel() >= LEAST_PER_ENTRY * entries}


def _codebook(values: Tensor, entries: int) -> Tensor:
    """Entries in ascending order, zero among them, by k-means from evenly spaced ones."""
    ordered = values.double().sort().values
    sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    book = torch.linspace(min(float(ordered[0]), 0.0), max(float(ordered[-1]), 0.0), entries, device=values.device)
    book[book.abs().argmin()] = 0
    for _ in range(KMEANS_ROUNDS):
        inner = torch.searchsorted(ordered, _borders(book).double())
        ends = torch.cat([inner.new_zeros(1), inner, inner.new_full((1,), len(ordered))])
        book = _moved(book, ends.diff(), sums[ends].diff())
    return book


def _nearest(book: Tensor, values: Tensor) -> Tensor:
    """The entry of each value, as its index."""
    return torch.bucketize(values, _borders(book))


def _borders(book: Tensor) -> Tensor:
    return (book[1:] + book[:-1]) / 2


def _moved(book: Tensor, counts: Tensor, sums: Tensor) -> Tensor:
    """Each entry at the mean of its values; zero, and an entry without values, stay where they are."""
    return torch.where((counts > 0) & (book != 0), (sums / counts).to(book.dtype), book)


class ShareWeights(StructureStrategy, TrainingStrategy):
    name = "share_weights"
    summary = "a codebook of a few values for each layer's weights; equal layers may share them"

    def parameters(self, context: Context) -> Sequence[Parameter]:
        worth = tuple(entries for entries in CODEBOOKS if _shareable(context.model, entries))
        codebook = Parameter("codebook", worth, worth[len(worth) // 2])
        if not _of_one_role(context.model):
            return (codebook,)
        return codebook, Parameter("tie", ("none", "equal_shapes"), "none")

    def refuses(self, context: Context) -> str | None:
        least = min(CODEBOOKS)
        if _shareable(context.model, least):
            return None
        return f"no layer has {LEAST_PER_ENTRY * least} weights, too few for a codebook of {least} to save much"

    def size_only(self, context: Context) -> str | None:
        if "few_values" in context.runtime.faster_with(context.profile):
            return None
        return f"{context.runtime.name} computes with shared weights as with any others: only the file packs smaller"

    def plan(self, model: nn.Module, params: Params, context: Context) -> Plan:
        tied = _of_one_role(model) if params.get("tie") == "equal_shapes" else []
        if params.get("tie") == "equal_shapes" and not tied:
            raise CandidateFailed("no two layers of one role are left with equal shapes")
        if not _shareable(model, int(params["codebook"])):
            raise CandidateFailed(f"no layer is left with {LEAST_PER_ENTRY * int(params['codebook'])} weights to share")
        return {"tied": tied, "codebook": params["codebook"]}

    def apply(self, model: nn.Module, plan: Plan, context: Context) -> nn.Module:
        for first, *others in plan["tied"]:
            for name in others:
                path, _, own = name.rpartition(".")
                setattr(model.get_submodule(path), own, model.get_parameter(first))
        return Codebooks(plan["codebook"]).unwrap(model)

    def hook(self, params: Params, context: Context) -> TrainHook:
        return Codebooks(int(params["codebook"]))


def _of_one_role(model: nn.Module) -> list[list[str]]:
    """Weights of equal shape whose names differ by numbers only: those of blocks (``blocks.0.fc``, ``layer_1.fc``), of
    layers in a recurrent module (``weight_hh_l1``), or their own (``fc1``, ``fc2``).
    """
    groups: dict[tuple[str, torch.Size], list[str]] = defaultdict(list)
    for name, weight in matrices(model, TIED).items():
        groups[re.sub(r"\d+", "#", name), weight.shape].append(name)
    return [names for names in groups.values() if len(names) > 1]


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [ShareWeights()]
