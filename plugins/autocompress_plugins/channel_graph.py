"""Which channels can be removed together: torch-pruning's dependency graph, for the strategies that narrow a model.

Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023.
"""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning as tp
from torch import nn

from autocompress.data import call, primary
from autocompress.errors import CandidateFailed, one_line
from autocompress.task import Inputs

RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)
PRUNABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear)


@dataclass(frozen=True)
class Channels:
    """names: layers whose output channels can shrink. kept: the others, each with the reason it is left alone."""

    names: tuple[str, ...]
    kept: dict[str, str]


class ChannelGraph:
    """Finds the prunable layers of a model, once for each structure, and prunes."""

    def __init__(self) -> None:
        self._found: dict[str, Channels] = {}

    def channels(self, model: nn.Module, inputs: Inputs) -> Channels:
        """The layers that can shrink. A layer counts when removing one of its channels leaves a model that runs and
        whose output keeps its shape. Raises CandidateFailed when the dependency graph cannot be traced."""
        key = repr([(name, tuple(p.shape)) for name, p in model.named_parameters()])
        if key not in self._found:
            self._found[key] = self._probe(model, inputs)
        return self._found[key]

    def _probe(self, model: nn.Module, inputs: Inputs) -> Channels:
        expected = _shape(model, inputs)
        names: list[str] = []
        kept: dict[str, str] = {}
        for name, layer in model.named_modules():
            if not isinstance(layer, PRUNABLE):
                continue
            trial = copy.deepcopy(model)
            graph = trace(trial, inputs)
            try:
                with _quiet():
                    target = trial.get_submodule(name)
                    group = graph.get_pruning_group(target, graph.get_pruner_of_module(target).prune_out_channels, [0])
                    group.prune()
                    got = _shape(trial, inputs)
            except Exception as error:  # the dependency graph did not cover this layer: it is left alone
                kept[name] = f"removing a channel breaks the model ({type(error).__name__}: {one_line(error, 120)})"
                continue
            if got != expected:
                kept[name] = "its channels are the model's output"
                continue
            names.append(name)
        return Channels(tuple(names), kept)

    def prune(
        self, model: nn.Module, inputs: Inputs, ratio: float, importance: Any, round_to: int, global_allocation: bool
    ) -> list[Any]:
        """Remove ``ratio`` of the channels of ``model`` in place; returns the pruning history, which replays by
        ``replay``.
        """
        channels = self.channels(model, inputs)
        ignored = [
            layer for name, layer in model.named_modules() if isinstance(layer, PRUNABLE) and name not in channels.names
        ]
        with _quiet():
            pruner = tp.pruner.BasePruner(
                model,
                inputs,
                importance=importance,
                pruning_ratio=ratio,
                max_pruning_ratio=min(0.95, ratio + 0.3) if global_allocation else 1.0,
                global_pruning=global_allocation,
                ignored_layers=ignored,
                round_to=round_to if round_to > 1 else None,
                forward_fn=lambda m, x: primary(call(m, x)),
            )
            pruner.step()
            history: list[Any] = pruner.pruning_history()
        if not history:
            raise CandidateFailed(f"ratio {ratio:g} with rounding to {round_to} removes no channel")
        return [[name, bool(out), [int(i) for i in indices]] for name, out, indices in history]


def trace(model: nn.Module, inputs: Inputs) -> Any:
    """The dependency graph of ``model``. Raises CandidateFailed with the layer that stands in the way."""
    recurrent = [f"{name} ({type(m).__name__})" for name, m in model.named_modules() if isinstance(m, RECURRENT)]
    if recurrent:
        raise CandidateFailed(f"the dependency graph does not pass recurrent layers: {', '.join(recurrent)}")
    try:
        with _quiet():
            return tp.DependencyGraph().build_dependency(model, inputs, forward_fn=lambda m, x: primary(call(m, x)))
    except Exception as error:
        raise CandidateFailed(
            f"the dependency graph cannot be traced: {type(error).__name__}: {one_line(error, 160)}"
        ) from error


def replay(model: nn.Module, inputs: Inputs, history: list[Any]) -> nn.Module:
    """Carry a pruning history out on an unpruned model, in place."""
    graph = trace(model, inputs)
    with _quiet():
        graph.load_pruning_history([(name, out, list(indices)) for name, out, indices in history])
    return model


def _shape(model: nn.Module, inputs: Inputs) -> tuple[int, ...]:
    with torch.inference_mode():
        return tuple(primary(call(model.eval(), inputs)).shape)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch_pruning").setLevel(logging.ERROR)
        yield
