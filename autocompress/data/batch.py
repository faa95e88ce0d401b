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


def named_tensors(inputs: Inputs) -> dict[str, Tensor]:
    """The tensors by the names of the graph's inputs, in order: a dict's keys, else ``input`` or ``input_0``, ..."""
    if isinstance(inputs, Tensor):
        return {"input": inputs}
    return dict(inputs) if isinstance(inputs, Mapping) else {f"input_{i}": t for i, t in enumerate(inputs)}


def ordered_as(like: Inputs, inputs: Inputs) -> Inputs:
    """``inputs`` with the entries of ``like``, in their order, where both are dicts; what is more is left out."""
    if isinstance(like, Mapping) and isinstance(inputs, Mapping):
        return {name: inputs[name] for name in like}
    return inputs


def as_held(tensor: Tensor) -> Tensor:
    """The tensor as splits hold it: on the CPU, without history, floating point as float32."""
    tensor = tensor.detach().cpu()
    return tensor.float() if tensor.is_floating_point() else tensor
