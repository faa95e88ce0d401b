"""What the code of functions and classes says: instructions without lines, comments and the names of variables, what
they refer to, and whose they are.

Those of the user count by what they do, wherever they lie; those of installed packages by their names.
"""

import dis
import importlib
import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

GLOBALS = {"LOAD_GLOBAL", "LOAD_NAME"}
STANDARD = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))
AUTOCOMPRESS = Path(__file__).resolve().parent
UNCOUNTED = {"__doc__", "__module__", "__qualname__", "__dict__", "__weakref__", "__annotations__", "__annotate_func__"}
UNCOUNTED |= {"__firstlineno__", "__static_attributes__", "__abstractmethods__", "_abc_impl", "__annotations_cache__"}
UNCOUNTED |= {"__dataclass_fields__", "__dataclass_params__", "__repr__", "extra_repr"}
CELLS = {"NOP", "CACHE", "EXTENDED_ARG", "LOAD_CLOSURE", "MAKE_CELL", "COPY_FREE_VARS"}  # say nothing, or in an order
# that the names of variables decide


class CodeDescription:
    """What functions are, in JSON. told: what a value that one holds or refers to is, in JSON."""

    def __init__(self, told: Callable[[Any], Any]) -> None:
        self._told = told

    def function(self, function: FunctionType) -> Any:
        code = function.__code__
        if not is_users(function):
            held = [] if function.__closure__ is None else self._closure(function, {})
            return ["function", full_name(function), held]
        numbers: dict[str, int] = {}
        return [
            "function",
            self.code(code, numbers),
            self._told(function.__defaults__),
            self._told(function.__kwdefaults__),
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
        return [self._told(value) for _, _, value in sorted(held, key=lambda found: found[:2])]

    def code(self, code: CodeType, numbers: dict[str, int] | None = None, outer: Any = None) -> Any:
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
            if i.opname == "KW_NAMES":  # whose constant dis leaves out
                told.append([i.opname, list(code.co_consts[i.arg or 0])])
            elif isinstance(i.argval, CodeType):
                told.append([i.opname, self.code(i.argval, None, number)])
            elif i.opcode in dis.hasconst:
                told.append([i.opname, self._told(i.argval)])
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
        if not isinstance(value, ModuleType) or not is_users(value):
            return self._told(value)
        held = vars(value)
        return [
            "module",
            value.__name__,
            [[name, self._inner(held[name], value, used)] for name in used if name in held],
        ]

    def _inner(self, value: Any, module: ModuleType, used: list[str]) -> Any:
        """Of what a module holds; a module in its package likewise."""
        inside = isinstance(value, ModuleType) and value.__name__.startswith(f"{module.__name__}.")
        return self._taken(value, used) if inside else self._told(value)


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
            if is_users(module):
                yield module
        before = [*before[-2:], i.argval]


def members_of(kind: type) -> dict[str, Any]:
    """What counts of what a class defines."""
    return {name: value for name, value in vars(kind).items() if name not in UNCOUNTED and name not in slots_of(kind)}


def slots_of(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return tuple(n for n in ((slots,) if isinstance(slots, str) else slots) if not n.startswith("__"))


def full_name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def _file(value: Any) -> Path | None:
    """Where a function, class or module was written, as far as that is known."""
    if isinstance(value, FunctionType) and not value.__code__.co_filename.startswith("<"):
        return Path(value.__code__.co_filename).resolve()
    module = value if isinstance(value, ModuleType) else sys.modules.get(getattr(value, "__module__", None) or "")
    found = getattr(module, "__file__", None)
    return Path(found).resolve() if found else None


def is_users(value: Any) -> bool:
    """Whether a function, class or module is the user's own and not of an installed package."""
    path = _file(value)
    if path is None:
        module = getattr(value, "__module__", None) or getattr(value, "__name__", "")
        return module not in sys.builtin_module_names and (module == "__main__" or module not in sys.modules)
    packages = {"site-packages", "dist-packages"} & set(path.parts)
    return not (packages or is_standard(value) or path.is_relative_to(AUTOCOMPRESS))


def is_standard(value: Any) -> bool:
    """Whether it is of Python itself."""
    path = _file(value)
    if path is None or inspect.isbuiltin(value):
        return getattr(value, "__module__", "") in sys.stdlib_module_names
    return any(path.is_relative_to(folder) for folder in STANDARD) and "site-packages" not in path.parts
