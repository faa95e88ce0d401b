"""Parts of a model that stay as they are: what the task names, and what its owner froze.

A module that stays is marked, and the mark goes where its copies go: whoever changes layers asks ``why_kept``.
"""

from collections.abc import Collection, Sequence

from torch import nn

from autocompress.errors import unknown

KEPT_MARK = "_kept_because"
KEPT_BY_NAME = "Task.keep names it"
KEPT_AS_FROZEN = "it is frozen (Task(unfreeze=True) lets it be trained and made smaller)"
FOLLOWING = (nn.Embedding, nn.EmbeddingBag)  # positions are often frozen, and are as wide as what they are added to


def why_kept(module: nn.Module) -> str | None:
    """Why a module may not be changed; None for one that may."""
    return vars(module).get(KEPT_MARK)


def holds_kept(module: nn.Module) -> str | None:
    """The same of a module or the first one inside it that may not be."""
    return next((reason for inside in module.modules() if (reason := why_kept(inside)) is not None), None)


def frozen_parameters(model: nn.Module) -> frozenset[str]:
    """Names of the parameters that training leaves as they are: those without a gradient where others have one. A model
    of which all are is one that somebody made ready for use.
    """
    held = dict(model.named_parameters(remove_duplicate=False))
    frozen = {name for name, parameter in held.items() if parameter.is_floating_point() and not parameter.requires_grad}
    return frozenset(frozen) if any(parameter.requires_grad for parameter in held.values()) else frozenset()


def make_trainable(model: nn.Module, frozen: Collection[str]) -> None:
    """Every parameter can be trained but those."""
    for name, parameter in model.named_parameters(remove_duplicate=False):
        parameter.requires_grad_(parameter.is_floating_point() and name not in frozen)


def mark_kept(model: nn.Module, keep: Sequence[str], frozen: Collection[str]) -> None:
    """Mark what may not be changed: modules by name with all that is in them, and layers whose weights are all frozen.
    Raises UsageError for a name that is none of a module.
    """
    modules = dict(model.named_modules())
    for name in keep:
        if name not in modules:
            raise unknown("module in Task.keep", name, [known for known in modules if known])
        keep_whole(modules[name], KEPT_BY_NAME)
    for name, module in modules.items():
        own = [f"{name}.{key}" if name else key for key, p in module.named_parameters(recurse=False) if p.dim() > 1]
        if own and all(key in frozen for key in own) and not isinstance(module, FOLLOWING):
            setattr(module, KEPT_MARK, KEPT_AS_FROZEN)


def keep_whole(module: nn.Module, reason: str) -> None:
    """Mark a module and all that is in it."""
    for inside in module.modules():
        setattr(inside, KEPT_MARK, reason)


def what_is_frozen(model: nn.Module) -> list[str]:
    """What a user should know of it."""
    held = [parameter for parameter in model.parameters() if parameter.is_floating_point()]
    share = sum(p.numel() for p in held if not p.requires_grad) / max(1, sum(p.numel() for p in held))
    if not share:
        return []
    return [
        f"{share:.0%} of the weights are frozen: they are not trained here, and convolutions, linear, recurrent and "
        "attention layers among them keep their size; Task(unfreeze=True) frees them"
    ]


def rest_frozen_norms(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> None:
    """Norms of these kinds whose weights are frozen keep their statistics as well."""
    for module in model.modules():
        if isinstance(module, kinds) and is_frozen(module):
            module.eval()


def all_frozen(module: nn.Module) -> bool:
    """Whether nothing in a module is trained."""
    held = list(module.parameters())
    return bool(held) and not any(parameter.requires_grad for parameter in held)


def untrained(model: nn.Module) -> frozenset[str]:
    """Names of the parameters of a copy that are not trained."""
    return frozenset(n for n, p in model.named_parameters(remove_duplicate=False) if not p.requires_grad)


def is_frozen(module: nn.Module) -> bool:
    """Whether it holds weights of its own, none of which is trained."""
    own = list(module.parameters(recurse=False))
    return bool(own) and not any(parameter.requires_grad for parameter in own)
