"""What a user's loader gives, as a ``Batch``: arrays and numbers become tensors, labels inside a dict the targets."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from autocompress.data.batch import Batch, PerExample, as_held, as_target
from autocompress.errors import DataError, one_line
from autocompress.nested import Nested, map_tensors, tensors_of

LABELS = ("labels", "label", "targets", "target")  # the entry of a dict batch that holds the targets

ListKind = Literal["heads", "rows", "examples"]
AsPair = Callable[[Any], Any]  # what the loader gives -> (inputs, targets)


def batch_of(name: str, given: Any, as_pair: AsPair | None = None, lists: ListKind | None = None) -> Batch:
    """The batch of what the split called ``name`` gives. as_pair: ``Task.batch``. lists: what a list of targets is, as
    ``list_kind`` told of examples that were looked at first; None: to be told here. Raises DataError.
    """
    if as_pair is not None:
        try:
            given = as_pair(given)
        except Exception as error:  # the user's function raises anything
            raise DataError(
                f"Task.batch on the {name} split raises {type(error).__name__}: {one_line(error)}"
            ) from error
    if isinstance(given, Mapping) and (labels := next((key for key in LABELS if key in given), None)):
        given = {key: value for key, value in given.items() if key != labels}, given[labels]
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        entries = f" with {', '.join(map(str, given))}" if isinstance(given, Mapping) else ""
        raise DataError(
            f"the {name} split must give (inputs, targets) pairs, or dicts with {' or '.join(LABELS[:2])} inside, not "
            f"{type(given).__name__}{entries}: make them in Task.batch or the loader's collate_fn"
        )
    inputs = _tensors(name, "inputs", given[0])
    inputs = tuple(inputs) if type(inputs) is list else dict(inputs) if isinstance(inputs, Mapping) else inputs
    inputs = map_tensors(as_held, inputs)
    sizes = _sizes(inputs)
    targets = _targets(name, given[1], sizes[0] if sizes else 0, lists)
    counted = _sizes(targets)
    if not sizes or not counted:
        lacking = "inputs" if not sizes else "targets"
        raise DataError(f"the {name} split has no tensor among its {lacking}: give tensors, arrays or numbers")
    if len({*sizes, *counted}) != 1:
        counts, wanted = (" and ".join(map(str, dict.fromkeys(found))) or "no" for found in (sizes, counted))
        raise DataError(f"the {name} split has {counts} inputs and {wanted} targets: they must be as many")
    if sizes[0] == 0:
        raise DataError(f"the {name} split is empty")
    return Batch(inputs, targets)


def _sizes(value: Nested) -> list[int]:
    """How many examples each tensor holds."""
    if isinstance(value, PerExample):
        return [len(value)]
    return [len(t) if t.dim() else 0 for t in tensors_of(value)]


def list_kind(targets: Nested) -> ListKind | None:
    """What a list of targets is, as told from some: of several heads', rows of one tensor, or one value an example."""
    if isinstance(targets, PerExample):
        return "examples"
    return "rows" if isinstance(targets, Tensor) else "heads" if isinstance(targets, (list, tuple)) else None


def _targets(name: str, given: Any, count: int, lists: ListKind | None) -> Nested:
    """Tensors, or one value an example where the user gives a list of tensors, arrays or of what holds some. Of a list
    of as many as there are examples it is not always clear what it is (``lists``): arrays or lists of numbers of one
    length are rows, and tensors several heads' where each has a row for each example. Rows of several lengths are one
    value an example whatever was told before: no tensor holds them.
    """
    if not isinstance(given, (list, tuple)) or len(given) != count or hasattr(given, "_fields"):
        return map_tensors(as_target, _tensors(name, "targets", given))
    values = [_tensors(name, "targets", each) for each in given]
    alike = all(isinstance(each, Tensor) for each in values) and len({each.shape for each in values}) == 1
    if alike and not values[0].dim():
        return as_target(torch.stack(values))
    if lists is None:
        parts = [t for each in values for t in tensors_of(each)]
        heads = all(t.dim() and len(t) == count for t in parts)
        lists = "rows" if alike and not isinstance(given[0], Tensor) else "heads" if heads else "examples"
    if lists == "heads":
        return map_tensors(as_target, type(given)(values))
    if lists == "rows" and alike:
        return as_target(torch.stack(values))
    return PerExample(map_tensors(as_target, each) for each in values)


def _tensors(name: str, what: str, value: Any) -> Nested:
    """The value with its arrays, and lists of numbers, as tensors."""
    if isinstance(value, Tensor) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(key): _tensors(name, f"{what} {key}", inner) for key, inner in value.items()}
    numbers = not isinstance(value, (tuple, list)) or all(isinstance(each, (int, float, bool)) for each in value)
    if numbers and not hasattr(value, "__dataclass_fields__"):
        try:
            return torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"the {name} split: its {what} cannot become a tensor: {one_line(error, 120)}") from error
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        return type(value)(_tensors(name, f"{what} {i}", inner) for i, inner in enumerate(value))
    return value
