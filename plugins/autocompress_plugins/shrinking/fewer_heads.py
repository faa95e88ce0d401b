"""Code that counts on all heads of an attention, computing with those that are left.

The number of heads may be written into the code, or follow from the width of what it is given, and a bias of positions
may be handed over with a place for each head. What comes of the layers that read is followed: shapes that it is brought
into lose the heads that are gone, and of what has a place for each head those of the ones left are taken.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from autocompress_plugins.shrinking.function_attention import arguments_of_parts, attention_in_parts

RESHAPES = (Tensor.view, Tensor.reshape, torch.reshape)
UNFLATTENS = (Tensor.unflatten, torch.unflatten)
HEAD_SPLITS = (Tensor.split, torch.split)
BROADCASTING = frozenset(
    {"add", "sub", "mul", "truediv", "div", "where", "masked_fill", "scaled_dot_product_attention"}
)
HEADS_MARK = "of_fewer_heads"  # on a tensor that is computed for the heads that are left
GONE_MARK = "without_channels"  # on what a layer that reads gave itself: the channels that are gone


class FewerHeads(TorchFunctionMode):
    """While open, what the layers that read give is of the heads ``left`` alone, where the code counts on ``whole`` of
    them. What the last layer gives, the output projection, is of none.

    rows: of each layer that reads, which outputs each head had. apart: those layers whose weights alone the code takes;
    they are called for it, so that whoever watches them sees what they read and give.
    """

    def __init__(
        self,
        layers: Sequence[nn.Linear],
        rows: Sequence[Sequence[Sequence[int]]],
        whole: int,
        left: Sequence[int],
        apart: Sequence[nn.Linear],
    ) -> None:
        super().__init__()
        *self._readers, self._out = layers
        self._gone = [{i for head in range(whole) if head not in left for i in own[head]} for own in rows]
        self._whole, self._left, self._apart = whole, list(left), apart
        cut = (layer for layer, own in zip(self._readers, rows, strict=False) if any(own))
        widths = (self._out.in_features, *(layer.out_features for layer in cut))
        self._widths = {width * whole // len(left) for width in widths}
        self._changes: dict[Any, Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]] = {
            **dict.fromkeys(RESHAPES, self._shaped),
            **dict.fromkeys(UNFLATTENS, self._in_parts),
            **dict.fromkeys(HEAD_SPLITS, self._split),
            Tensor.__getitem__: self._sliced,
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if func is F.multi_head_attention_forward and (given := arguments_of_parts(args, named)) is not None:
            with self:
                return attention_in_parts(given)
        if func is F.linear and (layer := self._layer_of(*args, **named)) is not None:
            found = self._linear(layer, *args, **named)
            if layer is self._out:
                return found
            setattr(found, GONE_MARK, self._gone[self._readers.index(layer)])
            return _marked(found)
        if not any(map(_is_marked, _tensors((args, named)))):
            return func(*args, **named)
        if func in self._changes:
            args, named = self._changes[func](*args, **named)
        elif getattr(func, "__name__", "").strip("_").removeprefix("i").removeprefix("r") in BROADCASTING:
            args, named = self._selected(args, named)
        return _marked(func(*args, **named))

    def _layer_of(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> nn.Linear | None:
        return next((layer for layer in (*self._readers, self._out) if layer.weight is weight), None)

    def _linear(self, layer: nn.Linear, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if bias is not None and len(bias) != len(weight):  # put together by the code, for all heads
            gone = self._gone[self._readers.index(layer)]
            at = [i for i in range(len(bias)) if i not in gone]
            bias = bias.index_select(0, torch.tensor(at, device=bias.device))
        if all(layer is not own for own in self._apart) or (layer.bias is not None and layer.bias is not bias):
            return F.linear(input, weight, bias)
        gave: Tensor = layer(input)
        return gave if bias is layer.bias else gave + bias

    def _shaped(self, x: Tensor, *sizes: Any, **named: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = named.get("shape", named.get("size", sizes[0] if len(sizes) == 1 else sizes))
        if isinstance(given, torch.dtype):
            return (x, given), {}
        wanted = [given] if isinstance(given, int) else list(given)
        return (x, self._without(list(x.shape), wanted)), {}

    def _in_parts(self, x: Tensor, dim: Any, sizes: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (x, dim, self._without([x.shape[dim]], list(sizes))), {}

    def _split(self, x: Tensor, size: Any, dim: int = 0) -> tuple[tuple[Any, ...], dict[str, Any]]:
        whole = self._as_whole(x.shape[dim])
        if isinstance(size, int):
            return (x, self._as_left(size) if whole % size == 0 else size, dim), {}
        return (x, [self._as_left(own) for own in size] if sum(size) == whole else size, dim), {}

    def _sliced(self, x: Tensor, key: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Of what a layer that reads gave itself: a part of the channels begins and ends before the heads that are
        left.
        """
        gone, keys = getattr(x, GONE_MARK, None), key if isinstance(key, tuple) else ()
        part = keys[-1] if gone and len(keys) > 1 and (Ellipsis in keys or len(keys) == x.dim()) else None
        if gone is None or not isinstance(part, slice) or part.step is not None:
            return (x, key), {}
        bounds = part.indices(x.shape[-1] + len(gone))[:2]
        start, stop = (bound - sum(own < bound for own in gone) for bound in bounds)
        return (x, (*keys[:-1], slice(start, stop))), {}

    def _selected(self, args: Any, named: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments, of those with a place for each head the heads that are left."""
        marked = [tensor for tensor in _tensors((args, named)) if _is_marked(tensor)]

        def of_left(value: Any) -> Any:
            if not isinstance(value, Tensor) or _is_marked(value):
                return value
            for axis in range(1, value.dim() + 1):
                sizes = {own.shape[-axis] for own in marked if own.dim() >= axis}
                if value.shape[-axis] == self._whole and sizes == {len(self._left)}:
                    return value.index_select(-axis, torch.tensor(self._left, device=value.device))
            return value

        return tuple(map(of_left, args)), {name: of_left(value) for name, value in named.items()}

    def _without(self, now: Sequence[int], sizes: Sequence[int]) -> Sequence[int]:
        """The sizes that a tensor of these now is to be brought into, without the heads that are gone."""
        numel = math.prod(now)
        known = math.prod(size for size in sizes if size != -1)
        if -1 not in sizes and known == numel:
            return sizes
        whole = [self._as_whole(numel) // max(known, 1) if size == -1 else size for size in sizes]
        axis = self._axis_of_heads(now, whole)
        if math.prod(whole) != self._as_whole(numel) or axis is None:
            return sizes
        return [self._as_left(size) if at == axis else size for at, size in enumerate(whole)]

    def _axis_of_heads(self, now: Sequence[int], whole: Sequence[int]) -> int | None:
        """Which of these sizes counts heads: of those behind the axes that stay the one that does where the tensor has
        the heads left now, or the last that is not their width; else one that is the width of all, or a multiple.
        """
        same = next((at for at, size in enumerate(whole) if at >= len(now) - 1 or now[at] != size), len(whole))
        behind, last = range(same, len(whole)), len(whole) - 1
        counted = [at for at in behind if whole[at] == self._whole]
        where = [at - len(now) + len(whole) for at, size in enumerate(now) if size == len(self._left)]
        ways = (
            [at for at in where if at in counted],
            [at for at in reversed(counted) if at < last],
            [at for at in behind if whole[at] in self._widths],
            [at for at in behind if whole[at] % self._whole == 0 and at < last],
            [at for at in behind if whole[at] % self._whole == 0],
        )
        return next((found[0] for found in ways if found), None)

    def _as_whole(self, size: int) -> int:
        return size * self._whole // len(self._left)

    def _as_left(self, size: int) -> int:
        return size * len(self._left) // self._whole


def _marked(found: Any) -> Any:
    """What was computed, marked as of fewer heads."""
    for tensor in _tensors(found):
        setattr(tensor, HEADS_MARK, True)
    return found


def _is_marked(tensor: Tensor) -> bool:
    return getattr(tensor, HEADS_MARK, False)


def _tensors(value: Any) -> Iterator[Tensor]:
    """Those among arguments, or in a list or tuple of them."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for own in value:
            yield from _tensors(own)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
