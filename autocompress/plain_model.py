"""What a user's module comes down to: without what only wraps it, and with weights that are plain parameters.

Wrappers hide a module's names and compile, scatter or average it, which nothing here needs. Weights that are computed
from others at each call (weight and spectral normalisation, masks of pruning) are constants at inference, and are taken
as they come out. Sparse gradients, which most optimizers refuse, become dense ones.
"""

import copy
import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.jit import ScriptModule
from torch.nn.utils import prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.optim.swa_utils import AveragedModel

from autocompress.projected_lstm import is_projected, without_projections

M = TypeVar("M", bound=nn.Module)

OF_COMPILING = "_compiled_call_impl", "_is_torch_compile"  # what torch.compile leaves on a module
COMPILED = "OptimizedModule"  # what torch.compile returns; importing its class takes a second
LAYERS_NAMED = 3  # layers in one line


def evaluating(model: M) -> M:
    """The model, now in evaluation mode. ``eval()`` itself returns what the user's own ``train()`` does."""
    model.eval()
    return model


def plain_copy(model: nn.Module) -> nn.Module:
    """A copy of a module as it comes down to, in evaluation mode, on the CPU, in float32; what the user holds is not
    touched. Raises what copying raises.
    """
    memo: dict[int, Any] = {}
    for module in reversed(list(model.modules())):  # what is inside first
        for tensor in _held_results(module):
            memo[id(tensor)] = tensor.detach().clone()
        if _inner(module) is not None:
            memo[id(module)] = copy.deepcopy(unwrapped(module), memo)
    with torch.no_grad():  # what a module of torch.jit gives for a parameter is computed from it otherwise
        found = evaluating(copy.deepcopy(unwrapped(model), memo).cpu().float())
    shared = _Shared()
    for module in found.modules():
        for attribute in OF_COMPILING:
            vars(module).pop(attribute, None)
        _settle(module, shared)
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            module.sparse = False
    _name_linear_layers(found)
    return without_projections(found)


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside of wrappers."""
    while (inner := _inner(model)) is not None:
        model = inner
    return model


def scripted_part(model: nn.Module) -> str | None:
    """The name of the first module of ``torch.jit`` inside, empty for the model itself; None where there is none."""
    return next((name for name, module in model.named_modules() if isinstance(module, ScriptModule)), None)


def what_is_taken(model: nn.Module) -> list[str]:
    """What a user should know of the difference between a module and its ``plain_copy``."""
    said, layers = [], dict[str, list[str]]()
    for name, module in model.named_modules():
        if _inner(module) is not None:
            where = f" ({name})" if name else ""
            hooks = ", without the hooks on the outer one" if module._forward_hooks or module._forward_pre_hooks else ""
            said.append(
                f"the model is taken out of {type(module).__name__}{where}: the module inside is worked on{hooks}"
            )
        if is_projected(module):
            said.append(
                f"the LSTM with proj_size ({name or 'the model'}) is taken as one without, and linear layers behind "
                "it: ONNX has no form of it"
            )
        for computed in _computed_tensors(module):
            layers.setdefault(computed.how, []).append(name or type(module).__name__)
    for how, names in layers.items():
        more = f" and {len(names) - LAYERS_NAMED} more" if len(names) > LAYERS_NAMED else ""
        said.append(
            f"{how} of {', '.join(names[:LAYERS_NAMED])}{more}: weights are taken as they come out, and training here "
            "changes them without it"
        )
    return said


def _inner(module: nn.Module) -> nn.Module | None:
    """The module that another only wraps. A subclass of a wrapper does more."""
    if type(module).__name__ == COMPILED:
        return module._orig_mod  # type: ignore[return-value]
    wrappers = nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel
    return module.module if type(module) in wrappers else None  # type: ignore[return-value]


def _held_results(module: nn.Module) -> Iterator[Tensor]:
    """Tensors that a module keeps of an earlier call, which torch refuses to copy."""
    stack: list[Any] = list(vars(module).values())
    seen: set[int] = set()
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            if not value.is_leaf:
                yield value
        elif isinstance(value, Mapping):
            stack += value.values()
        elif isinstance(value, (list, tuple)):
            stack += value


def _name_linear_layers(model: nn.Module) -> None:
    """Put ``nn.Linear`` where a model has a linear layer of a class of its own, with its matrix the other way round or
    not, so that what treats linear layers treats these.
    """
    made: dict[nn.Module, nn.Linear] = {}
    holders = Counter(id(p) for m in model.modules() for p in m.parameters(recurse=False))
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if path and module not in made and all(holders[id(p)] == 1 for p in module.parameters(recurse=False)):
            linear = _as_linear(module)
            if linear is not None:
                made[module] = linear
        if module in made:
            parent, _, child = path.rpartition(".")
            setattr(model.get_submodule(parent), child, made[module])


def _as_linear(module: nn.Module) -> nn.Linear | None:
    """The linear layer that computes the same; None for anything else, and for what torch itself defines."""
    held = dict(module.named_parameters(recurse=False))
    weight, bias = held.pop("weight", None), held.pop("bias", None)
    more = any(True for _ in chain(module.children(), module.buffers()))
    known = more or isinstance(module, nn.Linear) or type(module).__module__.startswith("torch.")
    hooked = module._forward_hooks or module._forward_pre_hooks
    if known or hooked or held or weight is None or weight.dim() != 2 or (bias is not None and bias.dim() != 1):
        return None
    takes = [p for p in inspect.signature(module.forward).parameters.values() if p.kind is not p.VAR_KEYWORD]
    if len(takes) != 1:
        return None
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for matrix in (weight, weight.T):
            linear = nn.Linear(matrix.shape[1], matrix.shape[0], bias=bias is not None)
            linear.weight.copy_(matrix)
            if bias is not None and bias.shape != linear.bias.shape:
                continue
            if bias is not None:
                linear.bias.copy_(bias)
            x = torch.randn(2, 3, linear.in_features)
            try:
                same = torch.allclose(module(x), linear(x), rtol=1e-4, atol=1e-5)
            except Exception:  # it takes something else
                continue
            if same:
                for name, value in vars(module).items():
                    vars(linear).setdefault(name, value)  # what the model's own code may read of it
                for own, original in ((linear.weight, weight), (linear.bias, bias)):
                    if original is not None:
                        own.requires_grad_(original.requires_grad)
                return linear.train(module.training)
    return None


class _Shared:
    """The plain tensors that were made of the same originals: where they come out the same they are one."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, ...], tuple[Sequence[Tensor], list[Tensor]]] = {}  # originals kept: ids stay theirs

    def of(self, originals: Sequence[Tensor], value: Tensor) -> Tensor:
        made = self._made.setdefault(tuple(map(id, originals)), (originals, []))[1]
        known = next((each for each in made if each.shape == value.shape and torch.equal(each, value)), None)
        if known is None:
            parameters = [original for original in originals if isinstance(original, nn.Parameter)]
            known = value.detach().clone(memory_format=torch.contiguous_format)
            if parameters:
                known = nn.Parameter(known, any(parameter.requires_grad for parameter in parameters))
            made.append(known)
        return known


