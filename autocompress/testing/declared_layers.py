"""What a strategy declares of layers, compared with the layers' own weights."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from autocompress.candidate.repair.declared import NORMS_OF_CHANNELS
from autocompress.plugin.contract import Counterpart, Counterparts

PER_CHANNEL = ("weight", "bias", "running_mean", "running_var")  # of a norm


def with_other_weights(declared: Counterparts, changed: nn.Module) -> Iterator[str]:
    """The layers, and which of their tensors, that do not hold what the original has at the channels declared. Only of
    layers that read channels of the original, embeddings and norms, and where places are plain to see.
    """
    for own in declared.layers:
        now, before = changed.get_submodule(own.layer), declared.whole.get_submodule(own.original)
        if type(now) is not type(before):
            continue
        for name in PER_CHANNEL:
            one, other = getattr(now, name, None), getattr(before, name, None)
            if not isinstance(one, Tensor) or not isinstance(other, Tensor):
                continue
            cut = _cut(own, name, before, other)
            if cut is not None and not torch.equal(one, cut):
                yield f"{own.layer}.{name}"


def _cut(own: Counterpart, name: str, layer: nn.Module, values: Tensor) -> Tensor | None:
    """What is left of a tensor of the original; None where it is not plain to see."""
    if isinstance(layer, nn.Embedding):
        return values[:, list(own.outputs)]
    if isinstance(layer, (*NORMS_OF_CHANNELS, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)):
        return values[..., list(own.outputs)]
    if own.inputs is None or not isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return None
    if name == "bias":
        return values[list(own.outputs)]
    groups = getattr(layer, "groups", 1)
    if groups == 1:
        return _at(values, own.outputs, own.inputs)
    depthwise = groups == layer.in_channels == layer.out_channels
    return values[list(own.outputs)] if depthwise else None


def _at(values: Tensor, outputs: Sequence[int], inputs: Sequence[int]) -> Tensor:
    return values[list(outputs)][:, list(inputs)]
