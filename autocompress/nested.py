"""Values of tensors nested in tuples, lists, mappings and dataclasses: what a model takes and returns, and its targets.

Anything else inside such a value (None, a number, a flag) is kept where it is.
"""

import copy
import dataclasses
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from autocompress.errors import UsageError

Nested = Any  # a tensor, or tuples, lists, mappings and dataclasses of such values


def named_tensors(value: Nested, alone: str) -> dict[str, Tensor]:
    """The tensors by name, in order.

    A tensor that is the whole value is called ``alone``; the entries of a tuple or list ``alone_0``, ``alone_1``, ...;
    those of a mapping, a named tuple or a dataclass by their own names; what is nested deeper by its path, with points
    between the names. Of two that come to one name the second has a number behind it.
    """
    if isinstance(value, Tensor):
        return {alone: value}
    found: dict[str, Tensor] = {}
    for name, inner in _entries(value):
        _collect(f"{alone}_{name}" if isinstance(name, int) else name, inner, found)
    return found


def unused(name: str, taken: Container[str]) -> str:
    """The name, or with a number behind it where it is taken."""
    number, free = 1, name
    while free in taken:
        number, free = number + 1, f"{name}_{number + 1}"
    return free


def _collect(path: str, value: Nested, found: dict[str, Tensor]) -> None:
    if isinstance(value, Tensor):
        found[unused(path, found)] = value
    else:
        for name, inner in _entries(value):
            _collect(f"{path}.{name}", inner, found)


def tensors_of(value: Nested) -> tuple[Tensor, ...]:
    """The tensors, in order."""
    if isinstance(value, Tensor):
        return (value,)
    return tuple(tensor for _, inner in _entries(value) for tensor in tensors_of(inner))


def map_tensors(fn: Callable[[Tensor], Any], value: Nested) -> Nested:
    """The same structure with ``fn`` applied to each tensor, in order."""
    if isinstance(value, Tensor):
        return fn(value)
    if isinstance(value, Mapping):
        return _mapping(value, {name: map_tensors(fn, inner) for name, inner in value.items()})
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(fn, inner) for inner in value))
    if isinstance(value, (tuple, list)):
        return type(value)(map_tensors(fn, inner) for inner in value)
    if names := _fields(value):
        made = copy.copy(value)
        for name in names:
            object.__setattr__(made, name, map_tensors(fn, getattr(value, name)))
        return made
    return value


def filled(like: Nested, tensors: Iterable[Tensor]) -> Nested:
    """The structure of ``like`` with these tensors in place of its own, in order."""
    values = iter(tensors)
    return map_tensors(lambda _: next(values), like)


def as_float(tensor: Tensor) -> Tensor:
    """Floating point as float32."""
    return tensor.float() if tensor.is_floating_point() else tensor


def primary(value: Nested) -> Tensor:
    """The one tensor that stands for all a module returns, where one has to: the tensor itself, its ``.logits``, its
    "logits" entry, or the first tensor in it. Raises UsageError when there is none.
    """
    if not isinstance(value, Tensor):
        logits = dict(_entries(value)).get("logits")
        if tensors_of(logits):
            return primary(logits)
    for tensor in tensors_of(value):
        return tensor
    raise UsageError(
        f"the model returns {type(value).__name__}: return a tensor, or a tuple, dict or dataclass of tensors"
    )


def _entries(value: Nested) -> Iterator[tuple[str | int, Nested]]:
    """The entries of a value with their names, or their numbers; none where it is no structure."""
    if isinstance(value, Mapping):
        yield from ((str(name), inner) for name, inner in value.items())
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from zip(value._fields, value, strict=True)
    elif isinstance(value, (tuple, list)):
        yield from enumerate(value)
    elif names := _fields(value):
        yield from ((name, getattr(value, name)) for name in names)


def _fields(value: Nested) -> list[str]:
    """The fields of a dataclass, or of an object that has ``logits`` among its attributes; none of anything else."""
    if isinstance(value, (Tensor, type)):
        return []
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    return list({"logits": None} | getattr(value, "__dict__", {})) if hasattr(value, "logits") else []


def _mapping(like: Mapping[Any, Any], entries: dict[Any, Any]) -> Mapping[Any, Any]:
    """Of the kind of ``like`` where that takes entries (a model's own output class), else a dict."""
    if type(like) is dict:
        return entries
    try:
        made = copy.copy(like)
        for name, inner in entries.items():
            made[name] = inner  # type: ignore[index]
    except TypeError:
        return entries
    return made
