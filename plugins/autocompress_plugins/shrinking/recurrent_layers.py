"""Recurrent layers whose units can be removed: a multi-layer LSTM, GRU or RNN as a chain of one-layer ones.

A chain computes the same function, and each of its layers may have its own hidden size. Removing unit k of a layer
takes row k out of every gate, column k out of the recurrent weights, and what reads the layer's output at k. Of a cell
that the model's own loop calls for each step they go in the same way.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from autocompress.errors import CandidateFailed
from autocompress.nested import map_tensors
from autocompress_plugins.shrinking.opaque import Opaque, out_of_the_graph

GATES = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1, nn.LSTMCell: 4, nn.GRUCell: 3, nn.RNNCell: 1}
Core = nn.LSTM | nn.GRU | nn.RNN
CellCore = nn.LSTMCell | nn.GRUCell | nn.RNNCell
Sequences = Tensor | PackedSequence


def on_places(function: Callable[[Tensor], Tensor], x: Sequences) -> Sequences:
    """What a function of the last dimension gives at every place, packed or not."""
    return x._replace(data=function(x.data)) if isinstance(x, PackedSequence) else function(x)


class RecurrentLayer(Opaque):
    """One layer, one or two directions: (N, T, I) or (T, N, I), or a packed sequence of these -> the same with D * H,
    and its last states: hidden, and cell if it has one, each a tensor (N, H) for every direction.
    """

    def __init__(self, core: Core) -> None:
        super().__init__()
        self.core = core

    @property
    def directions(self) -> int:
        return 2 if self.core.bidirectional else 1

    def opaque_widths(self) -> tuple[int, int]:
        return self.in_channels, self.out_channels

    @property
    def in_channels(self) -> int:
        return int(self.core.input_size)

    @property
    def out_channels(self) -> int:
        return self.directions * int(self.core.hidden_size)

    def forward(self, x: Sequences) -> tuple[Sequences, Any]:
        if self.opaque:
            y = on_places(partial(self.stand_in, width=self.out_channels), x)
            with out_of_the_graph():
                cell = self._last(y)
            return y, (self._last(y), cell)
        y, state = self.core(x)
        return y, tuple(tuple(part) for part in (state if isinstance(state, tuple) else (state,)))

    def _last(self, y: Sequences) -> tuple[Tensor, ...]:
        """The last hidden state of each direction (N, H), read from the outputs; of packed ones some state, as wide."""
        if isinstance(y, PackedSequence):
            ends = [y.data.index_select(0, torch.arange(int(y.batch_sizes[0])))] * self.directions
        else:
            y = y if self.core.batch_first else y.transpose(0, 1)
            ends = [y[:, -1] if d == 0 else y[:, 0] for d in range(self.directions)]
        size = int(self.core.hidden_size)
        return tuple(end[:, d * size : (d + 1) * size] for d, end in enumerate(ends))

    def suffix(self, direction: int) -> str:
        """What the names of a direction's weights end with."""
        return "_l0_reverse" if direction else "_l0"

    def matrices(
        self, direction: int, value: Callable[[Tensor], Tensor] = lambda weight: weight
    ) -> tuple[Tensor, Tensor]:
        """Input (gates, H, I) and recurrent weights (gates, H, H) of one direction, or a value of each."""
        found = (getattr(self.core, f"weight_{kind}{self.suffix(direction)}") for kind in ("ih", "hh"))
        one, other = (value(w).reshape(GATES[type(self.core)], self.core.hidden_size, -1) for w in found)
        return one, other

    def remove_outputs(self, removed: Sequence[int]) -> None:
        """Remove hidden units by their place in the output; both directions have to lose equally many."""
        size, gone = int(self.core.hidden_size), set(removed)
        kept = [[k for k in range(size) if d * size + k not in gone] for d in range(self.directions)]
        if len({len(units) for units in kept}) != 1 or not kept[0]:
            raise CandidateFailed("the two directions of a recurrent layer keep equally many units, at least one")
        self._resize(kept, list(range(self.in_channels)))

    def remove_inputs(self, removed: Sequence[int]) -> None:
        gone = set(removed)
        units = [list(range(int(self.core.hidden_size)))] * self.directions
        self._resize(units, [i for i in range(self.in_channels) if i not in gone])

    def _resize(self, units: list[list[int]], inputs: list[int]) -> None:
        old, gates = self.core, GATES[type(self.core)]
        new = self.like(len(inputs), len(units[0]))
        with torch.no_grad():
            for d, kept in enumerate(units):
                rows = [gate * int(old.hidden_size) + unit for gate in range(gates) for unit in kept]
                columns = {"weight_ih": inputs, "weight_hh": kept}
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                    name = f"{kind}{self.suffix(d)}"
                    if getattr(old, name, None) is not None:
                        cut = getattr(old, name)[rows]
                        getattr(new, name).copy_(cut[:, columns[kind]] if kind in columns else cut)
        self.core = new

    def like(self, inputs: int, hidden: int) -> Any:
        """A core of other sizes."""
        return like(self.core, inputs, hidden)


