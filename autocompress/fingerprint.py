"""What makes two tasks the same: a digest of each part of a task that changes results, by its meaning.

Functions and classes of the user count by what their code does and what it refers to, wherever it lies; those of
installed packages by their names. Comments, docstrings, lines and the names of local variables do not count.
"""

import copyreg
import dis
import enum
import functools
import hashlib
import importlib
import inspect
import logging
import random
import sys
import sysconfig
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autocompress.recipe import digest
from autocompress.task import Task

COUNTED = (  # fields of a task; one that is None, or that it lacks, is no part of it
    *("metric", "loss", "augment", "student"),
    *("maximize", "batch", "outputs", "distill", "dynamic"),
)
CALLED = {"train": "training data", "val": "validation data", "test": "test data", "model": "model's structure or code"}
GLOBALS = {"LOAD_GLOBAL", "LOAD_NAME"}
STANDARD = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))
AUTOCOMPRESS = Path(__file__).resolve().parent
UNCOUNTED = {"__doc__", "__module__", "__qualname__", "__dict__", "__weakref__", "__annotations__", "__annotate_func__"}
UNCOUNTED |= {"__firstlineno__", "__static_attributes__", "__abstractmethods__", "_abc_impl", "__annotations_cache__"}
MAKING = {"__init__", "__new__", "__post_init__"}
UNCOUNTED |= {"__dataclass_fields__", "__dataclass_params__", "__repr__", "extra_repr"}
CELLS = {"NOP", "CACHE", "EXTENDED_ARG", "LOAD_CLOSURE", "MAKE_CELL", "COPY_FREE_VARS"}  # say nothing, or in an order
# that the names of variables decide


def parts_of(task: Task) -> dict[str, str]:
    """A digest of each part of a task but its data by its name; to be asked before any of the user's code has run,
    which may change what it holds.
    """
    tensors = [*task.model.named_parameters(remove_duplicate=False), *task.model.named_buffers(remove_duplicate=False)]
    parts: dict[str, Any] = {"weights": [[name, _tensor(tensor)] for name, tensor in tensors]}
    parts["model"] = Description(with_weights=False).of(task.model)
    given = {name: getattr(task, name, None) for name in COUNTED}
    parts |= {name: _told(value) for name, value in given.items() if value is not None}
    return {name: digest(part)[:16] for name, part in parts.items()}


def _told(value: Any) -> Any:
    try:
        return Description().of(value)
    except RecursionError:  # a list of a thousand links: by its type
        return [_name(type(value)), "nested too deep"]


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
    one = len(said) == 1 and names[0] not in ("weights", "train", "val", "test", "outputs")
    return f"{listed} {'differs' if one else 'differ'}"


