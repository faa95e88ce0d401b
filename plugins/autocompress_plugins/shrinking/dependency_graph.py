"""The graph of a model's channels by torch-pruning, taught what it does not know: recurrent layers, attention, grouped
convolutions, RMS norms, slices of the channels.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch_pruning.dependency import index_mapping, shape_infer

from autocompress.data import call, computing_as_in_training, run_in_training_alone
from autocompress.errors import CandidateFailed, one_line
from autocompress.nested import tensors_of
from autocompress.task import Inputs
from autocompress_plugins.layer_kinds import CONVOLUTIONS
from autocompress_plugins.model_runs import watched
from autocompress_plugins.shrinking.groups import remaining
from autocompress_plugins.shrinking.opaque import Opaque, opaque

POSITIONAL = {getattr(tp.ops.OPTYPE, kind) for kind in ("CONCAT", "SPLIT", "SLICE", "UNBIND", "EXPAND", "RESHAPE")}

FEWEST_DEPENDENCIES, DEPENDENCIES_A_NODE = 200, 6  # with these, more than any group has that ends


def trace(model: nn.Module, inputs: Inputs) -> Any:
    """The dependency graph of a model in prunable form, with what runs in training mode alone, such as an auxiliary
    head. Raises CandidateFailed.
    """
    kinds = {type(module) for module in model.modules() if isinstance(module, Opaque)}
    try:
        alone = run_in_training_alone(model, inputs)
        with _without_warnings(), opaque(model), _with_every_gradient(model), _lenient():
            graph = tp.DependencyGraph()
            graph.REGISTERED_PRUNERS[tp.ops.OPTYPE.SLICE] = _SlicePruner()
            graph.REGISTERED_PRUNERS[tp.ops.OPTYPE.CONV] = _ConvolutionPruner()
            graph.REGISTERED_PRUNERS[tp.ops.OPTYPE.LN] = _NormPruner()
            tables = _read_as_tables(model, inputs)
            graph.build_dependency(
                model,
                inputs,
                forward_fn=partial(_ends, training=bool(alone)),
                unwrapped_parameters=[(table, 1) for table in tables.values()],
                customized_pruners={nn.RMSNorm: _NormPruner()} | {kind: _OpaquePruner() for kind in kinds},
            )
            graph._param_to_name |= {table: name for name, table in tables.items()}
            for node in graph.module2node.values():
                if _shuffles(node):
                    _give_up_at(node)
            return graph
    except Exception as error:
        raise CandidateFailed(
            f"the dependency graph cannot be traced: {type(error).__name__}: {one_line(error, 160)}"
        ) from error


def _read_as_tables(model: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    """The weights of embeddings that nothing calls, by name: where the model's code reads one, as a table of all
    positions, its channels are those of any tensor.
    """
    embeddings = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Embedding)]
    if not embeddings:
        return {}
    called: set[str] = set()
    with watched(embeddings, lambda name, *_: called.add(name)), torch.no_grad():
        call(model, inputs)
    return {f"{name}.weight".lstrip("."): module.weight for name, module in embeddings if name not in called}


def _shuffles(node: Any) -> bool:
    """Whether a reshape puts together again what was taken apart into groups of channels: torch-pruning follows it in
    circles.
    """
    sizes: Sequence[int] = getattr(node.grad_fn, "_saved_self_sym_sizes", ())
    return node.type == tp.ops.OPTYPE.RESHAPE and len(sizes) == 5 and int(sizes[1]) > 1 and int(sizes[2]) > 1


def _give_up_at(node: Any) -> None:
    """Whatever leads through a node raises CandidateFailed."""

    def lost(indices: object) -> object:
        raise CandidateFailed("a reshape moves its channels to other places")

    leading = [dep for other in (*node.inputs, *node.outputs) for dep in other.dependencies if dep.target is node]
    for dependency in (*node.dependencies, *leading):
        dependency.index_mapping[0] = lost


def group_of(graph: Any, module: nn.Module, units: Sequence[int]) -> Any:
    """What loses channels with these outputs of a layer, by torch-pruning. Where channels lie is known from the trace:
    to work it out again for each group takes most of the time in a deep network that concatenates.
    """
    with _without_warnings(), _exchanged(update_index_mapping=lambda graph: None), _not_in_circles(graph):
        return graph.get_pruning_group(module, graph.get_pruner_of_module(module).prune_out_channels, list(units))


def remove_group(group: Any) -> None:
    """Take what ``group_of`` told out of the model, in place."""
    with _without_warnings():
        group.prune(record_history=False)


@contextmanager
def _lenient() -> Iterator[None]:
    """While open, a reshape that torch-pruning cannot follow (the channel shuffle of ShuffleNet) costs the groups that
    lead through it, which are found to be wrong, and not the graph.
    """

    def lenient(update: Callable[..., None], *args: Any) -> None:
        with suppress(ArithmeticError, LookupError, TypeError, ValueError, AttributeError):
            update(*args)

    named = [name for name in vars(index_mapping) if name.endswith("_index_mapping") and name != "update_index_mapping"]
    own = {name: getattr(index_mapping, name) for name in named}
    own["update_concat_index_mapping"] = partial(_concatenated, own["update_concat_index_mapping"])
    with _exchanged(**{name: partial(lenient, update) for name, update in own.items()}):
        yield


def _concatenated(update: Callable[..., None], graph: Any, node: Any) -> None:
    """Where channels lie behind a concatenation. torch-pruning takes each behind a parameter such as a class token for
    one of places; what reads it tells whether it is one of channels.
    """
    if not node.enable_index_mapping:
        wide = sum(shape_infer.infer_channels_between(graph, before, node) for before in node.inputs)
        node.enable_index_mapping = wide == shape_infer.infer_in_channels_recursively(graph, node, recursive_depth=[0])
    update(graph, node)


@contextmanager
def _not_in_circles(graph: Any) -> Iterator[None]:
    """While open, a group that torch-pruning follows in circles, each time with other channels, raises CandidateFailed:
    it would never end.
    """
    add, most = tp.dependency.Group.add_dep, FEWEST_DEPENDENCIES + DEPENDENCIES_A_NODE * len(graph.module2node)

    def counted(group: Any, *args: Any, **named: Any) -> None:
        if len(group) > most:
            raise CandidateFailed("what depends on it leads in circles")
        add(group, *args, **named)

    tp.dependency.Group.add_dep = counted
    try:
        yield
    finally:
        tp.dependency.Group.add_dep = add


@contextmanager
def _exchanged(**functions: Callable[..., None]) -> Iterator[None]:
    """While open, these functions of torch-pruning that tell where channels lie are others."""
    own = {name: getattr(index_mapping, name) for name in functions}
    try:
        for name, function in functions.items():
            setattr(index_mapping, name, function)
        yield
    finally:
        for name, function in own.items():
            setattr(index_mapping, name, function)


@contextmanager
def _with_every_gradient(model: nn.Module) -> Iterator[None]:
    """While open, every parameter has one, and so has what the model's code computes without or detaches: the graph is
    that of the gradients.
    """
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    for parameter, _ in before:
        parameter.requires_grad_(parameter.is_floating_point())
    try:
        with torch.enable_grad(), _Followed():
            yield
    finally:
        for parameter, trained in before:
            parameter.requires_grad_(trained)


class _Placed(torch.autograd.Function):
    """Values that lie elsewhere, with their channels as they were: one node in the autograd graph."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, placed: Tensor) -> Tensor:
        return placed.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:
        return None, None


