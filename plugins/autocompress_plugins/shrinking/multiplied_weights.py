"""What the weights of a model are multiplied with while it runs, whether or not their layers are called."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from autocompress.nested import tensors_of
from autocompress_plugins.shrinking.function_attention import arguments_of_parts, attention_in_parts
from autocompress_plugins.shrinking.own_attention import layer_of

PRODUCTS = frozenset({"linear", "matmul", "rmatmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "tensordot"})
WEIGHT_AXES = (2, 3)  # of a weight that a module holds itself


class MultipliedWeights(TorchFunctionMode):
    """While open, what is multiplied with the weights of a linear layer is shown, whether or not it is called; weights
    that a module holds itself are shown as a layer of them. otherwise: is given the modules that hold weights which are
    multiplied in another way.
    """

    def __init__(
        self,
        model: nn.Module,
        show: Callable[[nn.Linear, nn.Module, Tensor], None],
        otherwise: Callable[[nn.Module], None],
    ) -> None:
        super().__init__()
        self._holders = {id(p): module for module in model.modules() for p in module.parameters(recurse=False)}
        linear = (layer for layer in model.modules() if isinstance(layer, nn.Linear))
        self._layers = {id(own): layer for layer in linear if isinstance(own := layer.weight, nn.Parameter)}
        self._holders |= self._layers
        self._by_storage = {
            _storage(parameter): module
            for module in model.modules()
            for parameter in module.parameters(recurse=False)
            if parameter.dim() in WEIGHT_AXES and not isinstance(module, nn.Linear)
        }
        self._show, self._otherwise = show, otherwise

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if func is F.multi_head_attention_forward and (given := arguments_of_parts(args, named)) is not None:
            with self:
                return attention_in_parts(given)
        if func is F.linear and self._note(*args, **named):
            return func(*args, **named)
        if getattr(func, "__name__", "").strip("_") in PRODUCTS:
            for tensor in tensors_of((args, named)):
                if (holder := self._by_storage.get(_storage(tensor))) is not None:
                    self._otherwise(holder)
        return func(*args, **named)

    def _note(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
        """Show it, if it is a whole weight that a layer or a module holds."""
        holder = self._holders.get(id(weight))
        if holder is None or weight.dim() != 2:
            return False
        if id(weight) not in self._layers:
            assert isinstance(weight, nn.Parameter)
            own = bias if isinstance(bias, nn.Parameter) and self._holders.get(id(bias)) is holder else None
            self._layers[id(weight)] = layer_of(weight, own)
        self._show(self._layers[id(weight)], holder, input)
        return True


def _storage(tensor: Tensor) -> int | None:
    """The same of a weight and of a part of it, or its transpose; None of a sparse one."""
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else None
