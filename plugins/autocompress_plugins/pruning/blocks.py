"""Which blocks and recurrent layers a model can do without: those that give back the shape they were given.

A unit is named by its module ("body.3"), a layer of a recurrent module by its number behind a colon ("rnn:1").
"""

import copy
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from autocompress.data import call, primary
from autocompress.errors import one_line
from autocompress.task import Inputs
from autocompress_plugins.pruning.recurrent_layers import RECURRENT, RecurrentStack

WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear, nn.RNNBase, nn.MultiheadAttention)


class Bypass(nn.Module):
    """Gives back what it is given first; in place of a recurrent module also a state, which is none."""

    def __init__(self, recurrent: bool = False) -> None:
        super().__init__()
        self.recurrent = recurrent

    def forward(self, *given: Any, **named: Any) -> Any:
        first = given[0] if given else next(iter(named.values()))
        return (first, None) if self.recurrent else first


@dataclass(frozen=True)
class Droppable:
    """names: the units that can be dropped, in the model's order. kept: units that cannot, each with the reason."""

    names: tuple[str, ...]
    kept: dict[str, str]


def droppable(model: nn.Module, inputs: Inputs) -> Droppable:
    """A unit counts when the model without it runs and gives an output of the same shape."""
    model = copy.deepcopy(model).eval()
    blocks = _outermost(model, _same_shape(copy.deepcopy(model), inputs))
    expected = _run(model, inputs)
    names: list[str] = []
    kept: dict[str, str] = {}
    for name in (*blocks, *_recurrent_layers(model, blocks)):
        try:
            got = _run(without(copy.deepcopy(model), [name]), inputs)
        except Exception as error:  # whatever a model does with its blocks beside calling them
            kept[name] = f"the model breaks without it ({type(error).__name__}: {one_line(error, 120)})"
            continue
        if got == expected:
            names.append(name)
        else:
            kept[name] = "the output has another shape without it"
    return Droppable(tuple(names), kept)


def without(model: nn.Module, names: Collection[str]) -> nn.Module:
    """Take the units out of ``model`` in place; all other modules keep their names."""
    layers: dict[str, set[int]] = defaultdict(set)
    for name in names:
        path, _, layer = name.partition(":")
        if layer:
            layers[path].add(int(layer))
        else:
            model.set_submodule(path, Bypass())
    for path, dropped in layers.items():
        model.set_submodule(path, _shortened(model.get_submodule(path), dropped))
    return model


def _shortened(module: nn.Module, dropped: Collection[int]) -> nn.Module:
    """A recurrent module without some of its layers, with the weights of the others."""
    assert isinstance(module, (*RECURRENT, RecurrentStack))
    kept = [layer for layer in range(module.num_layers) if layer not in dropped]
    if not kept:
        return Bypass(recurrent=True)
    if isinstance(module, RecurrentStack):
        return module.keep(kept)
    settings = {key: getattr(module, key) for key in ("bias", "batch_first", "bidirectional")}
    own = {nn.LSTM: "proj_size", nn.RNN: "nonlinearity"}.get(type(module))
    if own is not None:
        settings[own] = getattr(module, own)
    settings["dropout"] = module.dropout if len(kept) > 1 else 0.0
    with torch.random.fork_rng(devices=[]):  # what it is initialized with is not used
        shorter = type(module)(module.input_size, module.hidden_size, len(kept), **settings)
    weights = {}
    for name, value in module.state_dict().items():
        head, layer, tail = re.fullmatch(r"(\w+_l)(\d+)(\w*)", name).groups()  # type: ignore[union-attr]
        if int(layer) in kept:
            weights[f"{head}{kept.index(int(layer))}{tail}"] = value
    shorter.load_state_dict(weights)
    return shorter.train(module.training)


def _same_shape(model: nn.Module, inputs: Inputs) -> set[str]:
    """Modules whose every call gives one tensor, shaped like the first thing given. Leaves its hooks on ``model``."""
    agrees: dict[str, list[bool]] = defaultdict(list)

    def watch(name: str) -> Any:
        def hook(module: nn.Module, given: Any, named: Any, gave: Any) -> None:
            first = next(iter((*given, *named.values())), None)
            agrees[name].append(isinstance(first, Tensor) and isinstance(gave, Tensor) and first.shape == gave.shape)

        return hook

    for name, module in model.named_modules():
        module.register_forward_hook(watch(name), with_kwargs=True)
    _run(model, inputs)
    return {name for name, calls in agrees.items() if all(calls)}


def _outermost(model: nn.Module, same_shape: Collection[str]) -> list[str]:
    """The largest modules with weights that keep the shape. A list of such blocks is not one, nor is a module that
    holds all of the model's layers."""
    held = {name: _weighted(module) for name, module in model.named_modules()}
    blocks = {name for name in same_shape if 0 < held[name] < held[""] and any(model.get_submodule(name).children())}

    def visit(path: str) -> list[str]:
        inside = list(_nearest(model, path, blocks))
        if path in blocks and not _has_list_of(model, inside):
            return [path]
        return [name for block in inside for name in visit(block)]

    return visit("")


def _nearest(model: nn.Module, path: str, blocks: Collection[str]) -> Iterator[str]:
    """The blocks inside a module that lie in no other block inside it."""
    for own, _ in model.get_submodule(path).named_children():
        name = f"{path}.{own}" if path else own
        if name in blocks:
            yield name
        else:
            yield from _nearest(model, name, blocks)


def _has_list_of(model: nn.Module, blocks: Collection[str]) -> bool:
    parents = Counter(name.rpartition(".")[0] for name in blocks)
    return any(
        count > 1 and isinstance(model.get_submodule(path), (nn.Sequential, nn.ModuleList))
        for path, count in parents.items()
    )


def _weighted(module: nn.Module) -> int:
    return sum(isinstance(inner, WEIGHTED) for inner in module.modules())


def _recurrent_layers(model: nn.Module, blocks: Collection[str]) -> Iterator[str]:
    """Layers of recurrent modules outside the blocks: of several all but the first, a single one where its output is as
    wide as its input. Of layers that may differ in width, because units were pruned, each that keeps its input's."""
    stacks = [name for name, module in model.named_modules() if isinstance(module, RecurrentStack)]
    for name, module in model.named_modules():
        if isinstance(module, RecurrentStack):
            yield from (f"{name}:{n}" for n, own in enumerate(module.layers) if own.in_channels == own.out_channels)
        elif type(module) in RECURRENT and not any(name.startswith(f"{outer}.") for outer in (*blocks, *stacks)):
            width = (module.proj_size or module.hidden_size) * (2 if module.bidirectional else 1)
            yield from (f"{name}:{layer}" for layer in range(1, module.num_layers))
            if module.num_layers == 1 and module.input_size == width:
                yield f"{name}:0"


def _run(model: nn.Module, inputs: Inputs) -> torch.Size:
    with torch.inference_mode():
        return primary(call(model, inputs)).shape