class Description:
    """What a value is, in JSON that is the same in every process. with_weights: whether the values of a module's
    parameters and buffers count.
    """

    def __init__(self, with_weights: bool = True, seen: dict[object, tuple[int, object]] | None = None) -> None:
        self._with_weights = with_weights
        self._seen = {} if seen is None else seen  # the value is held, so that its id stays its own

    def of(self, value: Any) -> Any:
        if value is None or (isinstance(value, (bool, int, str)) and not isinstance(value, enum.Enum)):
            return [type(value).__name__, str(value)]
        if isinstance(value, (float, complex, bytes, range, type(Ellipsis), torch.dtype, torch.device, torch.Size)):
            return [type(value).__name__, repr(value)]
        if isinstance(value, (PurePath, enum.Enum)):
            return [_name(type(value)), str(value)]
        if isinstance(value, Tensor):
            return _tensor(value)
        if isinstance(value, (np.ndarray, np.generic)):
            return self._array(np.asarray(value))
        if isinstance(value, CodeType):
            return self._code(value)
        if isinstance(value, (tuple, slice)):
            items = value if isinstance(value, tuple) else (value.start, value.stop, value.step)
            return [_name(type(value)), [self.of(item) for item in items]]
        if id(value) in self._seen:
            return ["seen", self._seen[id(value)][0]]
        self._seen[id(value)] = len(self._seen), value
        return self._new(value)

    def _new(self, value: Any) -> Any:
        """Of what may refer to itself."""
        kind = _name(type(value))
        if isinstance(value, (set, frozenset)):
            return [kind, sorted(self._apart(item) for item in value)]
        if isinstance(value, (dict, OrderedDict)):
            items = [(self._apart(key), item) for key, item in value.items()]
            ordered = items if isinstance(value, OrderedDict) else sorted(items, key=lambda pair: pair[0])
            return [kind, [[key, self.of(item)] for key, item in ordered]]
        if isinstance(value, list):
            return [kind, [self.of(item) for item in value]]
        if isinstance(value, ModuleType):
            return ["module", value.__name__]
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, MethodType):
            return ["method", self.of(value.__func__), self.of(value.__self__)]
        if isinstance(value, functools.partial):
            return ["partial", self.of(value.func), self.of(value.args), self.of(value.keywords)]
        if isinstance(value, (staticmethod, classmethod)):
            return [kind, self.of(value.__func__)]
        if isinstance(value, property):
            return [kind, self.of(value.fget)]
        if isinstance(value, functools.cached_property):
            return [kind, self.of(value.func)]
        if isinstance(value, BuiltinFunctionType):
            owner = value.__self__
            return [kind, value.__qualname__, [] if owner is None else self.of(owner)]
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, nn.Module):
            return self._module(value)
        if hasattr(value, "__wrapped__") and not _is_users(type(value)):
            return [kind, self.of(value.__wrapped__)]
        if hasattr(value, "__qualname__") and hasattr(value, "__name__"):  # of a compiled function or descriptor
            return [kind, str(value.__qualname__)]
        return self._object(value)

    def _apart(self, value: Any) -> str:
        """Of one of several whose order means nothing: none is told by what came before it."""
        return digest(Description(self._with_weights, dict(self._seen)).of(value))

    def _made_of(self, value: Any) -> Any:
        """What an object of the standard library is made of, as pickling has it; nothing of one that cannot be."""
        if isinstance(value, (logging.Logger, random.Random)):
            return []
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            made = value.__reduce_ex__(2) if reduce is None else reduce(value)
        except Exception:  # locks, generators, open files
            return []
        if isinstance(made, str):
            return []
        return [self.of(part) for part in (*made[1:3], *(None if part is None else list(part) for part in made[3:5]))]

    def _object(self, value: Any) -> Any:
        """Of an object that is told by its class and its attributes; one that is not by its type alone."""
        kind = type(value)
        if not _is_users(kind) and (_is_standard(kind) or any(p.startswith("_") for p in kind.__module__.split("."))):
            return [_name(kind), self._made_of(value)]
        slots = [name for base in kind.__mro__ for name in _slots(base) if hasattr(value, name)]
        held = {name: getattr(value, name) for name in slots} | getattr(value, "__dict__", {})
        return [self._made_by(kind), self._attributes(held, own=_is_users(kind))]

    def _attributes(self, held: Mapping[str, Any], own: bool = True) -> Any:
        return [[name, self.of(held[name])] for name in sorted(held) if own or not name.startswith("_")]

    def _module(self, module: nn.Module) -> Any:
        """Of a module: its class, its attributes, its hooks, and the modules in it, in order."""
        tensors = [
            *module.named_parameters(recurse=False, remove_duplicate=False),
            *module.named_buffers(recurse=False, remove_duplicate=False),
        ]
        told = [[n, _tensor(t) if self._with_weights else [list(t.shape), str(t.dtype)]] for n, t in tensors]
        held = {name: value for name, value in vars(module).items() if name not in vars(nn.Module())}
        hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
        return [
            self._made_by(type(module)),
            told,
            self._attributes(held, own=_is_users(type(module))),
            [self.of(hook) for hook in hooks],
            [[name, self.of(child)] for name, child in vars(module)["_modules"].items()],
        ]

    def _class(self, kind: type) -> Any:
        if not _is_users(kind):
            return ["class", _name(kind)]
        return ["class", kind.__name__, [self.of(base) for base in kind.__bases__], self._attributes(_held(kind))]

    def _made_by(self, kind: type) -> Any:
        """Of the class of an object, whose state says what making it came to."""
        if not _is_users(kind):
            return self.of(kind)
        if (kind, "made") in self._seen:
            return ["seen", self._seen[kind, "made"][0]]
        self._seen[kind, "made"] = len(self._seen), kind
        name, held = kind.__name__, _held(kind)
        bases = [self._made_by(base) for base in kind.__bases__]
        return ["made by", name, bases, self._attributes({k: v for k, v in held.items() if k not in MAKING})]

    def _function(self, function: FunctionType) -> Any:
        code = function.__code__
        if not _is_users(function):
            return ["function", _name(function), [] if function.__closure__ is None else self._closure(function, {})]
        numbers: dict[str, int] = {}
        return [
            "function",
            self._code(code, numbers),
            self.of(function.__defaults__),
            self.of(function.__kwdefaults__),
            self._closure(function, numbers),
            self._referred(code, function.__globals__),
        ]

    def _closure(self, function: FunctionType, numbers: Mapping[str, int]) -> Any:
        held = []
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                held.append((numbers.get(name, len(numbers)), name, cell.cell_contents))
            except ValueError:  # not given a value yet
                continue
        return [self.of(value) for _, _, value in sorted(held, key=lambda found: found[:2])]

    def _code(self, code: CodeType, numbers: dict[str, int] | None = None, outer: Any = None) -> Any:
        """Of the instructions: variables by number, jumps by the instruction they go to. numbers: is filled with those
        of the variables. outer: numbers a variable of the code around it.
        """
        numbers = {} if numbers is None else numbers
        arguments = code.co_argcount + code.co_kwonlyargcount
        for name in code.co_varnames[:arguments]:
            numbers.setdefault(name, len(numbers))

        def number(name: str) -> Any:
            if outer is not None and name in code.co_freevars:
                return ["outer", outer(name)]
            return numbers.setdefault(name, len(numbers))

        kept = [i for i in dis.get_instructions(code) if i.opname not in CELLS]
        places = [i.offset for i in kept]
        told: list[Any] = []
        for i in kept:
            if i.opname == "KW_NAMES":  # of the keyword arguments of the call that follows
                told.append([i.opname, self.of(code.co_consts[i.arg or 0])])
            elif i.opcode in dis.hasconst:
                told.append([i.opname, self._code(i.argval, None, number) if _is_code(i.argval) else self.of(i.argval)])
            elif i.opcode in dis.haslocal or i.opcode in dis.hasfree:
                names = i.argval if isinstance(i.argval, tuple) else (i.argval,)
                told.append([i.opname, [number(name) for name in names]])
            elif i.opcode in dis.hasjrel or i.opcode in dis.hasjabs:
                told.append([i.opname, sum(place < i.argval for place in places)])
            else:
                told.append([i.opname, i.argval if isinstance(i.argval, str) else i.arg])
        keywords = list(code.co_varnames[code.co_argcount : arguments])
        return [code.co_argcount, code.co_posonlyargcount, keywords, code.co_flags & 0xC, told]

    def _referred(self, code: CodeType, names: Mapping[str, Any]) -> Any:
        """What the names in a function's code stand for: globals, and what it takes of the user's modules."""
        used = sorted({name for part in _nested(code) for name in part.co_names})
        global_names = sorted(
            {i.argval for part in _nested(code) for i in dis.get_instructions(part) if i.opname in GLOBALS}
        )
        modules = [module for part in _nested(code) for module in _imported(part, names)]
        found = [[n, self._taken(names[n], used)] for n in global_names if n in names]
        return [found, [self._taken(module, used) for module in modules]]

    def _taken(self, value: Any, used: list[str]) -> Any:
        if not isinstance(value, ModuleType) or not _is_users(value):
            return self.of(value)
        held = vars(value)
        return [
            "module",
            value.__name__,
            [[name, self._inner(held[name], value, used)] for name in used if name in held],
        ]

    def _inner(self, value: Any, module: ModuleType, used: list[str]) -> Any:
        """Of what a module holds; a module in its package likewise."""
        inside = isinstance(value, ModuleType) and value.__name__.startswith(f"{module.__name__}.")
        return self._taken(value, used) if inside else self.of(value)

    def _array(self, array: Any) -> Any:
        if array.dtype.hasobject:
            return ["array", list(array.shape), [self.of(item) for item in array.reshape(-1).tolist()]]
        return ["array", list(array.shape), str(array.dtype), hashlib.sha256(array.tobytes()).hexdigest()]


