"""Where the heads of an attention in the model's own code lie, found by trying.

The layers that read the same tensor are cut into equal parts, and a part is a head when its numbers reach what comes
after through its own columns of the output projection alone. Then a head is taken out of a copy, with the sizes that
the module keeps of it, until that gives what zeroing those columns gives. What no such cut gives is left as it is.
"""

import copy
import math
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, combinations, islice

import torch
from torch import Tensor, nn

from autocompress.errors import CandidateFailed
from autocompress.nested import tensors_of
from autocompress_plugins.model_runs import ModuleCall, same_output, shapes_of
from autocompress_plugins.shrinking.attention_layers import HeadLayer
from autocompress_plugins.shrinking.inner_attention import hold_attention
from autocompress_plugins.shrinking.own_attention import (
    HEADS_LEFT,
    SEEN_WIDTH,
    HeadSize,
    become_own_attention,
    channel_axis,
    sequence_argument,
)

MOST_HEADS = 64
MOST_TRIES = 120
MOST_EDITS = 4  # sizes that a module keeps of its heads, changed together
DRAWN_SIZE = 2.0  # so large that the places an attention looks at differ
HEADS_FIXED = "its code, or what it is given, fixes how many heads it has"
NO_ATTENTION = "its linear layers do not read as multi-head self-attention of one input"


@dataclass(frozen=True)
class AttentionReading:
    """How an attention was read: which of the ways to cut its layers, and the sizes that follow when a head goes."""

    cut: int
    sizes: tuple[HeadSize, ...]


def read_attention(
    module: nn.Module,
    call: ModuleCall,
    readers: Sequence[nn.Linear],
    out: nn.Linear,
    mixers: Sequence[nn.Linear] = (),
    others: Sequence[int | str] = (),
    like: AttentionReading | None = None,
    *,
    inner: bool = False,
) -> AttentionReading | None:
    """How ``module`` reads as attention; None where no place sees another one.

    call: one of its, as the model makes it. readers: its layers that read one tensor, or two: of another sequence. out:
    the output projection, inside of it or right behind. mixers: its layers that may mix heads. others: arguments beside
    the sequence that the layers read. like: how one of the same form was read, which is tried first. inner: of a module
    that computes other things beside it; that places see each other is known then. Raises CandidateFailed when no cut
    is right.
    """
    probe = _Probe.of(module, call, readers, out, mixers, inner)
    if not inner:
        keys = (sequence_argument(call, readers[0].in_features), *others)
        if not any(map(probe.places_see, keys)):
            return None
    cuts = list(enumerate(head_cuts(probe.readers, probe.out, probe.mixers)))
    cuts.sort(key=lambda numbered: like is None or numbered[0] != like.cut)
    reason = NO_ATTENTION
    for number, heads in cuts:
        if all(probe.is_apart(heads, head) for head in (0, len(heads[0].heads) - 1)):
            sizes = probe.sizes_to_change(heads, () if like is None else like.sizes)
            if sizes is not None:
                return AttentionReading(number, sizes)
            reason = _what_fixes_heads(call, len(heads[0].heads))
            break  # what its finest heads cannot do, several of them together hardly can
    raise CandidateFailed(reason)


def _what_fixes_heads(call: ModuleCall, count: int) -> str:
    """Why none of so many heads can go: what a module is given may have a place for each."""
    for name, value in (*((f"argument {n}", own) for n, own in enumerate(call.args, 1)), *call.named.items()):
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 3 and value.shape[1] == count:
            return f"{HEADS_FIXED}: {name}, of shape {tuple(value.shape)}, is computed elsewhere for all {count} heads"
    return HEADS_FIXED


def head_cuts(
    readers: Sequence[nn.Linear], out: nn.Linear, mixers: Sequence[nn.Linear] = ()
) -> Iterator[tuple[HeadLayer, ...]]:
    """Every way to cut the layers into equal parts, the finest first. mixers: layers of which some may mix the heads,
    where these are as many as they are wide.
    """
    widths, values = [layer.out_features for layer in readers], out.in_features
    for count in (n for n in range(min(MOST_HEADS, values), 1, -1) if values % n == 0):
        columns = HeadLayer(out, "in", _runs(values, count))
        together = list(_rows(widths, values, count)) if all(width % count == 0 for width in widths) else []
        for rows in (*together, *_shared_rows(widths, values, count)):
            reading = [HeadLayer(layer, "out", own) for layer, own in zip(readers, rows, strict=True)]
            yield *reading, columns
            mixing = [HeadLayer(own, "both", _runs(count, count)) for own in mixers if own.in_features == count]
            for number in range(len(mixing), 0, -1):
                yield from ((*reading, *some, columns) for some in combinations(mixing, number))


