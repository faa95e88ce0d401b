"""What a layer reads and gives, as the rows of a regression.

Of every example the same few places are taken (positions of an image, steps of a sequence), the same ones in the
original model and in the changed one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from autocompress.errors import CandidateFailed

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
CONVOLUTION_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
LEAST_ROWS = 4096  # that a layer is fitted on, where it has so many
ROWS_PER_COLUMN = 12  # a quarter of them is held out
MOST_VALUES = 1 << 26  # regressors of all rows of a layer: a quarter of a GiB


@dataclass(frozen=True)
class Places:
    """Of one call of a layer. shape: of the places of one example (an image's height and width, a sequence's length).
    chosen: some of them, flattened. counting: which of these are no padding, (N, P); None: all of them.
    """

    shape: tuple[int, ...]
    chosen: Tensor
    counting: Tensor | None = None

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        examples: int,
        width: int,
        most: int,
        calls: int = 1,
        counting: Tensor | None = None,
    ) -> "Places":
        """As many as a fit of so many regressors needs, the same ones whenever it is asked. most: rows of all examples
        together that there is memory for. calls: of the layer, which share a fit. counting: (N, *shape), which places
        are no padding; taken for places of another shape it says nothing.
        """
        count = math.prod(shape)
        counting = None if counting is None or counting.shape[1:] != tuple(shape) else counting.flatten(1)
        share = 1.0 if counting is None else max(float(counting.double().mean()), 1 / count)
        needed = int(max(LEAST_ROWS, ROWS_PER_COLUMN * width) / share)
        rows = min(min(needed, MOST_VALUES // width) // max(1, calls), most)
        wanted = max(1, math.ceil(rows / examples))
        chosen = torch.arange(count)
        if wanted < count:
            drawn = torch.randperm(count, generator=torch.Generator().manual_seed(count))[:wanted]
            chosen = drawn.sort().values
        return cls(tuple(shape), chosen, None if counting is None else counting[:, chosen])


def first_tensor(args: Sequence[Any], named: dict[str, Any]) -> Any:
    """The tensor, or packed sequence, that a layer reads: the first one, or of those given by name its ``input``, which
    need not come first.
    """
    given = (*args, named.get("input"), *named.values())
    return next((value for value in given if isinstance(value, (Tensor, PackedSequence))), None)


def examples_first(tensor: Tensor, examples: int, features: int) -> Tensor:
    """A tensor with the axis of the examples first and that of the features last -> (N, *places, features). Of several
    axes that are as long as there are examples the first one. Raises CandidateFailed where there is none.

    features: which axis they are, as the layer takes them.
    """
    features %= tensor.dim()
    axes = [axis for axis, size in enumerate(tensor.shape) if size == examples and axis != features]
    if axes:
        return tensor.movedim((axes[0], features), (0, -1))
    if features != 0 and tensor.shape[0] % examples == 0:  # pieces of an example, one after the other
        pieces = tensor.reshape(examples, -1, *tensor.shape[1:])
        return pieces.movedim(features + 1, -1)
    raise CandidateFailed(f"of what it is given, {tuple(tensor.shape)}, no axis is the {examples} examples'")


def output_rows(
    layer: nn.Linear | Convolution,
    output: Tensor,
    examples: int,
    most: int = LEAST_ROWS * LEAST_ROWS,
    calls: int = 1,
    counting: Tensor | None = None,
) -> tuple[Tensor, Places]:
    """What a layer gave at some places of one call, without its bias -> (N, P, O), and the places. most: rows, of all
    examples. calls: how many there are. counting: as ``Places.of`` has it.
    """
    shape = _by_example(layer, output, examples).shape[1:-1]
    places = Places.of(shape, examples, regressors(layer), most, calls, counting)
    return rows_at(layer, output, examples, places), places


def rows_at(layer: nn.Linear | Convolution, output: Tensor, examples: int, places: Places) -> Tensor:
    """What a layer gave at these places, without its bias -> (N, P, O)."""
    rows = _by_example(layer, output, examples)
    rows = rows.flatten(1, -2) if rows.dim() > 2 else rows.unsqueeze(1)
    rows = rows[:, places.chosen]
    return rows if layer.bias is None else rows - layer.bias.detach()


def _by_example(layer: nn.Linear | Convolution, output: Tensor, examples: int) -> Tensor:
    return examples_first(output, examples, 1 if isinstance(layer, CONVOLUTION_LAYERS) else -1)


def input_rows(layer: nn.Linear | Convolution, given: Tensor, examples: int, places: Places) -> Tensor:
    """What a layer reads for these places -> (G, N, P, I), by the groups of a convolution. Raises CandidateFailed when
    the layer gives other places than these.
    """
    if isinstance(layer, nn.Linear):
        rows = examples_first(given, examples, -1)
        if tuple(rows.shape[1:-1]) != places.shape:
            raise CandidateFailed(f"it is called at the places {tuple(rows.shape[1:-1])}, and was at {places.shape}")
        rows = rows.flatten(1, -2) if rows.dim() > 2 else rows.unsqueeze(1)
        return rows[:, places.chosen].unsqueeze(0)
    windows = _windows(layer, given)
    axes = len(layer.kernel_size)
    pieces = examples_first(windows, examples, 1)  # (N, [pieces,] *out, *kernel, C)
    shape = tuple(pieces.shape[1 : -1 - axes])
    if shape != places.shape:
        raise CandidateFailed(f"it gives the places {shape}, and gave {places.shape}")
    index = torch.unravel_index(places.chosen, places.shape)
    rows = pieces.movedim(0, -2)[index].movedim(-2, 0).movedim(-1, 2)  # (N, P, C, *kernel)
    return rows.reshape(*rows.shape[:2], layer.groups, -1).movedim(2, 0)


def weight_rows(layer: nn.Linear | Convolution) -> Tensor:
    """The weights of a layer -> (G, O / G, I), the regressors as ``input_rows`` has them."""
    weight = layer.weight.detach()
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    return weight.reshape(groups, len(weight) // groups, -1)


def regressors(layer: nn.Linear | Convolution) -> int:
    """How many a layer's outputs are sums of."""
    return math.prod(layer.weight.shape[1:])


def _windows(layer: Convolution, given: Tensor) -> Tensor:
    """(N, C, *places) -> (N, C, *out, *kernel), a view of the padded input."""
    padding = layer.padding
    pads: list[int] = []
    for axis in reversed(range(len(layer.kernel_size))):
        span = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
        if isinstance(padding, str):
            total = span if padding == "same" else 0
            pads += [total // 2, total - total // 2]
        else:
            pads += [padding[axis], padding[axis]]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    windows = F.pad(given, pads, mode=mode)
    for axis in range(len(layer.kernel_size)):
        span = layer.dilation[axis] * (layer.kernel_size[axis] - 1) + 1
        windows = windows.unfold(2 + axis, span, layer.stride[axis])
    for axis in range(len(layer.kernel_size)):
        at = windows.dim() - len(layer.kernel_size) + axis
        windows = windows.movedim(at, 0)[:: layer.dilation[axis]].movedim(0, at)
    return windows
