"""What a group's units cost: the multiply-accumulates of one example in the layers that lose work with them."""

from collections import defaultdict
from typing import Any

from torch import nn

from autocompress.nested import primary, tensors_of
from autocompress.task import Inputs
from autocompress_plugins.layer_kinds import CONVOLUTIONS
from autocompress_plugins.model_runs import output, watched
from autocompress_plugins.shrinking.groups import Member
from autocompress_plugins.shrinking.opaque import Opaque

COMPUTED = (*CONVOLUTIONS, nn.Linear, nn.Embedding, Opaque)


def places(model: nn.Module, inputs: Inputs) -> dict[str, float]:
    """At how many places each layer is computed for one example: pixels, or steps of a sequence. In the order of the
    calls.
    """
    found: dict[str, float] = defaultdict(float)
    examples = len(tensors_of(inputs)[0])

    def note(name: str, module: nn.Module, given: tuple[Any, ...], gave: Any) -> None:
        y = primary(gave)
        width = y.shape[1] if isinstance(module, CONVOLUTIONS) else y.shape[-1]
        found[name] += y.numel() / max(width, 1) / examples

    with watched(((name, m) for name, m in model.named_modules() if isinstance(m, COMPUTED)), note):
        output(model, inputs)
    return found


def member_macs(module: nn.Module, member: Member, computed_at: float) -> float:
    """Of a member of a group, computed at so many places: what falls with the group's units."""
    if not isinstance(module, (*CONVOLUTIONS, nn.Linear, Opaque)):
        return 0.0
    weights = sum(p.numel() for p in module.parameters() if p.dim() > 1)
    return computed_at * weights * len(set(member.indices)) / _width(module, member.side)


def _width(module: Any, side: str) -> int:
    """How many channels a layer has on one side."""
    return int(getattr(module, f"{side}_features" if isinstance(module, nn.Linear) else f"{side}_channels"))