@dataclass(frozen=True)
class _ComputedTensor:
    """A tensor of a module that is computed from others at each call. how: in the user's words. compute: as it comes
    out now. leave: have it computed no more.
    """

    name: str
    how: str
    originals: Sequence[Tensor]
    compute: Callable[[], Tensor]
    leave: Callable[[], object]


def _computed_tensors(module: nn.Module) -> list[_ComputedTensor]:
    found = []
    if is_parametrized(module):
        lists: Any = module.parametrizations
        for name, kinds in lists.items():
            how = f"the parametrization {', '.join(type(kind).__name__.lstrip('_') for kind in kinds)}"
            originals = [*kinds.parameters(recurse=False), *kinds.buffers(recurse=False)]
            compute = partial(getattr, module, name)
            found.append(_ComputedTensor(name, how, originals, compute, partial(_leave_parametrizations, module)))
    hooks = list(module._forward_pre_hooks.values())
    for hook in hooks:
        if isinstance(hook, WeightNorm):
            originals = [getattr(module, f"{hook.name}{part}") for part in ("_g", "_v")]
            compute, unhook = partial(hook.compute_weight, module), partial(remove_weight_norm, module, hook.name)
            found.append(_ComputedTensor(hook.name, "weight norm", originals, compute, unhook))
        elif isinstance(hook, SpectralNorm):
            originals = [getattr(module, f"{hook.name}_orig")]
            compute = partial(hook.compute_weight, module, do_power_iteration=False)
            unhook = partial(remove_spectral_norm, module, hook.name)
            found.append(_ComputedTensor(hook.name, "spectral norm", originals, compute, unhook))
    if any(isinstance(hook, prune.BasePruningMethod) for hook in hooks):
        names = [name.removesuffix("_orig") for name, _ in module.named_parameters(recurse=False)]
        for name in (name for name in names if hasattr(module, f"{name}_mask")):
            original, mask = getattr(module, f"{name}_orig"), getattr(module, f"{name}_mask")
            compute, unmask = partial(torch.mul, original, mask), partial(_leave_mask, module, name)
            found.append(_ComputedTensor(name, "the pruning mask", [original], compute, unmask))
    return found


def _settle(module: nn.Module, shared: _Shared) -> None:
    """Make tensors that are computed from others at each call plain ones, as they come out now."""
    computed = _computed_tensors(module)
    with torch.no_grad():
        values = [each.compute() for each in computed]
    for each in computed:
        each.leave()
    for each, value in zip(computed, values, strict=True):
        if hasattr(module, each.name):
            delattr(module, each.name)
        found = shared.of(each.originals, value)
        if isinstance(found, nn.Parameter):
            module.register_parameter(each.name, found)
        else:
            module.register_buffer(each.name, found)


def _leave_parametrizations(module: nn.Module) -> None:
    """As ``remove_parametrizations`` does, which changes the class that a copy shares with the user's module."""
    if is_parametrized(module):
        del module.parametrizations
        module.__class__ = type(module).__bases__[0]  # the one that it had before


def _leave_mask(module: nn.Module, name: str) -> None:
    """As ``prune.remove`` does, which masks what shares the parameter, too."""
    for key, hook in list(module._forward_pre_hooks.items()):
        if isinstance(hook, prune.BasePruningMethod):
            del module._forward_pre_hooks[key]
    delattr(module, f"{name}_orig")
    delattr(module, f"{name}_mask")