class _Followed(TorchFunctionMode):
    """While open, nothing turns gradients off, a detached tensor is the tensor, and what unpacks sequences is one
    operation: it is many slices else.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch._C._set_grad_enabled:
            return None
        if func in (Tensor.detach, torch.detach):
            return args[0]
        if getattr(func, "__name__", "") == "_pad_packed_sequence":
            with torch.no_grad():
                padded, lengths = func(*args, **(kwargs or {}))
            return _Placed.apply(args[0], padded), lengths  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))


def _ends(model: nn.Module, inputs: Inputs, *, training: bool) -> list[Tensor]:
    """The outputs, each by an operation of its own: one that other layers read too is an end of the graph as well. What
    no output depends on, as a pooler whose result is left out, is one too: it reads channels like any other layer.
    """
    gave: list[Tensor] = []
    layers = [(n, module) for n, module in model.named_modules() if isinstance(module, (*CONVOLUTIONS, nn.Linear))]
    mode = computing_as_in_training(model) if training else nullcontext()
    with mode, watched(layers, lambda name, module, given, made: gave.append(made)):
        returned = call(model, inputs)
    ends = [tensor for tensor in tensors_of(returned) if tensor.grad_fn is not None]
    read = _reached(ends)
    ends += [tensor for tensor in gave if tensor.grad_fn is not None and tensor.grad_fn not in read]
    return [tensor.clone() for tensor in ends]


def _reached(tensors: Sequence[Tensor]) -> set[Any]:
    """The operations that these come of."""
    found: set[Any] = set()
    waiting: list[Any] = [tensor.grad_fn for tensor in tensors]
    while waiting:
        operation = waiting.pop()
        if operation is not None and operation not in found:
            found.add(operation)
            waiting += [before for before, _ in operation.next_functions]
    return found


def knows_places(group: Any) -> bool:
    """Whether the graph holds where channels of a group lie in a tensor, which their removal changes."""
    return any(node.type in POSITIONAL for item in group for node in (item.dep.source, item.dep.target))


def by_channel(layer: nn.Module, weight: Tensor, side: str) -> Tensor:
    """A view of a convolution's or linear layer's weights -> (groups, channels of a group on this side, ...)."""
    grouped = weight.view(getattr(layer, "groups", 1), -1, *weight.shape[1:])
    return grouped if (side == "out") != getattr(layer, "transposed", False) else grouped.transpose(1, 2)


class _ConvolutionPruner(tp.pruner.function.ConvPruner):  # type: ignore[misc]
    """Each group of a convolution loses its own channels, equally many as the others."""

    def prune_out_channels(self, layer: Any, indices: Sequence[int]) -> nn.Module:
        kept = self._keep(layer, "out", layer.out_channels, indices)
        layer.out_channels = len(kept)
        if layer.bias is not None:
            layer.bias = nn.Parameter(layer.bias.detach()[kept])
        return layer  # type: ignore[no-any-return]

    def prune_in_channels(self, layer: Any, indices: Sequence[int]) -> nn.Module:
        layer.in_channels = len(self._keep(layer, "in", layer.in_channels, indices))
        return layer  # type: ignore[no-any-return]

    def _keep(self, layer: Any, side: str, width: int, indices: Sequence[int]) -> list[int]:
        kept, run = remaining(width, indices), width // layer.groups
        own = [[i % run for i in kept if i // run == group] for group in range(layer.groups)]
        if len({len(each) for each in own}) > 1:
            raise CandidateFailed("the groups of a convolution keep equally many channels")
        weight = by_channel(layer, layer.weight.detach(), side)
        cut = torch.stack([part[each] for part, each in zip(weight, own, strict=True)])
        straight = (side == "out") != layer.transposed
        layer.weight = nn.Parameter((cut if straight else cut.transpose(1, 2)).flatten(0, 1).contiguous())
        return kept


class _NormPruner(tp.pruner.function.BasePruningFunc):  # type: ignore[misc]
    """For norms over the last dimension. torch-pruning's own may leave the weights of nn.LayerNorm in another order."""

    def prune_out_channels(self, layer: Any, indices: Sequence[int]) -> nn.Module:
        *outer, width = layer.normalized_shape
        kept = remaining(width, indices)
        for name, parameter in list(layer.named_parameters(recurse=False)):
            setattr(layer, name, nn.Parameter(parameter.detach()[..., kept]))
        layer.normalized_shape = (*outer, len(kept))
        return layer  # type: ignore[no-any-return]

    prune_in_channels = prune_out_channels

    def get_out_channels(self, layer: Any) -> int:
        return int(layer.normalized_shape[-1])

    get_in_channels = get_out_channels


class _OpaquePruner(tp.pruner.function.BasePruningFunc):  # type: ignore[misc]
    def prune_out_channels(self, layer: Opaque, indices: Sequence[int]) -> nn.Module:
        layer.remove_outputs(list(indices))
        return layer

    def prune_in_channels(self, layer: Opaque, indices: Sequence[int]) -> nn.Module:
        layer.remove_inputs(list(indices))
        return layer

    def get_out_channels(self, layer: Opaque) -> int:
        return layer.opaque_widths()[1]

    def get_in_channels(self, layer: Opaque) -> int:
        return layer.opaque_widths()[0]


class _SlicePruner(tp.ops.SlicePruner):  # type: ignore[misc]
    """Tells how many channels a slice of the channels has, without which a concatenation of slices is not followed."""

    def get_out_channels(self, layer: Any) -> int | None:
        sizes = layer.grad_fn._saved_self_sym_sizes
        if len(sizes) > 3 or layer.dim % len(sizes) != len(sizes) - 1:
            return None
        return len(range(int(sizes[-1]))[layer.start : layer.end : layer.step])


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Its warnings are about what is checked afterwards anyway."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch_pruning").setLevel(logging.ERROR)
        yield