def _tensor(tensor: Tensor) -> Any:
    """Of its shape, number format and values."""
    told = ["tensor", list(tensor.shape), str(tensor.dtype)]
    if tensor.is_meta or tensor.is_quantized:
        return told
    dense = (tensor.to_dense() if tensor.layout != torch.strided else tensor).detach().cpu().resolve_conj()
    held = dense.resolve_neg().contiguous().reshape(-1)
    return [*told, hashlib.sha256(held.view(torch.uint8).numpy().tobytes() if held.numel() else b"").hexdigest()]


def _is_code(value: object) -> bool:
    return isinstance(value, CodeType)


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _imported(code: CodeType, names: Mapping[str, Any]) -> Iterator[ModuleType]:
    """The user's modules that a function imports when it is called."""
    level = 0
    before: list[Any] = []
    for i in dis.get_instructions(code):
        if i.opname == "IMPORT_NAME":
            level = next((v for v in reversed(before[:-1]) if isinstance(v, int)), 0)
            try:
                module = importlib.import_module("." * level + i.argval, names.get("__package__") or None)
            except Exception:  # which whoever calls the function is told
                continue
            if _is_users(module):
                yield module
        before = [*before[-2:], i.argval]


def _held(kind: type) -> dict[str, Any]:
    """What counts of what a class defines."""
    return {name: value for name, value in vars(kind).items() if name not in UNCOUNTED and name not in _slots(kind)}


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return tuple(n for n in ((slots,) if isinstance(slots, str) else slots) if not n.startswith("__"))


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def _file(value: Any) -> Path | None:
    """Where a function, class or module was written, as far as that is known."""
    if isinstance(value, FunctionType) and not value.__code__.co_filename.startswith("<"):
        return Path(value.__code__.co_filename).resolve()
    module = value if isinstance(value, ModuleType) else sys.modules.get(getattr(value, "__module__", None) or "")
    found = getattr(module, "__file__", None)
    return Path(found).resolve() if found else None


def _is_users(value: Any) -> bool:
    """Whether a function, class or module is the user's own and not of an installed package."""
    path = _file(value)
    if path is None:
        module = getattr(value, "__module__", None) or getattr(value, "__name__", "")
        return module not in sys.builtin_module_names and (module == "__main__" or module not in sys.modules)
    packages = {"site-packages", "dist-packages"} & set(path.parts)
    return not (packages or _is_standard(value) or path.is_relative_to(AUTOCOMPRESS))


def _is_standard(value: Any) -> bool:
    """Whether it is of Python itself."""
    path = _file(value)
    if path is None or inspect.isbuiltin(value):
        return getattr(value, "__module__", "") in sys.stdlib_module_names
    return any(path.is_relative_to(folder) for folder in STANDARD) and "site-packages" not in path.parts
