"""What a recurrent layer reads and the states that its steps begin with, as the rows of a regression.

A layer that is given whole sequences, or a cell that the model's own loop calls at each step: rows are steps of
examples. Steps behind the end of a sequence are none, of a packed one, or of a loop that carries on the state that a
step began with in place of what it gave.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from autocompress.candidate.repair.rows import first_tensor
from autocompress.errors import CandidateFailed
from autocompress.nested import tensors_of

SEQUENCE_LAYERS = (nn.LSTM, nn.GRU, nn.RNN)
STEP_CELLS = (nn.LSTMCell, nn.GRUCell, nn.RNNCell)
RECURRENT_KINDS = (*SEQUENCE_LAYERS, *STEP_CELLS)
Recurrent = nn.RNNBase | nn.RNNCellBase


@dataclass(frozen=True)
class GaveStates:
    """inputs: what was read, (N, T, I). began: the states that the steps of each direction began with, (N, S, H), but
    for the first one of a sequence, which is zero. valid, began_valid: which of them count, (N, T) and (N, S).
    """

    inputs: Tensor
    began: tuple[Tensor, ...]
    valid: Tensor
    began_valid: Tensor

    @classmethod
    def joined(cls, calls: Sequence["GaveStates"]) -> "GaveStates":
        """Of several calls, one after the other."""
        inputs, valid, began_valid = (
            torch.cat([getattr(one, part) for one in calls], 1) for part in ("inputs", "valid", "began_valid")
        )
        began = tuple(torch.cat(direction, 1) for direction in zip(*(one.began for one in calls), strict=True))
        if inputs.shape[1] == began[0].shape[1] > 1:  # steps of a loop
            goes_on = ~_carried_on(began[0])
            valid, began_valid = valid & goes_on, began_valid & goes_on
        return cls(inputs, began, valid, began_valid)


def by_example(layer: Recurrent, given: Tensor | PackedSequence, examples: int) -> Tensor:
    """What a recurrent layer reads or gives as (N, T, ...), of a packed sequence with zeros behind its end, of one call
    of a cell with T = 1. Raises CandidateFailed when it is no sequence, or step, of every example.
    """
    if isinstance(given, PackedSequence):
        found = pad_packed_sequence(given, batch_first=True)[0]
    elif isinstance(layer, nn.RNNCellBase):
        found = given.unsqueeze(1)
    else:
        found = given if layer.batch_first else given.transpose(0, 1)
    if found.dim() != 3 or len(found) != examples:
        raise CandidateFailed("it is not given one sequence of every example")
    return found


def states_of(layer: Recurrent, args: Sequence[Any], named: dict[str, Any], gave: Any, examples: int) -> GaveStates:
    """What one call of a recurrent layer of one layer reads and begins with. Raises CandidateFailed when it is no
    sequence, or step, of every example.
    """
    given = first_tensor(args, named)
    inputs = by_example(layer, given, examples).clone()  # what follows may change it in place
    if isinstance(layer, nn.RNNCellBase):
        state = tensors_of(named.get("hx", args[1] if len(args) > 1 else None))
        zeros = inputs.new_zeros(examples, layer.hidden_size)
        first = by_example(layer, state[0] if state else zeros, examples).clone()
        every = torch.ones(examples, 1, dtype=torch.bool)
        return GaveStates(inputs, (first,), every, every)
    if layer.num_layers != 1 or layer.proj_size:
        raise CandidateFailed("it is more than one layer")
    states, size = by_example(layer, gave[0], examples).clone(), int(layer.hidden_size)
    began = (states[:, :-1, :size], states[:, 1:, size:])[: 2 if layer.bidirectional else 1]
    valid = _valid(given, inputs)
    return GaveStates(inputs, began, valid, valid[:, 1:])


def _carried_on(began: Tensor) -> Tensor:
    """Which steps have left the state as it was, (N, T): those behind the end. The last one as the one before it."""
    same = (began[:, 1:] == began[:, :-1]).all(-1) & began[:, 1:].any(-1)
    return torch.cat([same, same[:, -1:]], 1)


def _valid(sequences: Tensor | PackedSequence, inputs: Tensor) -> Tensor:
    if not isinstance(sequences, PackedSequence):
        return torch.ones(inputs.shape[:2], dtype=torch.bool)
    lengths = pad_packed_sequence(sequences, batch_first=True)[1]
    return torch.arange(int(lengths.max())) < lengths[:, None]
