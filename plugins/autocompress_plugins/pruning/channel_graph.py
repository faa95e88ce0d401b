"""Which channels can be removed together: torch-pruning's dependency graph, for the strategies that narrow a model.

Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023.
"""

import copy
import logging
import warnings
from collections.abc import Collection, Iterator
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
        key = repr([(name, type(module).__name__) for name, module in model.named_modules()])  # whatever the widths
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

    def prune(self, model: nn.Module, inputs: Inputs, widths: dict[str, int], importance: Any) -> list[Any]:
        """Narrow the layers of ``model`` in place to ``widths``; returns the pruning history, which ``replay`` carries
        out again. Raises CandidateFailed when nothing would change."""
        layers = dict(model.named_modules())
        # A hair over the width, so that rounding down inside the pruner gives just that.
        ratios = {layers[name]: max(0.0, 1 - (width + 1e-3) / _width(layers[name])) for name, width in widths.items()}
        history = _step(model, inputs, importance, widths, pruning_ratio=0.0, pruning_ratio_dict=ratios)
        if not history:
            raise CandidateFailed("no channel would be removed")
        return history

    def uniform(self, model: nn.Module, inputs: Inputs, ratio: float, round_to: int) -> dict[str, int]:
        """Every prunable layer's width after removing the same share of all."""
        layers = dict(model.named_modules())
        names = self.channels(model, inputs).names
        return {n: rounded(_width(layers[n]) * (1 - ratio), _width(layers[n]), round_to) for n in names}

    def by_importance(
        self, model: nn.Module, inputs: Inputs, ratio: float, importance: Any, round_to: int
    ) -> dict[str, int]:
        """Every prunable layer's width after removing the least important channels of the whole model; no layer loses
        more than three tenths above ``ratio``."""
        names = self.channels(model, inputs).names
        before = {name: _width(layer) for name, layer in model.named_modules() if name in names}
        trial, gradients = copy.deepcopy(model), [p.grad for p in model.parameters()]
        for parameter, gradient in zip(trial.parameters(), gradients, strict=True):
            parameter.grad = gradient  # a copy leaves them behind
        widths = dict.fromkeys(names, 0)
        most = min(0.95, ratio + 0.3)
        _step(trial, inputs, importance, widths, pruning_ratio=ratio, global_pruning=True, max_pruning_ratio=most)
        after = dict(trial.named_modules())
        return {name: rounded(_width(after[name]), before[name], round_to) for name in names}


def rounded(width: float, most: int, round_to: int) -> int:
    """The nearest multiple of ``round_to``, at least one of them and at most ``most``; in narrow layers of a quarter of
    the width, so that they too can shrink."""
    round_to = max(1, min(round_to, most // 4))
    return min(most, max(round_to, round(width / round_to) * round_to, 1))


def _width(layer: nn.Module) -> int:
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)  # type: ignore[arg-type]


def _step(model: nn.Module, inputs: Inputs, importance: Any, chosen: Collection[str], **settings: Any) -> list[Any]:
    """One step of torch-pruning's pruner on the ``chosen`` layers, in place; its history as JSON."""
    ignored = [layer for name, layer in model.named_modules() if isinstance(layer, PRUNABLE) and name not in chosen]
    with _quiet():
        pruner = tp.pruner.BasePruner(
            model,
            inputs,
            importance=importance,
            ignored_layers=ignored,
            forward_fn=lambda m, x: primary(call(m, x)),
            **settings,
        )
        pruner.step()
        history = pruner.pruning_history()
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
