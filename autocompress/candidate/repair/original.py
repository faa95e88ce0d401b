"""What the layers of the original model give on the calibration examples, at each of their calls."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from autocompress.candidate.repair.norm_statistics import BATCH_NORM_LAYERS, Statistics
from autocompress.candidate.repair.recurrent_rows import RECURRENT_KINDS, SEQUENCE_LAYERS, GaveStates, states_of
from autocompress.candidate.repair.rows import (
    CONVOLUTION_LAYERS,
    Convolution,
    Places,
    first_tensor,
    output_rows,
    regressors,
    rows_at,
)
from autocompress.data import call, named_inputs, take_rows
from autocompress.errors import CandidateFailed
from autocompress.nested import Nested, map_tensors, tensors_of
from autocompress.plain_model import evaluating
from autocompress.task import Inputs

ROW_BYTES = 1 << 30  # of what all layers gave, and those will read that are called more than once, at most
OUTPUT_BYTES = 1 << 30  # of all that those give that are called more than once, at most
LINEAR_LAYERS = (nn.Linear, *CONVOLUTION_LAYERS)
REPAIRED_LAYERS = (*LINEAR_LAYERS, *BATCH_NORM_LAYERS, *RECURRENT_KINDS)
PLAIN_FORWARDS = frozenset(
    getattr(kind, name)
    for kind in (*LINEAR_LAYERS, *RECURRENT_KINDS)
    for name in ("forward", "_conv_forward")
    if hasattr(kind, name)
)
MASK = "attention_mask"  # the input that says which places are padding
COUNTED_EXAMPLES = 2  # that tell how often each layer is called


@dataclass(frozen=True)
class GaveRows:
    """What a linear layer or a convolution gave, without its bias: (N, P, O), at some places."""

    outputs: Tensor
    places: Places


Gave = GaveRows | GaveStates | Statistics


@dataclass
class OriginalRun:
    """By the name of the layer, of its calls in turn. outputs: all that a layer gave that is called more than once, or
    shares its weights (but for whole sequences' states), of as many of its first calls as there was memory for. norms:
    how often a batch norm was given what a layer gave, unchanged.
    """

    examples: int
    output: Any = None
    gave: dict[str, list[Gave]] = field(default_factory=lambda: defaultdict(list))
    outputs: dict[str, list[Nested]] = field(default_factory=lambda: defaultdict(list))
    calls: Counter[str] = field(default_factory=Counter)
    norms: Counter[tuple[str, str]] = field(default_factory=Counter)

    def every_call(self, name: str) -> Sequence[Gave]:
        """What a layer gave; nothing where that is not known of each of its calls."""
        gave = self.gave.get(name, [])
        return gave if len(gave) == self.calls[name] else []

    def norms_behind(self, name: str) -> Set[str]:
        """The batch norms that read what a layer gives, unchanged, where each of its calls has one and they read
        nothing else.
        """
        behind = {norm: count for (layer, norm), count in self.norms.items() if layer == name}
        alone = all(self.calls[norm] == count for norm, count in behind.items())
        return behind.keys() if alone and sum(behind.values()) == self.calls[name] else set()


def run_original(whole: nn.Module, inputs: Inputs, examples: int) -> OriginalRun:
    """Run the original, in evaluation mode, and keep what its layers give: of as many places as there is memory for."""
    often = _calls(whole, take_rows(inputs, slice(COUNTED_EXAMPLES)))
    found = _run(whole, inputs, examples, often)
    return found if found.calls <= often else _run(whole, inputs, examples, found.calls)  # the data say how often


def _run(whole: nn.Module, inputs: Inputs, examples: int, often: Counter[str]) -> OriginalRun:
    """often: how many calls of each layer there is to be memory for; of others nothing is kept."""
    found, counting = OriginalRun(examples), _no_padding(inputs, examples)
    tied = tied_layers(whole)
    again = tied.keys() | {name for name, calls in often.items() if calls > 1}
    linear = [(name, layer) for name, layer in whole.named_modules() if isinstance(layer, LINEAR_LAYERS)]
    values = {name: len(layer.weight) + (regressors(layer) if name in again else 0) for name, layer in linear}
    width = sum(each * often[name] for name, each in values.items())
    most, left = ROW_BYTES // (4 * max(width, 1)), OUTPUT_BYTES
    last: list[tuple[str, nn.Linear | Convolution, Tensor, GaveRows]] = []

    def see(name: str, layer: nn.Module, args: tuple[Any, ...], named: dict[str, Any], gave: Any) -> None:
        nonlocal left
        found.calls[name] += 1
        if found.calls[name] > often[name]:
            return
        stands_in = name in again and not isinstance(layer, SEQUENCE_LAYERS)
        if stands_in and left >= (size := bytes_of(gave)) and len(found.outputs[name]) == found.calls[name] - 1:
            found.outputs[name].append(map_tensors(Tensor.clone, gave))  # what follows may change it in place
            left -= size
        given = first_tensor(args, named)
        if given is None:
            return
        if isinstance(layer, BATCH_NORM_LAYERS):
            found.gave[name].append(Statistics.of(given))
            if last and last[0][2] is given and _unchanged(*last[0][1:], examples):
                found.norms[last[0][0], name] += 1
        elif is_plain_layer(layer):
            try:
                if isinstance(layer, LINEAR_LAYERS) and isinstance(gave, Tensor):
                    calls = sum(often[each] for each in tied.get(name, (name,)))
                    rows = GaveRows(*output_rows(layer, gave, examples, most, calls, counting))
                    found.gave[name].append(rows)
                    last[:] = [(name, layer, gave, rows)]
                elif isinstance(layer, RECURRENT_KINDS):
                    found.gave[name].append(states_of(layer, args, named, gave, examples))
            except CandidateFailed:
                pass  # it is not known of each of its calls

    found.output = _watched(whole, inputs, see)
    return found


def _calls(whole: nn.Module, inputs: Inputs) -> Counter[str]:
    """How often each layer is called."""
    found: Counter[str] = Counter()
    _watched(whole, inputs, lambda name, *_: found.update([name]))
    return found


def _watched(whole: nn.Module, inputs: Inputs, see: Callable[..., None]) -> Nested:
    """What the model returns. see: is told of each call of a layer that can be repaired."""
    handles = [
        layer.register_forward_hook(partial(see, name), with_kwargs=True)
        for name, layer in whole.named_modules()
        if isinstance(layer, REPAIRED_LAYERS)
    ]
    try:
        with torch.no_grad():
            return call(evaluating(whole), inputs)
    finally:
        for handle in handles:
            handle.remove()


def tied_layers(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """By the name of a layer with a parameter that another one holds too: all that hold any of its own."""
    holders: dict[nn.Parameter, set[str]] = defaultdict(set)
    for name, layer in model.named_modules():
        for held in layer.parameters(recurse=False):
            holders[held].add(name)
    named = model.named_modules(remove_duplicate=False)
    found = {name: {one for held in own.parameters(recurse=False) for one in holders[held]} for name, own in named}
    return {name: tuple(sorted(own)) for name, own in found.items() if len(own) > 1}


def bytes_of(value: Nested) -> int:
    """Of all tensors in it."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(value))


def is_plain_layer(layer: nn.Module) -> bool:
    """Whether a layer computes with its own parameters what its kind does: not where a subclass does something else,
    and not where its weights are worked out of others (weight norm).
    """
    methods = [method for name in ("forward", "_conv_forward") if (method := getattr(type(layer), name, None))]
    weights = [name for name in dir(layer) if name.startswith("weight")]
    own = dict(layer.named_parameters(recurse=False))
    return (
        all(method in PLAIN_FORWARDS for method in methods)
        and "forward" not in vars(layer)
        and all(name in own for name in weights)
    )


def _unchanged(layer: nn.Linear | Convolution, given: Tensor, gave: GaveRows, examples: int) -> bool:
    """Whether a tensor is still what a layer gave: an activation may have changed it in place."""
    return torch.equal(rows_at(layer, given, examples, gave.places), gave.outputs)


def _no_padding(inputs: Inputs, examples: int) -> Tensor | None:
    """Which places of each example are no padding, (N, T), where an input says so as tokenizers do: ones for these and
    zeros for the others, at one end.
    """
    named = ((name.rpartition(".")[2], tensor) for name, tensor in named_inputs(inputs).items())
    mask = next((tensor for name, tensor in named if name == MASK), None)
    if mask is None or mask.dim() != 2 or len(mask) != examples or not mask.numel():
        return None
    valid = mask != 0
    told = bool((mask == valid).all()) and bool(valid[:, 0].all() or valid[:, -1].all())
    return valid if told and not valid.all() else None
