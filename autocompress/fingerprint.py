"""What makes two tasks the same: a digest of each part of a task that changes results, by its meaning.

Functions and classes of the user count by what their code does and what it refers to, wherever it lies; those of
installed packages by their names. Comments, docstrings, lines and the names of local variables do not count.
"""

import copyreg
import enum
import functools
import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Mapping
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.jit import ScriptModule

from autocompress.code_description import CodeDescription, full_name, is_standard, is_users, members_of, slots_of
from autocompress.plain_model import OF_COMPILING, unwrapped
from autocompress.recipe import digest
from autocompress.task import Task

COUNTED = (  # fields of a task; one that is None, or of this machine (Task.student), is no part of it
    *("metric", "loss", "augment", "student"),
    *("maximize", "batch", "outputs", "distill", "dynamic"),
)
CALLED = {
    "train": "training data",
    "val": "validation data",
    "test": "test data",
    "model": "model's structure or code",
    "frozen": "frozen weights",
    "keep": "kept modules",
}
PLURAL = {"weights", "frozen", "keep", "train", "val", "test", "outputs"}
NOT_ITS_OWN = {*vars(nn.Module()), *OF_COMPILING}  # what a module holds whatever it is
MAKING = {"__init__", "__new__", "__post_init__"}
BY_TYPE = {  # modules of Python whose objects hold what is another in each process
    *("concurrent", "logging", "multiprocessing", "random", "socket", "subprocess", "tempfile", "threading"),
}


def parts_of(task: Task) -> dict[str, str]:
    """A digest of each part by its name, but for the data. What the task's own functions keep of their calls is part
    of them: to be asked before they are called.
    """
    model = unwrapped(task.model)  # compiled or not is the same
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    parts: dict[str, Any] = {"weights": [[_uncompiled(name), _tensor(tensor)] for name, tensor in tensors]}
    parts |= {"model": Description(with_weights=False).of(model)}
    given = {name: getattr(task, name) for name in COUNTED} | {"keep": list(task.keep) or None}
    counted = {n: v for n, v in given.items() if v is not None and not getattr(v, "of_this_machine", False)}
    parts |= {name: Description().of(value) for name, value in counted.items()}
    if frozen := task.frozen_in(model):
        parts["frozen"] = sorted(_uncompiled(name) for name in frozen)
    return {name: digest(part)[:16] for name, part in parts.items()}


def _uncompiled(name: str) -> str:
    """The name of a tensor as it is where no part of the model is compiled."""
    return name.replace("_orig_mod.", "")


def fingerprint_of(parts: Mapping[str, str]) -> str:
    """Sixteen hexadecimal digits over all parts."""
    return digest(dict(parts))[:16]


