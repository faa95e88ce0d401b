"""What a user's loader gives, as a ``Batch``: arrays and numbers become tensors, labels inside a dict the targets."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from autocompress.data.batch import Batch, PerExample, as_held, as_target
from autocompress.errors import DataError, one_line
from autocompress.nested import Nested, map_tensors, tensors_of

LABELS = ("labels", "label", "targets", "target")  # the entry of a dict batch that holds the targets

AsPair = Callable[[Any], Any]  # what the loader gives -> (inputs, targets)


def batch_of(
    name: str, given: Any, as_pair: AsPair | None = None, by_example: bool | None = None, *, whole: bool = False
) -> Batch:
    """The batch of what the split called ``name`` gives. as_pair: ``Task.batch``. by_example: whether a list of targets
    has one value an example; None: not known. whole: whether these are all examples. Raises DataError.
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
    targets = _targets(name, given[1], sizes[0] if sizes else 0, by_example, whole)
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


def _targets(name: str, given: Any, count: int, by_example: bool | None, whole: bool) -> Nested:
    """Tensors, or one value an example where the user gives a list of tensors, arrays or of what holds some.
    by_example: whether a list of as many as there are examples is one, where that is known; else it is not where each
    tensor in it has a row for each example, as several heads' targets have. Numbers are one tensor, and rows of them
    where these are all and of one length: of a batch others may be longer.
    """
    if not isinstance(given, (list, tuple)) or len(given) != count or hasattr(given, "_fields"):
        return map_tensors(as_target, _tensors(name, "targets", given))
    values = [_tensors(name, "targets", each) for each in given]
    shapes = {each.shape if isinstance(each, Tensor) else None for each in values}
    rows = whole and len(shapes) == 1 and None not in shapes and not any(isinstance(each, Tensor) for each in given)
    if rows or shapes == {torch.Size()}:
        return as_target(torch.stack(values))
    if by_example is None:
        by_example = any(len(t) != count if t.dim() else True for each in values for t in tensors_of(each))
    if by_example:
        return PerExample(map_tensors(as_target, each) for each in values)
    return map_tensors(as_target, type(given)(values))


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
