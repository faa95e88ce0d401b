"""Calling a model on nested inputs, and what modules inside it give meanwhile."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from autocompress.errors import CandidateFailed, UsageError
from autocompress.nested import Nested, filled, named_tensors, primary
from autocompress.task import OUTPUT


def call(model: Callable[..., Any], inputs: Nested) -> Any:
    """Call a model with one value, with a tuple or list as positional or a mapping as keyword arguments."""
    with every_module_called():
        return _call(model, inputs)


def _call(model: Callable[..., Any], inputs: Nested) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)


class PositionalModel(nn.Module):
    """A model as an exporter takes it: the tensors of ``inputs`` one by one in, the tensors called ``outputs`` out."""

    def __init__(self, model: nn.Module, inputs: Nested, outputs: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self._like = inputs
        self._outputs = tuple(outputs)

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        found = named_tensors(_call(self.model, filled(self._like, tensors)), OUTPUT)
        if missing := [name for name in self._outputs if name not in found]:
            raise CandidateFailed(f"the model returns {', '.join(found) or 'no tensors'}, not {', '.join(missing)}")
        outputs, before = [], {id(tensor) for tensor in tensors}
        for tensor in (found[name] for name in self._outputs):
            outputs.append(tensor.clone() if id(tensor) in before else tensor)  # a graph names each tensor once
            before.add(id(tensor))
        return tuple(outputs) if len(outputs) > 1 else outputs[0]


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