def _rows(widths: Sequence[int], values: int, count: int) -> Iterator[list[tuple[tuple[int, ...], ...]]]:
    """Which outputs of each layer belong to each of ``count`` heads. values: the width of all values together."""
    if len(widths) == 1:
        (width,) = widths
        parts = (values, (width - values) // 2, (width - values) // 2)
        if all(part > 0 and part % count == 0 for part in parts) and sum(parts) == width:
            yield [_in_parts(parts, count)]
    yield [_runs(width, count) for width in widths]  # query, key, value; what is fused is so head by head
    if len(widths) == 2:  # one of them fused: a part after the other
        for fused in (0, 1):
            yield [_in_parts((w // 2, w // 2), count) if n == fused else _runs(w, count) for n, w in enumerate(widths)]
    if 1 < len(widths) < 4 and 3 * values in widths:  # all of them fused, and positions apart
        yield [_in_parts((values,) * 3, count) if w == 3 * values else _runs(w, count) for w in widths]


def _shared_rows(widths: Sequence[int], values: int, count: int) -> Iterator[list[tuple[tuple[int, ...], ...]]]:
    """The same where all heads share one key and one value, which belong to none of them. Shazeer, "Fast Transformer
    Decoding: One Write-Head is All You Need", 2019.
    """
    one, none = values // count, ((),) * count
    queries = _runs(values, count)
    if len(widths) == 1 and widths[0] == values + 2 * one:
        yield [queries]
    if len(widths) == 2 and sorted(widths) == sorted((values, 2 * one)) and count > 2:
        yield [queries if width == values else none for width in widths]
    if len(widths) == 3 and sorted(widths) == [one, one, values]:
        yield [queries if width == values else none for width in widths]


def _runs(width: int, count: int) -> tuple[tuple[int, ...], ...]:
    run = width // count
    return tuple(tuple(range(head * run, (head + 1) * run)) for head in range(count))


def _in_parts(parts: Sequence[int], count: int) -> tuple[tuple[int, ...], ...]:
    """Each part cut into ``count`` runs; a head has one of each."""
    starts = [sum(parts[:n]) for n in range(len(parts))]
    runs = [[[start + i for i in run] for run in _runs(part, count)] for start, part in zip(starts, parts, strict=True)]
    return tuple(tuple(i for own in runs for i in own[head]) for head in range(count))


@dataclass(frozen=True)
class _Probe:
    """A copy of an attention with weights by which every place looks at some others, and no two heads alike: whether a
    cut is right does not depend on the weights, and those of the user's may not show it. inside: whether the output
    projection is in the module. beside: whether the module computes other things too.
    """

    module: nn.Module
    call: ModuleCall
    readers: tuple[nn.Linear, ...]
    out: nn.Linear
    mixers: tuple[nn.Linear, ...]
    inside: bool
    beside: bool

    @classmethod
    def of(
        cls,
        module: nn.Module,
        call: ModuleCall,
        readers: Sequence[nn.Linear],
        out: nn.Linear,
        mixers: Sequence[nn.Linear],
        beside: bool,
    ) -> "_Probe":
        held = {id(parameter) for parameter in module.parameters()}
        copies = copy.deepcopy((module, call, tuple(readers), out, tuple(mixers)))
        probe = cls(*copies, id(out.weight) in held, beside)
        for layer in probe.layers:
            probe._draw(layer, range(layer.out_features))
        return probe

    @property
    def layers(self) -> tuple[nn.Linear, ...]:
        return (*self.readers, self.out, *self.mixers)

    def places_see(self, key: int | str) -> bool:
        """Whether what comes out for a place depends on what another one is given, by this argument."""
        args, named = copy.deepcopy((self.call.args, dict(self.call.named)))
        x: Tensor = args[key] if isinstance(key, int) else named[key]
        before = self._output(self.module, self.out)
        channels = channel_axis(x, self.readers[0].in_features)
        for axis in (axis for axis, size in enumerate(x.shape) if axis != channels and size > 1):
            wide = channels if before.dim() == x.dim() else before.dim() - 1
            kept = axis < before.dim() and axis != wide and before.shape[axis] == x.shape[axis]
            moved, place = x.clone(), 0 if kept else -1  # of fewer places that come out, the last one is none
            part = moved.select(axis, place)
            part.add_(torch.randn(part.shape, generator=torch.Generator().manual_seed(0)))
            given = (
                replace(self.call, args=tuple(moved if n == key else value for n, value in enumerate(args)))
                if isinstance(key, int)
                else replace(self.call, named={**named, key: moved})
            )
            found = (before, replace(self, call=given)._output(self.module, self.out))
            if not same_output(*(y.narrow(axis, 1, y.shape[axis] - 1) if kept else y for y in found)):
                return True
        return False

    def is_apart(self, heads: Sequence[HeadLayer], head: int) -> bool:
        """Whether what makes a head reaches the output through its own columns alone: where those are zero, other
        numbers there change nothing.
        """
        with _weights_kept(self.layers), torch.no_grad():
            before = self._output(self.module, self.out)
            _zero_columns(heads, head)
            zeroed = self._output(self.module, self.out)
            for own in heads:
                if "out" in own.sides:
                    self._draw(own.layer, own.heads[head])
            return not same_output(before, zeroed) and same_output(self._output(self.module, self.out), zeroed)

    def sizes_to_change(self, heads: Sequence[HeadLayer], first: tuple[HeadSize, ...]) -> tuple[HeadSize, ...] | None:
        """The fewest sizes of the module that have to follow when a head goes; None where none do. Others are preferred
        by which whatever else it gives keeps its shape. first: what is tried before any other.
        """
        count = len(heads[0].heads)
        removed = count // 2
        with _weights_kept(self.layers), torch.no_grad():
            _zero_columns(heads, removed)
            expected = self._output(self.module, self.out)
        known = _sizes(self.module, count, self.layers)
        of_each_number = (combinations(known, number) for number in range(min(MOST_EDITS, len(known)) + 1))
        ways = chain(islice(chain([first], *of_each_number), MOST_TRIES), [(HEADS_LEFT,)])
        whole, found, fewest = shapes_of(self._gave(self.module, self.out)), None, math.inf
        for chosen in ways:
            if found is not None and HEADS_LEFT not in chosen:
                continue
            smaller, layers = copy.deepcopy((self.module, tuple(heads)))
            try:
                become = hold_attention if self.beside else become_own_attention
                become(smaller, self.call, layers, tuple(chosen)).remove_heads([removed])
                gave = self._gave(smaller, layers[-1].layer)
            except Exception:  # the module's own code, with sizes that do not go together
                continue
            changed = sum(map(operator.ne, shapes_of(gave), whole))
            if same_output(gave[0], expected) and changed < fewest:
                found, fewest = tuple(chosen), changed
            if not fewest:
                break
        return found

    def _output(self, module: nn.Module, out: nn.Linear) -> Tensor:
        """What comes out of the output projection, or of the module that holds it."""
        return self._gave(module, out)[0]

    def _gave(self, module: nn.Module, out: nn.Linear) -> tuple[Tensor, ...]:
        """What the module gives, the first of it behind the output projection."""
        args, named = copy.deepcopy((self.call.args, dict(self.call.named)))  # a cache among them takes in what it sees
        with torch.no_grad():
            first, *others = tensors_of(module(*args, **named))
            return (first if self.inside else out(first)), *others

    def _draw(self, layer: nn.Linear, rows: Sequence[int]) -> None:
        """Other numbers in these rows, by which what the layer gives is about two, whatever it is given."""
        number = self.layers.index(layer)  # no two layers are alike, or each place would see itself alone
        generator = torch.Generator().manual_seed(1000 * number + len(rows))
        scale = DRAWN_SIZE / (min(self._given(), 1.0) * layer.in_features**0.5)
        with torch.no_grad():
            layer.weight[list(rows)] = scale * torch.randn(len(rows), layer.in_features, generator=generator)
            if layer.bias is not None:
                layer.bias[list(rows)] = torch.randn(len(rows), generator=generator)

    def _given(self) -> float:
        """How large what the module is given is."""
        if self.beside:
            return 1.0  # behind a norm, or near it
        key = sequence_argument(self.call, self.readers[0].in_features)
        x = self.call.args[key] if isinstance(key, int) else self.call.named[key]
        return max(float(x.float().square().mean().sqrt()), 1e-3)


def _sizes(module: nn.Module, count: int, layers: Sequence[nn.Linear]) -> list[HeadSize]:
    """What may grow with the heads: whole numbers, those called after heads first, the width that the module's code
    sees, and tensors with an axis of as many. The sizes of the layers that are cut are theirs.
    """
    numbers, tensors = [], []
    for path, inside in module.named_modules():
        if inside in layers or (isinstance(inside, nn.Linear) and path):
            continue
        for name, value in vars(inside).items():
            if isinstance(value, int) and not isinstance(value, bool) and value >= count and value % count == 0:
                numbers.append(HeadSize(path, name))
        for name, tensor in (*inside.named_parameters(recurse=False), *inside.named_buffers(recurse=False)):
            tensors += [HeadSize(path, name, axis) for axis, size in enumerate(tensor.shape) if size == count]
    numbers.sort(key=lambda size: "head" not in size.name)
    seen = [SEEN_WIDTH] if layers[0].in_features % count == 0 else []
    return numbers[:1] + seen + numbers[1:] + tensors


def _zero_columns(heads: Sequence[HeadLayer], head: int) -> None:
    """Let nothing read what a head gives, in place."""
    for own in heads:
        if "in" in own.sides:
            own.layer.weight[:, list(own.heads[head])] = 0


@contextmanager
def _weights_kept(layers: Sequence[nn.Linear]) -> Iterator[None]:
    """While open, weights may be written to; afterwards they are what they were."""
    kept = [(parameter, parameter.detach().clone()) for layer in layers for parameter in layer.parameters()]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in kept:
                parameter.copy_(value)
