"""Attention in a module whose code computes other things beside it, such as a whole block with its MLP: the module
stays open, so that what else it computes can lose units too, and the output projection stands for the attention.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from autocompress.errors import CandidateFailed
from autocompress_plugins.model_runs import ModuleCall
from autocompress_plugins.shrinking.attention_layers import HeadLayer, Projection, PrunableAttention
from autocompress_plugins.shrinking.fewer_heads import HEADS_MARK, FewerHeads
from autocompress_plugins.shrinking.groups import remaining
from autocompress_plugins.shrinking.opaque import Opaque
from autocompress_plugins.shrinking.own_attention import (
    HEADS_LEFT,
    SEEN_WIDTH,
    HeadSize,
    SeesItsWidth,
    keep_channels,
    sequence_argument,
    without_heads,
)


class InnerReader(Projection, Opaque):
    """A layer that reads for an attention. own_read: what it was given last, while the attention is opaque."""

    own_read: Tensor

    def forward(self, x: Tensor) -> Tensor:
        gave = super().forward(x)
        if not self.opaque:
            return gave
        vars(self)["own_read"] = x
        with torch._C.DisableTorchFunction():
            alone = gave.detach()  # the output projection stands for all that comes of it
        if getattr(gave, HEADS_MARK, False):
            setattr(alone, HEADS_MARK, True)
        return alone


class InnerAttention(Projection, PrunableAttention):
    """The output projection. own_heads: the layers, this one last. own_sizes: what else grows with the heads in
    own_module, whose code it is called by. own_counted: which of own_whole heads are left, where that code counts on
    all of them; None where it does not. own_rows: where those lay in the layers that read.
    """

    own_heads: tuple[HeadLayer, ...]
    own_sizes: tuple[HeadSize, ...]
    own_module: nn.Module
    own_counted: tuple[int, ...] | None
    own_whole: int
    own_rows: tuple[tuple[tuple[int, ...], ...], ...]

    def forward(self, mixed: Tensor) -> Tensor:
        if not self.opaque:
            return super().forward(mixed)
        read = [vars(layer).pop("own_read") for layer in self._readers]
        sequences = {id(x): x for x in read}
        return self.stand_in_shaped((*mixed.shape[:-1], self.out_features), *sequences.values())

    @property
    def _readers(self) -> list[InnerReader]:
        return [own.layer for own in self.own_heads if isinstance(own.layer, InnerReader)]

    def head_layers(self) -> tuple[HeadLayer, ...]:
        return self.own_heads

    def opaque_widths(self) -> tuple[int, int]:
        return self._readers[0].in_features, self.out_features

    def remove_heads(self, removed: Sequence[int]) -> None:
        heads = self.removable_heads
        kept = remaining(heads, removed)
        if not kept:
            raise CandidateFailed("attention keeps at least one head")
        for size in self.own_sizes:
            size.cut(self if size == HEADS_LEFT else self.own_module, kept, heads)
        self.own_heads = tuple(without_heads(own, kept) for own in self.own_heads)

    def remove_inputs(self, removed: Sequence[int]) -> None:
        for layer in self._readers:
            keep_channels(layer, "in", remaining(layer.in_features, removed))

    def remove_outputs(self, removed: Sequence[int]) -> None:
        keep_channels(self, "out", remaining(self.out_features, removed))

    def fewer_heads(self) -> FewerHeads | None:
        """What lets the module's code count on all heads; None where it counts right."""
        if self.own_counted is None or len(self.own_counted) == self.own_whole:
            return None
        return FewerHeads([own.layer for own in self.own_heads], self.own_rows, self.own_whole, self.own_counted, ())


class HoldsAttention(SeesItsWidth):
    """Beside the class of a user's module, whose ``forward`` it is. own_inside: the attentions in its code."""

    own_inside: tuple[InnerAttention, ...]

    def forward(self, *args: Any, **named: Any) -> Any:
        with ExitStack() as modes:
            for inside in self.own_inside:
                if (fewer := inside.fewer_heads()) is not None:
                    modes.enter_context(fewer)
            return self.of_seen(args, named)


def hold_attention(
    module: nn.Module, call: ModuleCall, heads: tuple[HeadLayer, ...], sizes: tuple[HeadSize, ...]
) -> InnerAttention:
    """Make the output projection among these layers an InnerAttention and ``module`` one that holds it, in place."""
    *reading, columns = heads
    out, count, width = columns.layer, len(columns.heads), heads[0].layer.in_features
    if not isinstance(module, HoldsAttention):
        own = type(module)
        module.__class__ = type(own.__name__, (HoldsAttention, own), {"__module__": own.__module__})
        vars(module).update(own_inside=(), own_input=_sequence_argument(call, width), own_width=None)
    for each in reading:
        each.layer.__class__ = InnerReader
    out.__class__ = InnerAttention
    vars(out).update(
        own_heads=heads,
        own_sizes=sizes,
        own_module=module,
        own_counted=tuple(range(count)) if HEADS_LEFT in sizes else None,
        own_whole=count,
        own_rows=tuple(own.heads for own in reading),
    )
    assert isinstance(module, HoldsAttention)
    assert isinstance(out, InnerAttention)
    vars(module)["own_inside"] = (*module.own_inside, out)
    if {SEEN_WIDTH, HEADS_LEFT} & {*sizes} and module.own_input is not None:
        vars(module)["own_width"] = width
    return out


def _sequence_argument(call: ModuleCall, width: int) -> int | str | None:
    """The argument that is a sequence as wide as what the layers read; None where the module makes it itself."""
    try:
        return sequence_argument(call, width)
    except CandidateFailed:
        return None


def leave_attention(module: nn.Module, layers: Sequence[nn.Linear]) -> None:
    """Make a module and these layers of an attention inside it what they were before, in place."""
    for layer in layers:
        if isinstance(layer, (InnerReader, InnerAttention)):
            for name in [name for name in vars(layer) if name.startswith("own_")]:
                del vars(layer)[name]
            layer.__class__ = nn.Linear  # type: ignore[assignment]
    if not isinstance(module, HoldsAttention):
        return
    left = tuple(inside for inside in module.own_inside if isinstance(inside, InnerAttention))
    vars(module)["own_inside"] = left
    if not left:
        module.__class__ = type(module).__bases__[1]
        for name in [name for name in vars(module) if name in ("own_inside", *SeesItsWidth.__annotations__)]:
            del vars(module)[name]
