"""The structure of a batch: inputs of one tensor, a tuple or a dict of tensors, and its targets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from autocompress.task import Inputs


@dataclass(frozen=True)
class Batch:
    """inputs: as the model takes them, examples first. targets: one tensor, examples first."""

    inputs: Inputs
    targets: Tensor


def tensors_of(inputs: Inputs) -> tuple[Tensor, ...]:
    """The tensors of the inputs, in order."""
    if isinstance(inputs, Tensor):
        return (inputs,)
    return tuple(inputs.values()) if isinstance(inputs, Mapping) else tuple(inputs)


def map_inputs(fn: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    """The inputs with ``fn`` applied to each tensor."""
    if isinstance(inputs, Tensor):
        return fn(inputs)
    if isinstance(inputs, Mapping):
        return {name: fn(tensor) for name, tensor in inputs.items()}
    return tuple(fn(tensor) for tensor in inputs)


def input_names(inputs: Inputs) -> list[str]:
    """Names of the graph's inputs: a dict's keys, else ``input`` or ``input_0``, ``input_1``, ..."""
    if isinstance(inputs, Tensor):
        return ["input"]
    return list(inputs) if isinstance(inputs, Mapping) else [f"input_{i}" for i in range(len(inputs))]


def as_held(tensor: Tensor) -> Tensor:
    """The tensor as splits hold it: on the CPU, without history, floating point as float32."""
    tensor = tensor.detach().cpu()
    return tensor.float() if tensor.is_floating_point() else tensor
