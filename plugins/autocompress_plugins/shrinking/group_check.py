"""Whether groups are right: removing some of their units has to give the outputs that the model has with the weights
that read those units set to zero.

A norm over the channels has other statistics when a channel goes, and is meant to. In the comparison one that loses
channels keeps those of the whole model.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from autocompress.data import call, computing_as_in_training, run_in_training_alone
from autocompress.errors import CandidateFailed, one_line
from autocompress.task import Inputs
from autocompress_plugins.layer_kinds import CONVOLUTIONS
from autocompress_plugins.model_runs import outputs, same_outputs, shapes_of
from autocompress_plugins.shrinking.dependency_graph import by_channel
from autocompress_plugins.shrinking.groups import Group, Member
from autocompress_plugins.shrinking.recurrent_layers import RecurrentLayer
from autocompress_plugins.shrinking.removal import remove_units

MEANS = frozenset({"mean", "var", "std"})
SQUARES_MARK = "of_squares"  # on a tensor of squares
SPREAD_MARK = "of_spread"  # on what is worked out of a mean of squares or a variance: what was seen, and if inverted
INVERTING = frozenset({"rsqrt", "reciprocal", "rtruediv"})
FOLLOWED = INVERTING | {"add", "iadd", "radd", "clamp", "clamp_min", "maximum", "sqrt", "pow", "to", "float", "type_as"}


def why_wrong(model: nn.Module, inputs: Inputs, removals: Mapping[Group, Sequence[int]]) -> str | None:
    """Why taking these units of each group out of ``model``, which is in prunable form, is wrong; None when it is
    right. The model stays as it is.
    """
    norms = _FrozenNorms()
    try:
        smaller, zeroed = copy.deepcopy(model), copy.deepcopy(model)
        expected = norms.outputs(model, inputs)
        got = norms.outputs(
            remove_units(smaller, inputs, {group.root: units for group, units in removals.items()}), inputs
        )
        for group, units in removals.items():
            for member in group.members:
                _zero_readers(zeroed.get_submodule(member.module), member, set(units))
        wanted = norms.outputs(zeroed, inputs)
        if run_in_training_alone(model, inputs):
            with torch.no_grad(), computing_as_in_training(smaller):
                call(smaller, inputs)
    except CandidateFailed as error:
        return error.reason
    except Exception as error:  # the graph did not cover a layer, or the model's code fixes its size
        return f"removing units breaks the model ({type(error).__name__}: {one_line(error, 120)})"
    if shapes_of(got) != shapes_of(expected):
        return "removing units changes the shape of an output"
    return None if same_outputs(got, wanted) else "removing units gives another function than zeroing what reads them"


def half(group: Group) -> list[int]:
    """Half of the units of each block, without a pattern that a wrong order could have too."""
    run, generator = group.size // group.blocks, torch.Generator().manual_seed(0)
    drawn = (torch.randperm(run, generator=generator)[: run // 2] + block * run for block in range(group.blocks))
    return sorted(torch.cat(list(drawn)).tolist())


def _zero_readers(module: nn.Module, member: Member, units: set[int]) -> None:
    """Set the weights that read the units to zero."""
    gone = [i for i, unit in zip(member.indices, member.units, strict=True) if unit in units]
    with torch.no_grad():
        if isinstance(module, RecurrentLayer):
            for d in range(module.directions):
                inputs, recurrent = module.matrices(d)
                if member.side == "in":
                    inputs[:, :, gone] = 0
                else:
                    size = int(module.core.hidden_size)
                    recurrent[:, :, [i - d * size for i in gone if i // size == d]] = 0
        elif member.side == "in" and isinstance(module, (*CONVOLUTIONS, nn.Linear)):
            readers = by_channel(module, module.weight, "in")
            for i in gone:
                readers[i // readers.shape[1], i % readers.shape[1]] = 0


@dataclass
class _Seen:
    """Statistics of a norm, or one that may be a norm's. width: values that they are taken over together. narrowed:
    whether some of these go. of: what it is the statistic of, in the first pass.
    """

    width: int
    statistics: tuple[Tensor, ...]
    is_norm: bool
    narrowed: bool = False
    of: Tensor | None = None


class _FrozenNorms(TorchFunctionMode):
    """Norms whose statistics are taken in the first pass. Those that are narrower in the second one keep them in it and
    in the third; others, as the norm of each head's queries, have their own in every pass.

    Norms that a model computes itself are seen by what they do: a mean is taken off what it is the mean of, and what is
    worked out of a mean of squares or a variance divides a tensor of that shape. A statistic that goes another way is
    a value like any other.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: list[_Seen] = []
        self._again: Iterator[_Seen] | None = None
        self._norms: dict[Any, Callable[..., Tensor]] = {
            F.layer_norm: self._layer_norm,
            F.rms_norm: self._rms_norm,
            F.group_norm: self._group_norm,
        }

    def outputs(self, model: nn.Module, inputs: Inputs) -> tuple[Tensor, ...]:
        """What the model gives; of the first model asked, the norms' statistics are taken."""
        with self:
            found = outputs(model, inputs)
        self._again = iter(self._seen)
        for seen in self._seen:
            seen.of = None
        return found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))  # a norm of another width raises what it would
        if func in self._norms:
            return self._norms[func](*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").strip("_")
        if name in MEANS and args and isinstance(found, Tensor) and found.dim() == args[0].dim():
            return self._mean(args[0], found, name != "mean" or hasattr(args[0], SQUARES_MARK))
        if _squares(name, args):
            setattr(found, SQUARES_MARK, True)
        if self._again is None and args:
            self._follow(name, args, found)
        return found

    def _mean(self, x: Tensor, found: Tensor, is_spread: bool) -> Tensor:
        """What is computed of x over some of its axes, or, in a narrower norm, what it was."""
        seen = _Seen(x.numel() // max(found.numel(), 1), (found,), is_norm=False, of=x)
        (kept,) = self._kept(seen)
        if is_spread and self._again is None:
            setattr(found, SPREAD_MARK, (seen, False))
        return kept

    def _follow(self, name: str, args: Sequence[Any], found: Any) -> None:
        """Note of a statistic that it is a norm's, where this is what a norm does with one."""
        first, second = args[0], args[1] if len(args) > 1 else None
        if name == "sub":
            for seen in self._seen:
                seen.is_norm |= seen.of is first and seen.statistics[0] is second
        elif name in FOLLOWED and (mark := getattr(first, SPREAD_MARK, None)) is not None:
            seen, inverted = mark
            negative = name == "pow" and isinstance(second, (int, float)) and second < 0
            setattr(found, SPREAD_MARK, (seen, inverted != (name in INVERTING or negative)))
        elif name in ("mul", "imul", "rmul"):
            self._scaled(first, second, inverted=True)
            self._scaled(second, first, inverted=True)
        elif name in ("div", "truediv", "itruediv"):
            self._scaled(first, second, inverted=False)

    def _scaled(self, x: Any, by: Any, inverted: bool) -> None:
        """Note that x is divided by a spread, or multiplied with an inverted one."""
        seen, is_inverted = getattr(by, SPREAD_MARK, (None, None))
        if seen is not None and is_inverted == inverted and isinstance(x, Tensor) and x.shape == seen.of.shape:
            seen.is_norm = True

    def _layer_norm(
        self, x: Tensor, shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
    ) -> Tensor:
        y = self._standard(x.flatten(-len(shape)), eps).reshape(x.shape)
        return y * (1 if weight is None else weight) + (0 if bias is None else bias)

    def _rms_norm(self, x: Tensor, shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Tensor:
        small = torch.finfo(x.dtype).eps if eps is None else eps
        y = self._standard(x.flatten(-len(shape)), small, centred=False).reshape(x.shape)
        return y * (1 if weight is None else weight)

    def _group_norm(self, x: Tensor, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
        y = self._standard(x.reshape(len(x), groups, -1), eps).reshape(x.shape)
        along = (-1, *[1] * (x.dim() - 2))
        return y * (1 if weight is None else weight.view(along)) + (0 if bias is None else bias.view(along))

    def _standard(self, x: Tensor, eps: float, centred: bool = True) -> Tensor:
        """x (..., values that are normalized together) by mean and deviation."""
        mean = x.mean(-1, keepdim=True) if centred else x.new_zeros(1)
        scale = ((x - mean).square().mean(-1, keepdim=True) + eps).rsqrt()
        mean, scale = self._kept(_Seen(x.shape[-1], (mean, scale), is_norm=True))
        return (x - mean) * scale

    def _kept(self, now: _Seen) -> tuple[Tensor, ...]:
        """The statistics of a norm, or those of the first pass where it is narrower now."""
        if self._again is None:
            self._seen.append(now)
            return now.statistics
        seen = next(self._again)
        seen.narrowed |= now.width != seen.width
        return seen.statistics if seen.is_norm and seen.narrowed else now.statistics


def _squares(name: str, args: Sequence[Any]) -> bool:
    """Whether a function of this name squares what it is given."""
    if name in ("pow", "mul"):
        by = args[1] if len(args) > 1 else None
        return by is args[0] if name == "mul" else isinstance(by, (int, float)) and by == 2
    return name == "square"