class _AroundCore(Opaque):
    """Gives what the model's code reads of the layer inside (its hidden size, its weights)."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("core"), name)


class RecurrentCell(_AroundCore, RecurrentLayer):
    """One step, as nn.LSTMCell, nn.GRUCell or nn.RNNCell: (N, I) and a state -> the next state. A first state of all
    the units that there were is taken for that of the ones left.
    """

    directions = 1

    def __init__(self, core: CellCore) -> None:
        if type(core) not in GATES:
            raise CandidateFailed(f"{type(core).__name__} may do more than the cell it inherits from")
        super().__init__(core)  # type: ignore[arg-type]
        self.whole, self.left = int(core.hidden_size), list(range(int(core.hidden_size)))

    def forward(self, input: Tensor, hx: Any = None) -> Any:  # type: ignore[override]
        if self.opaque:
            state = self.stand_in(input, self.out_channels)
            return (state, state) if isinstance(self.core, nn.LSTMCell) else state
        return self.core(input, map_tensors(self._of_left, hx))

    def _of_left(self, state: Tensor) -> Tensor:
        if state.shape[-1] == len(self.left):
            return state
        return state.index_select(-1, torch.tensor(self.left, device=state.device))

    def suffix(self, direction: int) -> str:
        return ""

    def _resize(self, units: list[list[int]], inputs: list[int]) -> None:
        super()._resize(units, inputs)
        self.left = [self.left[unit] for unit in units[0]]

    def like(self, inputs: int, hidden: int) -> Any:
        own: Any = self.core
        named = {"nonlinearity": own.nonlinearity} if isinstance(own, nn.RNNCell) else {}
        with torch.random.fork_rng(devices=[]):  # what it is initialized with is not used
            return type(own)(inputs, hidden, own.bias, **named).train(own.training)


class RecurrentStack(nn.Module):
    """Stands where a multi-layer nn.LSTM, nn.GRU or nn.RNN stood, and returns what it returned. Starts from a zero
    state.
    """

    def __init__(self, whole: Core) -> None:
        super().__init__()
        if type(whole) not in GATES:
            raise CandidateFailed(f"{type(whole).__name__} may do more than the layer it inherits from")
        if getattr(whole, "proj_size", 0):
            raise CandidateFailed("an LSTM with a projection is left as it is")
        self.batch_first, self.bidirectional, self.num_layers = whole.batch_first, whole.bidirectional, whole.num_layers
        self.has_cell = isinstance(whole, nn.LSTM)
        self.dropout = nn.Dropout(whole.dropout)
        self.layers = nn.ModuleList(RecurrentLayer(_one_layer(whole, number)) for number in range(whole.num_layers))

    def keep(self, numbers: Sequence[int]) -> "RecurrentStack":
        """Only these layers, at least one, in this order; each has to take what the one before it gives."""
        self.layers = nn.ModuleList(self.layers[number] for number in numbers)
        self.num_layers = len(numbers)
        return self

    def flatten_parameters(self) -> None:
        """Models call it before the layer; it arranges memory for GPUs."""

    def forward(self, input: Sequences, hx: Any = None) -> tuple[Sequences, Any]:
        if hx is not None:
            raise CandidateFailed("a recurrent layer that is given its initial state is left as it is")
        x, lasts = input, []
        for number, layer in enumerate(self.layers):
            x, last = layer(x if number == 0 or not self.training else on_places(self.dropout, x))
            lasts.append(last)
        together = tuple if self.layers[0].opaque else _stacked  # stacked, units would seem to go with other layers'
        hidden, *cell = (together([h for layer in kind for h in layer]) for kind in zip(*lasts, strict=True))
        return x, (hidden, cell[0]) if self.has_cell else hidden


def _stacked(states: list[Tensor]) -> Any:
    """(D * L, N, H); layers of different sizes give a tuple, which is indexed alike."""
    alike = len({state.shape for state in states}) == 1
    return torch.stack(states) if alike else tuple(states)


class RecurrentBarrier(_AroundCore):
    """Around a recurrent layer that is left as it is, so that the layers on both sides of it can be seen."""

    def __init__(self, core: Core) -> None:
        super().__init__()
        self.core = core

    def forward(self, input: Any, hx: Any = None) -> Any:
        x = input
        if not self.opaque:
            return self.core(x, hx)
        with out_of_the_graph():
            y, state = self.core(x, hx)
        width = (y.data if isinstance(y, PackedSequence) else y).shape[-1]
        return on_places(partial(self.stand_in, width=width), x), state

    def opaque_widths(self) -> tuple[int, int]:
        return self.in_channels, self.out_channels

    @property
    def in_channels(self) -> int:
        return int(self.core.input_size)

    @property
    def out_channels(self) -> int:
        return int(self.core.hidden_size) * (2 if self.core.bidirectional else 1)

    def remove_outputs(self, removed: Sequence[int]) -> None:
        raise CandidateFailed("a recurrent layer that is left as it is fixes them")

    remove_inputs = remove_outputs


def like(whole: Core, inputs: int, hidden: int, layers: int = 1) -> Core:
    """A recurrent module of the same kind and settings with other sizes, whose weights are still to be filled in."""
    own = {nn.LSTM: "proj_size", nn.RNN: "nonlinearity"}.get(type(whole))
    settings = {key: getattr(whole, key) for key in ("bias", "batch_first", "bidirectional", *([own] if own else []))}
    dropout = whole.dropout if layers > 1 else 0.0  # it lies between layers
    with torch.random.fork_rng(devices=[]):  # what it is initialized with is not used
        return type(whole)(inputs, hidden, layers, dropout=dropout, **settings).train(whole.training)


def _one_layer(whole: Core, number: int) -> Core:
    inputs = whole.input_size if number == 0 else whole.hidden_size * (2 if whole.bidirectional else 1)
    layer = like(whole, inputs, whole.hidden_size)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(getattr(whole, name.replace("_l0", f"_l{number}")))
    return layer
