"""Parallel convolutions of one input whose outputs are added are one convolution: the branches by which some networks
are trained (RepVGG, MobileOne), with the norm of the input itself among them. Files hold that one; training keeps the
branches.

Found in a file whose batch norms are folded into convolutions, by what it computes. Ding et al., "RepVGG: Making
VGG-style ConvNets Great Again", CVPR 2021; Vasu et al., "MobileOne: An Improved One Millisecond Mobile Backbone", CVPR
2023.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from autocompress.candidate.graph_parts import (
    ChannelScaling,
    attributes_of,
    float_constants,
    read_in,
    remove_unread,
    scaling_of,
)
from autocompress.plugin.contract import Array

MERGED = "merged/"  # before the names of what branches became
FEWEST_BRANCHES = 2  # with weights of their own: the input itself, added to one convolution, is a shortcut


@dataclass(frozen=True)
class _Convolution:
    """weight: (O, I / groups, *kernel). before: how many places the kernel begins before the one that it gives, by
    axis. wider: by how many places the output is wider than the input, but for strides.
    """

    weight: Array
    bias: Array
    groups: int
    strides: tuple[int, ...]
    before: tuple[int, ...]
    wider: tuple[int, ...]

    @property
    def kernel(self) -> tuple[int, ...]:
        return tuple(self.weight.shape[2:])

    @property
    def after(self) -> tuple[int, ...]:
        """How many places the kernel goes on from the one that it gives."""
        return tuple(k - b for k, b in zip(self.kernel, self.before, strict=True))


def _as_convolution(scaling: ChannelScaling, like: _Convolution) -> _Convolution | None:
    """Of a kernel of one place, in as many groups. None where it has other channels than that gives: added, one of
    the two is repeated.
    """
    channels, axes = len(like.weight), len(like.kernel)
    if channels != like.weight.shape[1] * like.groups or scaling.scale.size not in (1, channels):
        return None
    weight = np.zeros((*like.weight.shape[:2], *[1] * axes))
    own = np.arange(channels)
    weight[own, own % like.weight.shape[1]] = scaling.scale.reshape(-1, *[1] * axes)
    return _Convolution(weight, np.zeros(channels) + scaling.shift, like.groups, (1,) * axes, (0,) * axes, (0,) * axes)


ITSELF = ChannelScaling(np.ones(1), np.zeros(1))


def merge_parallel_branches(model: onnx.ModelProto) -> int:
    """Make one convolution of each sum of parallel ones, in place, where that takes no more multiplications. Returns
    how many there were.
    """
    found = 0
    while merge := next(_merges(model.graph), None):
        merge.carry_out(model.graph)
        found += 1
    return found


def merged_convolutions(path: Path) -> int:
    """How many convolutions of a file stand for several."""
    nodes = onnx.load(str(path), load_external_data=False).graph.node
    return sum(node.op_type == "Conv" and node.name.startswith(MERGED) for node in nodes)


@dataclass(frozen=True)
class _Merge:
    """name: of the convolution, and before the names of its weights. total: what the last addition gives. given: the
    one input. gone: what the other nodes give that the convolution stands for. others: what else is added.
    """

    name: str
    total: str
    given: str
    gone: frozenset[str]
    convolution: _Convolution
    others: Sequence[str]

    def carry_out(self, graph: onnx.GraphProto) -> None:
        nodes = [type(node).FromString(node.SerializeToString()) for node in graph.node]
        no_longer = {name for node in nodes if node.output[0] in self.gone for name in node.input}
        del graph.node[:]
        for node in nodes:
            if node.output[0] == self.total:
                graph.node.extend(self._nodes())
            elif node.output[0] not in self.gone:
                graph.node.append(node)
        for suffix, value in (("weight", self.convolution.weight), ("bias", self.convolution.bias)):
            tensor = numpy_helper.from_array(value.astype(np.float32), f"{self.name}.{suffix}")
            graph.initializer.append(tensor)
        remove_unread(graph, no_longer)

    def _nodes(self) -> Iterator[onnx.NodeProto]:
        own, name = self.convolution, self.name
        ends = (w + a - 1 for w, a in zip(own.wider, own.after, strict=True))
        sums = [name, *(f"{name}.{n}" for n in range(1, len(self.others)))] if self.others else []
        yield onnx.helper.make_node(
            "Conv",
            [self.given, f"{name}.weight", f"{name}.bias"],
            [sums[0] if sums else self.total],
            name,
            kernel_shape=own.kernel,
            strides=own.strides,
            pads=[*own.before, *ends],
            group=own.groups,
        )
        for number, (one, other) in enumerate(zip(sums, self.others, strict=True), 1):
            total = sums[number] if number < len(sums) else self.total
            yield onnx.helper.make_node("Add", [one, other], [total], f"{total}/add")


def _merges(graph: onnx.GraphProto) -> Iterator[_Merge]:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    reads = Counter(read_in(graph))

    def is_part(name: str) -> bool:
        """Whether a tensor is a sum that nothing reads but another one."""
        return name in made and made[name].op_type == "Add" and reads[name] == 1

    def terms(total: str) -> Iterator[str]:
        """What is added, and the sums on the way, each after its terms."""
        for name in made[total].input:
            if is_part(name):
                yield from terms(name)
            yield name

    within = {name for node in graph.node if node.op_type == "Add" for name in node.input if is_part(name)}
    for total in [node.output[0] for node in graph.node if node.op_type == "Add"]:
        if total in within:
            continue
        added = [name for name in terms(total) if not is_part(name)]
        branches: dict[str, list[str]] = defaultdict(list)
        for name in added:
            if name in made and made[name].op_type in BRANCHES and reads[name] == 1:
                branches[made[name].input[0]].append(name)
        for given, names in branches.items():
            if len(names) < FEWEST_BRANCHES or not constants.keys().isdisjoint(added):
                continue
            read = [BRANCHES[made[name].op_type](made[name], constants) for name in names]
            for itself in ([given], []) if given in added else ([],):
                merged = _sum([*read, *(ITSELF for _ in itself)])
                if merged is not None:
                    others = list((Counter(added) - Counter([*names, *itself])).elements())
                    gone = frozenset([*names, *(name for name in terms(total) if is_part(name))])
                    yield _Merge(f"{MERGED}{names[0]}", total, given, gone, merged, others)


def _sum(branches: Sequence[_Convolution | ChannelScaling | None]) -> _Convolution | None:
    """The one convolution that gives the sum of these; None where there is none, or it would be dearer."""
    first = next((own for own in branches if isinstance(own, _Convolution)), None)
    if first is None or None in branches:
        return None
    known = [_as_convolution(own, first) if isinstance(own, ChannelScaling) else own for own in branches]
    parts = [own for own in known if own is not None]
    if (
        len(parts) < len(known)
        or len({(own.groups, own.strides, own.wider, own.weight.shape[:2]) for own in parts}) != 1
    ):
        return None
    before, after = (
        tuple(map(max, zip(*sizes, strict=True))) for sizes in zip(*((o.before, o.after) for o in parts), strict=True)
    )
    kernel = tuple(b + a for b, a in zip(before, after, strict=True))
    if math.prod(kernel) > sum(math.prod(own.kernel) for own in branches if isinstance(own, _Convolution)):
        return None
    weight = np.zeros((*first.weight.shape[:2], *kernel))
    for own in parts:
        starts = [b - o for b, o in zip(before, own.before, strict=True)]
        at: Any = (..., *(slice(start, start + size) for start, size in zip(starts, own.kernel, strict=True)))
        weight[at] += own.weight
    bias = np.sum([own.bias for own in parts], axis=0)
    return _Convolution(weight, bias, first.groups, first.strides, before, first.wider)


def _convolution(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> _Convolution | None:
    """None for one that is padded by a rule, has gaps in its kernel or weights that are no constants."""
    how, weights = attributes_of(node), float_constants(node, constants)
    if weights is None or how.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    weight = weights[0]
    axes = weight.ndim - 2
    pads = how.get("pads", [0] * 2 * axes)
    if any(gap != 1 and size > 1 for gap, size in zip(how.get("dilations", [1] * axes), weight.shape[2:], strict=True)):
        return None
    wider = tuple(b + e - (k - 1) for b, e, k in zip(pads[:axes], pads[axes:], weight.shape[2:], strict=True))
    bias = weights[1] if len(weights) > 1 else np.zeros(len(weight))
    strides = tuple(how.get("strides", [1] * axes))
    return _Convolution(weight, bias, how.get("group", 1), strides, tuple(pads[:axes]), wider)


BRANCHES = {"Conv": _convolution, "BatchNormalization": scaling_of}
