"""Calling a model with a batch, and the tensor of its outputs that is scored."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from autocompress.errors import CandidateFailed, UsageError
from autocompress.task import Inputs


def call(model: Callable[..., Any], inputs: Inputs) -> Any:
    """Call a model with one tensor, a tuple as positional or a dict as keyword arguments."""
    with every_module_called():
        if isinstance(inputs, Tensor):
            return model(inputs)
        return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)


class PositionalModel(nn.Module):
    """A model as an exporter takes it: the tensors of ``inputs`` one by one, the scored tensor as the only output."""

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        super().__init__()
        self.model = model
        self.names = list(inputs) if isinstance(inputs, Mapping) else None

    def forward(self, *tensors: Tensor) -> Tensor:
        if self.names is not None:
            return primary(self.model(**dict(zip(self.names, tensors, strict=True))))
        return primary(self.model(*tensors))


@contextmanager
def every_module_called() -> Iterator[None]:
    """While open, attention of torch.nn does not take its fast path of evaluation mode. That computes the same past the
    modules inside: hooks see nothing, the exporters have no ONNX form of it, and it fails under bfloat16 with a mask.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def primary(output: Any) -> Tensor:
    """The tensor that is scored: the output itself, its ``.logits``, its "logits" entry, or its first element."""
    if isinstance(output, Tensor):
        return output
    if isinstance(getattr(output, "logits", None), Tensor):
        return output.logits  # type: ignore[no-any-return]
    if isinstance(output, Mapping) and output:
        return primary(output["logits"] if "logits" in output else next(iter(output.values())))
    if isinstance(output, (tuple, list)) and output:
        return primary(output[0])
    raise UsageError(
        f"the model returns {type(output).__name__}: return a tensor, a tuple of tensors, or an object with .logits"
    )


Features = dict[str, Tensor]


@contextmanager
def captured(model: nn.Module, layers: Sequence[str]) -> Iterator[Features]:
    """While open, each call of ``model`` leaves what the named modules gave (of a tuple the first tensor)."""
    found: Features = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            try:
                found[name] = primary(output)
            except UsageError:
                raise CandidateFailed(
                    f"the layer {name} gives {type(output).__name__}, which holds no tensor"
                ) from None

        return hook

    handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
