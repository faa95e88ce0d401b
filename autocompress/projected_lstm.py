"""An LSTM with projections as LSTMs without and linear layers behind them, which ONNX and every technique know.

A state that is projected and read a step later is the unprojected one read through both matrices: with h = P m the
recurrent part of the gates is R h = (R P) m.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from autocompress.errors import UsageError

FIRST_STATE = (
    "an LSTM with proj_size is given its first state: leave it out where it is zero, or take an LSTM without proj_size "
    "and nn.Linear behind it"
)


class ProjectedLSTM(nn.Module):
    """Called as the nn.LSTM that it stands for. layers: of each layer the LSTM without projections. projections: of
    each layer, of both its directions together.
    """

    def __init__(self, whole: nn.LSTM) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.proj_size = whole.input_size, whole.hidden_size, whole.proj_size
        self.num_layers, self.bidirectional, self.batch_first = whole.num_layers, whole.bidirectional, whole.batch_first
        self.dropout = nn.Dropout(whole.dropout)
        self.layers = nn.ModuleList(_unprojected(whole, number) for number in range(whole.num_layers))
        self.projections = nn.ModuleList(_projection(whole, number) for number in range(whole.num_layers))
        self.train(whole.training)

    def flatten_parameters(self) -> None:
        """Models call it before the layer; it arranges memory for GPUs."""

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, tuple[Any, Any]]:
        if hx is not None:
            raise UsageError(FIRST_STATE)
        x, hidden, cells = input, list[Tensor](), list[Tensor]()
        for number, (layer, project) in enumerate(zip(self.layers, self.projections, strict=True)):
            states, (last, cell) = layer(_on_places(self.dropout, x) if number else x)
            x = _on_places(project, states)
            ends = F.linear(torch.cat(tuple(last), -1), project.weight)  # type: ignore[arg-type]
            hidden += ends.chunk(len(last), -1)
            cells += [*cell]
        return x, (_stacked(hidden), _stacked(cells))


def _stacked(states: list[Tensor]) -> Any:
    """(D * L, N, H); states of different widths give a tuple, which is indexed alike."""
    return torch.stack(states) if len({state.shape for state in states}) == 1 else tuple(states)


def without_projections(model: nn.Module) -> nn.Module:
    """``model`` with the LSTMs that have projections as ones without: in place, or another one where it is one."""
    if is_projected(model):
        return ProjectedLSTM(model)  # type: ignore[arg-type]
    made: dict[nn.Module, ProjectedLSTM] = {}
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if is_projected(module):
            parent, _, child = path.rpartition(".")
            if module not in made:
                made[module] = ProjectedLSTM(module)
            setattr(model.get_submodule(parent), child, made[module])
    return model


def is_projected(module: nn.Module) -> bool:
    return type(module) is nn.LSTM and module.proj_size > 0


def _on_places(function: Callable[[Tensor], Tensor], x: Any) -> Any:
    return x._replace(data=function(x.data)) if isinstance(x, PackedSequence) else function(x)


def _suffixes(whole: nn.LSTM) -> tuple[str, ...]:
    return ("", "_reverse") if whole.bidirectional else ("",)


def _unprojected(whole: nn.LSTM, number: int) -> nn.LSTM:
    inputs = whole.input_size if number == 0 else whole.proj_size * len(_suffixes(whole))
    settings = {name: getattr(whole, name) for name in ("bias", "batch_first", "bidirectional")}
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # what it is initialized with is not used
        layer = nn.LSTM(inputs, whole.hidden_size, **settings)
        for name, parameter in layer.named_parameters():
            kind, suffix = name.split("_l0")
            value = getattr(whole, f"{kind}_l{number}{suffix}")
            parameter.copy_(value @ getattr(whole, f"weight_hr_l{number}{suffix}") if kind == "weight_hh" else value)
            parameter.requires_grad_(value.requires_grad)
    return layer


def _projection(whole: nn.LSTM, number: int) -> nn.Linear:
    values = [getattr(whole, f"weight_hr_l{number}{suffix}") for suffix in _suffixes(whole)]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        layer = nn.Linear(len(values) * whole.hidden_size, len(values) * whole.proj_size, bias=False)
        layer.weight.copy_(torch.block_diag(*values))  # type: ignore[no-untyped-call]
        layer.weight.requires_grad_(values[0].requires_grad)
    return layer
