"""What is read of the nodes of an ONNX graph by whoever makes fewer of them, and what is left behind then."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from autocompress.plugin.contract import Array


@dataclass(frozen=True)
class ChannelScaling:
    """Each channel times a number, plus one: a batch norm, or with one of each what is given as it is."""

    scale: Array
    shift: Array


def scaling_of(norm: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> ChannelScaling | None:
    """What a ``BatchNormalization`` does; None where it takes the statistics of what it is given."""
    how, weights = attributes_of(norm), float_constants(norm, constants)
    if weights is None or how.get("training_mode", 0):
        return None
    gain, shift, mean, variance = weights
    scale = gain / np.sqrt(variance + how.get("epsilon", 1e-5))
    return ChannelScaling(scale, shift - mean * scale)


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    return {own.name: onnx.helper.get_attribute_value(own) for own in node.attribute}


def float_constants(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> list[Array] | None:
    """What a node takes beside its first input, in float64; None where that is no float32 constants."""
    tensors = [constants.get(name) for name in node.input[1:] if name]
    if any(tensor is None or tensor.data_type != onnx.TensorProto.FLOAT for tensor in tensors):
        return None
    return [numpy_helper.to_array(tensor).astype(np.float64) for tensor in tensors if tensor is not None]


def read_in(graph: onnx.GraphProto) -> Iterator[str]:
    """The tensors that nodes read or that the graph gives, each as often, those in the bodies of If, Loop and Scan too,
    which read what is outside of them.
    """
    yield from (output.name for output in graph.output)
    for node in graph.node:
        yield from node.input
        for own in node.attribute:
            for body in (*([own.g] if own.HasField("g") else []), *own.graphs):
                yield from read_in(body)


def remove_unread(graph: onnx.GraphProto, names: Collection[str]) -> None:
    """Those constants among ``names`` that nothing reads any more."""
    gone = set(names) - set(read_in(graph))
    for tensor in [tensor for tensor in graph.initializer if tensor.name in gone]:
        graph.initializer.remove(tensor)
