"""Where a model attends in code of its own: modules in which places look at each other through linear layers that read
one tensor.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from autocompress.data import call as called
from autocompress.errors import CandidateFailed, one_line
from autocompress.nested import tensors_of
from autocompress.plain_model import evaluating
from autocompress.task import Inputs
from autocompress_plugins.model_runs import ModuleCall
from autocompress_plugins.shrinking.opaque import Opaque
from autocompress_plugins.shrinking.own_attention import (
    AttentionReading,
    become_own_attention,
    read_attention,
)

MOST_LAYERS = 5  # linear layers of an attention: query, key, value, output, and one for positions
READERS = (1, 2, 3)  # how many read one tensor: all three fused, one of them apart, or each by itself


def find_own_attention(model: nn.Module, inputs: Inputs) -> dict[str, str]:
    """Make every such module that can lose heads one that knows how, in place. Returns why others cannot, by name."""
    run, left = _Run.of(model, inputs), dict[str, str]()
    answers: dict[str, AttentionReading | CandidateFailed | None] = {}  # by form
    for name, module in reversed(list(model.named_modules())):  # what is inside comes first
        if any(other.startswith(f"{name}.") for other in left):  # a part of it was tried in vain
            continue
        try:
            found = run.attention(name, module)
            if found is None:
                continue
            form = found.form()
            if form not in answers or isinstance(answers[form], AttentionReading):
                answers[form] = _read(found, answers.get(form))
            answer = answers[form]
            if isinstance(answer, CandidateFailed):
                left[name] = answer.reason
            elif answer is not None:
                become_own_attention(module, found.call, found.readers, found.out, answer)
        except Exception as error:  # the model's own code, called alone
            left[name] = f"it cannot be called by itself ({type(error).__name__}: {one_line(error, 120)})"
    return {name: reason for name, reason in left.items() if not _holds_one(model.get_submodule(name))}


def _read(found: "_Attending", like: Any) -> AttentionReading | CandidateFailed | None:
    try:
        return read_attention(found.module, found.call, found.readers, found.out, like)
    except CandidateFailed as error:
        return error


@dataclass(frozen=True)
class _Attending:
    module: nn.Module
    call: ModuleCall
    readers: tuple[nn.Linear, ...]
    out: nn.Linear

    def form(self) -> str:
        """What is the same for layers that read alike, and how one of them reads."""
        sizes = [(name, tuple(p.shape)) for name, p in self.module.named_parameters()]
        return repr((type(self.module), sizes, self.out.in_features, [type(a).__name__ for a in self.call.args]))


@dataclass
class _Run:
    """One run of a model. calls: of each module, the first. given: what each linear layer read first; in order.
    began, ended: when each module's first call did.
    """

    calls: dict[str, ModuleCall] = field(default_factory=dict)
    given: dict[nn.Linear, Tensor] = field(default_factory=dict)
    began: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    at: dict[nn.Linear, int] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module, inputs: Inputs) -> "_Run":
        run, handles, moment = cls(), [], iter(range(10**9))
        waiting: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}

        def before(name: str, module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            if isinstance(module, nn.Linear):
                if module not in run.given and args and isinstance(args[0], Tensor):
                    run.given[module], run.at[module] = args[0], next(moment)
            elif name not in run.began:
                run.began[name] = next(moment)
                waiting[name] = _copied(args, named)

        def after(name: str, module: nn.Module, args: object, named: object, gave: Any) -> None:
            if name in waiting:
                run.calls[name] = ModuleCall(*waiting.pop(name), gave)
                run.ended[name] = next(moment)

        names = {module: name for name, module in model.named_modules() if name and _may_matter(module)}
        for module, name in names.items():
            handles.append(module.register_forward_pre_hook(_named(before, name), with_kwargs=True))
            handles.append(module.register_forward_hook(_named(after, name), with_kwargs=True))
        try:
            with torch.no_grad():
                called(evaluating(model), inputs)
        finally:
            for handle in handles:
                handle.remove()
        return run

    def attention(self, name: str, module: nn.Module) -> _Attending | None:
        """The layers of a module as an attention has them, if it has."""
        if name not in self.calls or isinstance(module, nn.Linear) or _holds_one(module):
            return None
        inside = [layer for layer in module.modules() if isinstance(layer, nn.Linear) and layer in self.given]
        if not 1 <= len(inside) <= MOST_LAYERS:
            return None
        inside.sort(key=lambda layer: self.at[layer])
        first = self.given[inside[0]]
        readers = [layer for layer in inside if self.given[layer] is first]
        others = [layer for layer in inside if layer not in readers]
        out = others[-1] if others else self._behind(name)
        if len(readers) not in READERS or out is None or not _fits(readers, out):
            return None
        return _Attending(module, self.calls[name], tuple(readers), out)

    def _behind(self, name: str) -> nn.Linear | None:
        """The linear layer that reads what a module gave, as it gave it."""
        gave = tensors_of(self.calls[name].gave)
        after = [layer for layer, at in self.at.items() if at > self.ended[name]]
        return next((layer for layer in after if gave and self.given[layer] is gave[0]), None)


def _fits(readers: list[nn.Linear], out: nn.Linear) -> bool:
    """Whether the widths are those of queries, keys and values, and of an output projection for them."""
    widths = [layer.out_features for layer in readers]
    if len(readers) == 1:
        return widths[0] > out.in_features and (widths[0] - out.in_features) % 2 == 0
    return all(bool(max(widths) % width == 0 or width % out.in_features == 0) for width in widths)


def _may_matter(module: nn.Module) -> bool:
    """Whether it is a linear layer, or holds as few as an attention has."""
    if isinstance(module, (nn.Linear, Opaque)):
        return isinstance(module, nn.Linear)
    return 1 <= sum(isinstance(inside, nn.Linear) for inside in module.modules()) <= MOST_LAYERS


def _holds_one(module: nn.Module) -> bool:
    return any(isinstance(inside, Opaque) for inside in module.modules())


def _copied(args: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a call takes in (a cache) is taken as it was before."""
    try:
        return copy.deepcopy((args, named))
    except Exception:  # a user's object that cannot be copied
        return args, named


def _named(hook: Any, name: str) -> Any:
    return lambda module, *rest: hook(name, module, *rest)
