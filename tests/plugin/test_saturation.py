"""Whether a target cuts off sums of int8 products is found out by what a product gives on it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Array, Feed, Runtime, Session
from autocompress.profile import HardwareProfile
from autocompress_plugins.runtimes.onnxruntime import OnnxRuntime

PROFILE = HardwareProfile(name="here")
Add = Callable[[Array], Array]


def exactly(products: Array) -> Array:
    return products.sum(1)


def in_pairs(products: Array) -> Array:
    """As vpmaddubsw does: the sums of two next to each other are kept in 16 bits."""
    return products.reshape(len(products), -1, 2, products.shape[-1]).sum(2).clip(-(2**15), 2**15 - 1).sum(1)


class Multiplier(Session):
    """A quantized product, computed in whole numbers."""

    def __init__(self, path: Path, add: Add) -> None:
        self.weight = numpy_helper.to_array(
            next(tensor for tensor in onnx.load(str(path)).graph.initializer if len(tensor.dims) == 2)
        )
        self.add = add

    @property
    def input_names(self) -> Sequence[str]:
        return ["input"]

    def run(self, feed: Feed) -> Sequence[Array]:
        (levels,) = feed.values()
        return [self.add(levels.astype(int)[:, :, None] * self.weight.astype(int)[None]).astype(np.float32)]


class Board(Runtime):
    name = "board"

    def __init__(self, add: Add | None) -> None:
        self.add = add
        self.times = 0

    def open(self, path: Path, profile: HardwareProfile) -> Session:
        self.times += 1
        if self.add is None:
            raise CandidateFailed("no such operator")
        return Multiplier(path, self.add)


@pytest.mark.parametrize(("add", "expected"), [(exactly, False), (in_pairs, True), (None, True)])
def test_it_is_found_out_once_what_a_board_does(add: Add | None, expected: bool) -> None:
    board = Board(add)
    assert [board.saturates(PROFILE) for _ in range(3)] == [expected] * 3
    assert board.times == 1
    assert Board(exactly).saturates(PROFILE) is False, "each has its own"


def test_it_is_true_of_this_machine() -> None:
    activations, weight = np.full((1, 8), 255, np.uint8), np.full((8, 4), 127, np.int8)
    node = helper.make_node("MatMulInteger", ["a", "w"], ["y"])
    ends = [
        helper.make_tensor_value_info("a", TensorProto.UINT8, [1, 8]),
        helper.make_tensor_value_info("y", TensorProto.INT32, [1, 4]),
    ]
    graph = helper.make_graph([node], "product", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (product,) = session.run(None, {"a": activations})
    exact = bool((product == 8 * 255 * 127).all())
    assert OnnxRuntime().saturates(PROFILE) is not exact
