"""Which blocks and recurrent layers a model can do without: those that give back the shape they were given."""

import copy
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from typing import Any

from torch import Tensor, nn

from autocompress.errors import one_line
from autocompress.kept_parts import holds_kept
from autocompress.plain_model import evaluating
from autocompress.task import Inputs
from autocompress_plugins.fitting_parts import FittingParts
from autocompress_plugins.layer_kinds import MATRIX_LAYERS, RECURRENT_LAYERS
from autocompress_plugins.model_runs import output, outputs, shapes_of, watched
from autocompress_plugins.shrinking.block_removal import without
from autocompress_plugins.shrinking.recurrent_layers import RecurrentStack


def droppable(model: nn.Module, inputs: Inputs) -> FittingParts:
    """The units that can be dropped: the model without one runs and gives an output of the same shape."""
    model = evaluating(copy.deepcopy(model))
    blocks = _outermost(model, _same_shape(model, inputs))
    expected = shapes_of(outputs(model, inputs))
    names: list[str] = []
    kept: dict[str, str] = {}
    for name in (*blocks, *_recurrent_layers(model, blocks)):
        if (reason := holds_kept(model.get_submodule(name.partition(":")[0]))) is not None:
            kept[name] = reason
            continue
        try:
            got = shapes_of(outputs(without(copy.deepcopy(model), [name]), inputs))
        except Exception as error:  # whatever a model does with its blocks beside calling them
            kept[name] = f"the model breaks without it ({type(error).__name__}: {one_line(error, 120)})"
            continue
        if got == expected:
            names.append(name)
        else:
            kept[name] = "an output has another shape without it"
    return FittingParts(tuple(names), kept)


def _same_shape(model: nn.Module, inputs: Inputs) -> set[str]:
    """Modules whose every call gives one tensor, shaped like the first thing given."""
    same: dict[str, list[bool]] = defaultdict(list)

    def note(name: str, module: nn.Module, given: tuple[Any, ...], gave: Any) -> None:
        first = next(iter(given), None)
        same[name].append(isinstance(first, Tensor) and isinstance(gave, Tensor) and first.shape == gave.shape)

    with watched(model.named_modules(), note):
        output(model, inputs)
    return {name for name, calls in same.items() if all(calls)}


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
    return sum(isinstance(inner, MATRIX_LAYERS) for inner in module.modules())


def _recurrent_layers(model: nn.Module, blocks: Collection[str]) -> Iterator[str]:
    """Layers of recurrent modules outside the blocks: of several all but the first, a single one where its output is as
    wide as its input. Of layers that may differ in width, because units were pruned, each that keeps its input's."""
    stacks = [name for name, module in model.named_modules() if isinstance(module, RecurrentStack)]
    for name, module in model.named_modules():
        if isinstance(module, RecurrentStack):
            yield from (f"{name}:{n}" for n, own in enumerate(module.layers) if own.in_channels == own.out_channels)
        elif type(module) in RECURRENT_LAYERS and not any(name.startswith(f"{outer}.") for outer in (*blocks, *stacks)):
            width = (module.proj_size or module.hidden_size) * (2 if module.bidirectional else 1)
            yield from (f"{name}:{layer}" for layer in range(1, module.num_layers))
            if module.num_layers == 1 and module.input_size == width:
                yield f"{name}:0"