def differences_of(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """``its metric and its loss differ``; nothing where either is not known."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if not before or not now or not names:
        return ""
    said = [f"its {CALLED.get(name, name)}" for name in names]
    listed = f"{', '.join(said[:-1])} and {said[-1]}" if len(said) > 1 else said[0]
    one = len(said) == 1 and names[0] not in PLURAL
    return f"{listed} {'differs' if one else 'differ'}"


class Description:
    """What a value is, in JSON that is the same in every process. with_weights: whether the values of a module's
    parameters and buffers count.

    What may hold other values is told by a number, and described after what holds it: no structure is too deep.
    """

    def __init__(self, with_weights: bool = True, seen: dict[Hashable, tuple[int, Any]] | None = None) -> None:
        self._with_weights = with_weights
        self._seen = {} if seen is None else seen  # the value is held, so that its id stays its own
        self._waiting: deque[Callable[[], Any]] = deque()
        self._code = CodeDescription(self._told)

    def of(self, value: Any) -> Any:
        """Of the value, followed by all that it holds, in the order of their numbers."""
        described = [self._told(value)]
        while self._waiting:
            described.append(self._waiting.popleft()())
        return described

    def _told(self, value: Any) -> Any:
        if value is None or (isinstance(value, (bool, int, str)) and not isinstance(value, enum.Enum)):
            return [type(value).__name__, str(value)]
        if isinstance(value, (float, complex, bytes, range, type(Ellipsis), torch.dtype, torch.device, torch.Size)):
            return [type(value).__name__, repr(value)]
        if isinstance(value, (PurePath, enum.Enum)):
            return [full_name(type(value)), str(value)]
        if isinstance(value, Tensor):
            return _tensor(value)
        if isinstance(value, (np.ndarray, np.generic)):
            return self._array(np.asarray(value))
        if isinstance(value, CodeType):
            return self._code.code(value)
        if isinstance(value, nn.Module):
            value = unwrapped(value)
        if isinstance(value, (tuple, slice)):  # equal ones may be one object or several
            return self._numbered(object(), value, self._items)
        return self._numbered(id(value), value, self._new)

    def _numbered(self, key: Hashable, value: Any, describe: Callable[[Any], Any]) -> Any:
        """The number of what is described later, once for each key."""
        if key not in self._seen:
            self._seen[key] = len(self._seen), value
            self._waiting.append(functools.partial(describe, value))
        return ["number", self._seen[key][0]]

    def _items(self, value: Any) -> Any:
        items = (value.start, value.stop, value.step) if isinstance(value, slice) else value
        return [full_name(type(value)), [self._told(item) for item in items]]

    def _new(self, value: Any) -> Any:
        """Of what may refer to itself."""
        kind = full_name(type(value))
        if isinstance(value, (set, frozenset)):
            return [kind, sorted(self._apart(item) for item in value)]
        if isinstance(value, (dict, OrderedDict)):
            items = [(self._apart(key), item) for key, item in value.items()]
            ordered = items if isinstance(value, OrderedDict) else sorted(items, key=lambda pair: pair[0])
            return [kind, [[key, self._told(item)] for key, item in ordered]]
        if isinstance(value, list):
            return [kind, [self._told(item) for item in value]]
        if isinstance(value, ModuleType):
            return ["module", value.__name__]
        if isinstance(value, FunctionType):
            return self._code.function(value)
        if isinstance(value, MethodType):
            return ["method", self._told(value.__func__), self._told(value.__self__)]
        if isinstance(value, functools.partial):
            return ["partial", self._told(value.func), self._told(value.args), self._told(value.keywords)]
        if isinstance(value, (staticmethod, classmethod)):
            return [kind, self._told(value.__func__)]
        if isinstance(value, property):
            return [kind, self._told(value.fget)]
        if isinstance(value, functools.cached_property):
            return [kind, self._told(value.func)]
        if isinstance(value, BuiltinFunctionType):
            owner = value.__self__
            return [kind, value.__qualname__, [] if owner is None else self._told(owner)]
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, nn.Module):
            return self._module(value)
        if hasattr(value, "__wrapped__") and not is_users(type(value)):
            return [kind, self._told(value.__wrapped__)]
        if hasattr(value, "__qualname__") and hasattr(value, "__name__"):  # of a compiled function or descriptor
            return [kind, str(value.__qualname__)]
        return self._object(value)

    def _apart(self, value: Any) -> str:
        """Of one of several whose order means nothing: none is told by what came before it."""
        seen = {} if isinstance(value, (str, int, float, bytes)) else dict(self._seen)  # these refer to nothing
        return digest(Description(self._with_weights, seen).of(value))

    def _object(self, value: Any) -> Any:
        """Of an object that is told by its class and its attributes; one of Python's by what copying it takes."""
        kind = type(value)
        if not is_users(kind) and is_standard(kind):
            return [full_name(kind), *self._reduced(value)]
        if not is_users(kind) and any(part.startswith("_") for part in kind.__module__.split(".")):
            return [full_name(kind)]
        slots = [name for base in kind.__mro__ for name in slots_of(base) if hasattr(value, name)]
        held = {name: getattr(value, name) for name in slots} | getattr(value, "__dict__", {})
        return [self._made_by(kind), self._attributes(held, own=is_users(kind))]

    def _reduced(self, value: Any) -> list[Any]:
        """What pickle keeps of it: maker, arguments, state and items; nothing of what it cannot keep, such as locks."""
        kind = type(value)
        if kind.__module__.split(".")[0] in BY_TYPE:
            return []
        try:
            reduce = copyreg.dispatch_table.get(kind)
            made = value.__reduce_ex__(2) if reduce is None else reduce(value)
            if isinstance(made, str):  # a global's name
                return [made]
            maker, arguments, state, items, pairs = (*made, None, None, None)[:5]
            return [self._told(held) for held in (maker, arguments, state, tuple(items or ()), tuple(pairs or ()))]
        except Exception:  # of whatever kind the object raises
            return []

    def _attributes(self, held: Mapping[str, Any], own: bool = True) -> Any:
        return [[name, self._told(held[name])] for name in sorted(held) if own or not name.startswith("_")]

    def _module(self, module: nn.Module) -> Any:
        """Of a module: its class, its attributes, its hooks, and the modules in it, in order."""
        tensors = [
            *module.named_parameters(recurse=False, remove_duplicate=False),
            *module.named_buffers(recurse=False, remove_duplicate=False),
        ]
        told = [[n, _tensor(t) if self._with_weights else [list(t.shape), str(t.dtype)]] for n, t in tensors]
        held = {name: value for name, value in vars(module).items() if name not in NOT_ITS_OWN}
        scripted = isinstance(module, ScriptModule)  # which keeps what is in it elsewhere
        children = dict(module.named_children()) if scripted else vars(module)["_modules"]
        hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
        return [
            self._made_by(type(module)),
            told,
            self._attributes(held, own=is_users(type(module))),
            [self._told(hook) for hook in hooks],
            [[name, self._told(child)] for name, child in children.items()],
            *([module.code] if scripted else []),
        ]

    def _class(self, kind: type) -> Any:
        if not is_users(kind):
            return ["class", full_name(kind)]
        return [
            "class",
            kind.__name__,
            [self._told(base) for base in kind.__bases__],
            self._attributes(members_of(kind)),
        ]

    def _made_by(self, kind: type) -> Any:
        """Of the class of an object, whose state says what making it came to."""
        if not is_users(kind):
            return self._told(kind)
        return self._numbered((kind, "made"), kind, self._making)

    def _making(self, kind: type) -> Any:
        bases = [self._made_by(base) for base in kind.__bases__]
        held = {name: value for name, value in members_of(kind).items() if name not in MAKING}
        return ["made by", kind.__name__, bases, self._attributes(held)]

    def _array(self, array: Any) -> Any:
        if array.dtype.hasobject:
            return ["array", list(array.shape), [self._told(item) for item in array.reshape(-1).tolist()]]
        return ["array", list(array.shape), str(array.dtype), hashlib.sha256(array.tobytes()).hexdigest()]


def _tensor(tensor: Tensor) -> Any:
    """Of its shape, number format and values."""
    told = ["tensor", list(tensor.shape), str(tensor.dtype)]
    if tensor.is_meta or tensor.is_quantized:
        return told
    dense = (tensor.to_dense() if tensor.layout != torch.strided else tensor).detach().cpu().resolve_conj()
    held = dense.resolve_neg().contiguous().reshape(-1)
    return [*told, hashlib.sha256(held.view(torch.uint8).numpy().tobytes() if held.numel() else b"").hexdigest()]
