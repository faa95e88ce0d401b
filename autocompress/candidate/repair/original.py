"""What the layers of the original model give on the calibration examples."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from autocompress.candidate.repair.rows import CONVOLUTION_LAYERS, Convolution, Places, output_rows
from autocompress.data import call
from autocompress.errors import CandidateFailed
from autocompress.plain_model import evaluating
from autocompress.task import Inputs

TARGET_BYTES = 1 << 30  # of what all layers gave, at most
BATCH_NORM_LAYERS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
LINEAR_LAYERS = (nn.Linear, *CONVOLUTION_LAYERS)
RECURRENT_CORES = (nn.LSTM, nn.GRU, nn.RNN)
PLAIN_FORWARDS = frozenset(
    getattr(kind, name)
    for kind in (*LINEAR_LAYERS, *RECURRENT_CORES)
    for name in ("forward", "_conv_forward")
    if hasattr(kind, name)
)


@dataclass(frozen=True)
class GaveRows:
    """What a linear layer or a convolution gave, without its bias: (N, P, O), at some places."""

    outputs: Tensor
    places: Places


@dataclass(frozen=True)
class GaveStates:
    """What a recurrent layer read, (N, T, I), and gave, (N, T, D * H). valid: which places are of a sequence and not
    behind its end, (N, T); None: all of them.
    """

    inputs: Tensor
    states: Tensor
    valid: Tensor | None = None


@dataclass(frozen=True)
class Statistics:
    """Of what a batch norm reads: by channel, over all examples and places."""

    mean: Tensor
    var: Tensor

    @classmethod
    def of(cls, given: Tensor) -> "Statistics":
        """given: (N, C) or (N, C, *places)."""
        var, mean = torch.var_mean(given, [axis for axis in range(given.dim()) if axis != 1], correction=0)
        return cls(mean.double(), var.double())


Gave = GaveRows | GaveStates | Statistics


@dataclass
class OriginalRun:
    """By the name of the layer. norms: the batch norm right behind a layer, which is given what that layer gave."""

    examples: int
    output: Any = None
    gave: dict[str, Gave] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    norms: dict[str, str] = field(default_factory=dict)

    def once(self, name: str) -> Gave | None:
        """What a layer gave that is called once; None of any other."""
        return self.gave.get(name) if self.calls[name] == 1 else None


def run_original(whole: nn.Module, inputs: Inputs, examples: int) -> OriginalRun:
    """Run the original once, in evaluation mode, and keep what its layers give: of as many places as there is memory
    for.
    """
    found = OriginalRun(examples)
    width = sum(len(layer.weight) for layer in whole.modules() if isinstance(layer, LINEAR_LAYERS))
    most = TARGET_BYTES // (4 * max(width, 1))
    last: list[tuple[str, nn.Linear | Convolution, Tensor]] = []

    def see(name: str, layer: nn.Module, args: tuple[Any, ...], named: dict[str, Any], gave: Any) -> None:
        found.calls[name] += 1
        given = first_tensor(args, named)
        if given is None:
            return
        if isinstance(layer, BATCH_NORM_LAYERS):
            found.gave[name] = Statistics.of(given)
            if (
                last
                and last[0][2] is given
                and _unchanged(found.gave.get(last[0][0]), last[0][1], given, examples, most)
            ):
                found.norms[last[0][0]] = name
        try:
            if isinstance(layer, LINEAR_LAYERS) and is_plain_layer(layer) and isinstance(gave, Tensor):
                found.gave[name] = GaveRows(*output_rows(layer, gave, examples, most))
                last[:] = [(name, layer, gave)]
            elif isinstance(layer, RECURRENT_CORES) and is_plain_layer(layer):
                found.gave[name] = states_of(layer, given, gave, examples)
        except CandidateFailed:
            found.gave.pop(name, None)

    handles = [
        layer.register_forward_hook(partial(see, name), with_kwargs=True)
        for name, layer in whole.named_modules()
        if isinstance(layer, (*LINEAR_LAYERS, *BATCH_NORM_LAYERS, *RECURRENT_CORES))
    ]
    try:
        with torch.no_grad():
            found.output = call(evaluating(whole), inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


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


def first_tensor(args: Sequence[Any], named: dict[str, Any]) -> Any:
    """The first tensor, or packed sequence, that a module is given."""
    return next((value for value in (*args, *named.values()) if isinstance(value, (Tensor, PackedSequence))), None)


def states_of(layer: nn.RNNBase, given: Any, gave: Any, examples: int) -> GaveStates:
    """What a recurrent layer of one layer reads and gives. Raises CandidateFailed when it is no sequence of every
    example.
    """
    pair = [by_example(layer, sequences) for sequences in (given, gave[0])]
    plain = layer.num_layers == 1 and not layer.proj_size
    if not plain or any(each.dim() != 3 or len(each) != examples for each in pair):
        raise CandidateFailed("it is not given one sequence of every example")
    return GaveStates(pair[0].clone(), pair[1].clone(), _valid(given))  # what follows may change them in place


def by_example(layer: nn.RNNBase, sequences: Tensor | PackedSequence) -> Tensor:
    """What a recurrent layer reads or gives as (N, T, ...), of a packed sequence with zeros behind its end."""
    if not isinstance(sequences, PackedSequence):
        return sequences if layer.batch_first else sequences.transpose(0, 1)
    return pad_packed_sequence(sequences, batch_first=True)[0]


def _valid(sequences: Tensor | PackedSequence) -> Tensor | None:
    if not isinstance(sequences, PackedSequence):
        return None
    lengths = pad_packed_sequence(sequences, batch_first=True)[1]
    return torch.arange(int(lengths.max())) < lengths[:, None]


def _unchanged(gave: Gave | None, layer: nn.Linear | Convolution, given: Tensor, examples: int, most: int) -> bool:
    """Whether a tensor is still what a layer gave: an activation may have changed it in place."""
    return isinstance(gave, GaveRows) and torch.equal(output_rows(layer, given, examples, most)[0], gave.outputs)
