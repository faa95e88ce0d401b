"""What a user's module comes down to: without what only wraps it, and with weights that are plain parameters.

Wrappers hide a module's names and compile, scatter or average it, which nothing here needs. Weights that are computed
from others at each call (weight and spectral normalisation, masks of pruning) are constants at inference, and are taken
as they come out. Sparse gradients, which most optimizers refuse, become dense ones.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.jit import ScriptModule
from torch.nn.utils import prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.optim.swa_utils import AveragedModel

M = TypeVar("M", bound=nn.Module)

COMPILED = "OptimizedModule"  # what torch.compile returns; importing its class takes a second
LAYERS_NAMED = 3  # layers in one line


def evaluating(model: M) -> M:
    """The model, now in evaluation mode. ``eval()`` itself returns what the user's own ``train()`` does."""
    model.eval()
    return model


def plain_copy(model: nn.Module) -> nn.Module:
    """A copy of a module as it comes down to, in evaluation mode; what the user holds is not touched. Raises what
    copying raises.
    """
    memo: dict[int, Any] = {}
    for module in reversed(list(model.modules())):  # what is inside first
        for tensor in _held_results(module):
            memo[id(tensor)] = tensor.detach().clone()
        if _inner(module) is not None:
            memo[id(module)] = copy.deepcopy(unwrapped(module), memo)
    found = evaluating(copy.deepcopy(unwrapped(model), memo))
    for module in found.modules():
        _settle(module)
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            module.sparse = False
    return found


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
            said.append(f"the model is taken out of {type(module).__name__}{where}: the module inside is worked on")
        for how in _how_computed(module):
            layers.setdefault(how, []).append(name or type(module).__name__)
    for how, names in layers.items():
        more = f" and {len(names) - LAYERS_NAMED} more" if len(names) > LAYERS_NAMED else ""
        said.append(
            f"{how} of {', '.join(names[:LAYERS_NAMED])}{more}: weights are taken as they come out, and training here "
            "changes them without it"
        )
    return said


def _inner(module: nn.Module) -> nn.Module | None:
    """The module that another only wraps."""
    if type(module).__name__ == COMPILED:
        return module._orig_mod  # type: ignore[return-value]
    wrappers = nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel
    return module.module if isinstance(module, wrappers) else None


def _held_results(module: nn.Module) -> Iterator[Tensor]:
    """Tensors that a module keeps of an earlier call, which torch refuses to copy."""
    stack: list[Any] = list(vars(module).values())
    while stack:
        value = stack.pop()
        if isinstance(value, Tensor):
            if not value.is_leaf:
                yield value
        elif isinstance(value, Mapping):
            stack += value.values()
        elif isinstance(value, (list, tuple)):
            stack += value


def _how_computed(module: nn.Module) -> list[str]:
    """How each tensor of a module is that is computed from others at each call, in the user's words."""
    parametrized: Any = module.parametrizations if is_parametrized(module) else {}
    found = [
        f"the parametrization {', '.join(type(kind).__name__.lstrip('_') for kind in kinds)}"
        for kinds in parametrized.values()
    ]
    hooks = {WeightNorm: "weight norm", SpectralNorm: "spectral norm"}
    found += [hooks[type(hook)] for hook in module._forward_pre_hooks.values() if type(hook) in hooks]
    return found + ["the pruning mask"] * len(_masked(module))


def _masked(module: nn.Module) -> list[str]:
    names = [name.removesuffix("_orig") for name, _ in module.named_parameters(recurse=False) if name.endswith("_orig")]
    return [name for name in names if hasattr(module, f"{name}_mask")]


def _settle(module: nn.Module) -> None:
    """Make tensors that are computed from others at each call plain ones, as they come out now."""
    if is_parametrized(module):
        _leave_parametrizations(module)
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, WeightNorm):
            remove_weight_norm(module, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, hook.name)
    for name in _masked(module):
        prune.remove(module, name)  # type: ignore[no-untyped-call]


def _leave_parametrizations(module: nn.Module) -> None:
    """As ``remove_parametrizations`` does, which changes the class that a copy shares with the user's module."""
    lists: Any = module.parametrizations
    values = {name: getattr(module, name).detach() for name in lists}
    trained = {name for name in lists if any(True for _ in lists[name].parameters(recurse=False))}
    del module.parametrizations
    module.__class__ = type(module).__bases__[0]  # the one that it had before
    for name, value in values.items():
        if name in trained:
            module.register_parameter(name, nn.Parameter(value))
        else:
            module.register_buffer(name, value)
