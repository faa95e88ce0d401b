"""Data in another file is found wherever in an ONNX file it is named."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from autocompress.errors import UsageError
from autocompress.storage.onnx_file import read_onnx


def tensor(elsewhere: bool) -> TensorProto:
    made = numpy_helper.from_array(np.ones(4, dtype=np.float32), "w")
    if elsewhere:
        onnx.external_data_helper.set_external_data(made, "../../secret.bin")
        made.ClearField("raw_data")
    return made


def graph(*nodes: NodeProto, **kept: list[TensorProto]) -> GraphProto:
    return helper.make_graph(list(nodes), "g", [], [], **kept)


def constant(elsewhere: bool) -> NodeProto:
    return helper.make_node("Constant", [], ["c"], value=tensor(elsewhere))


def branch(inner: GraphProto) -> NodeProto:
    return helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=graph())


def model(outer: GraphProto) -> ModelProto:
    return helper.make_model(outer)


def initializer(elsewhere: bool) -> ModelProto:
    return model(graph(initializer=[tensor(elsewhere)]))


def sparse_values(elsewhere: bool) -> ModelProto:
    made = graph()
    made.sparse_initializer.add().values.CopyFrom(tensor(elsewhere))
    return model(made)


def attribute(elsewhere: bool) -> ModelProto:
    return model(graph(constant(elsewhere)))


def list_of_tensors(elsewhere: bool) -> ModelProto:
    node = helper.make_node("Own", [], ["y"], domain="own")
    node.attribute.append(helper.make_attribute("ts", [tensor(False), tensor(elsewhere)]))
    return model(graph(node))


def sparse_attribute(elsewhere: bool) -> ModelProto:
    node = helper.make_node("Constant", [], ["y"])
    held = node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
    held.sparse_tensor.indices.CopyFrom(tensor(elsewhere))
    return model(graph(node))


def subgraph(elsewhere: bool) -> ModelProto:
    return model(graph(branch(graph(initializer=[tensor(elsewhere)]))))


def deep_subgraph(elsewhere: bool) -> ModelProto:
    loop = helper.make_node("Loop", ["n", "c"], ["z"], body=graph(branch(graph(constant(elsewhere)))))
    return model(graph(helper.make_node("Scan", ["x"], ["y"], body=graph(loop), num_scan_inputs=1)))


def function(elsewhere: bool) -> ModelProto:
    made = model(graph())
    inner = branch(graph(constant(elsewhere)))
    made.functions.append(helper.make_function("own", "f", [], ["y"], [inner], [helper.make_opsetid("", 17)]))
    return made


def training(elsewhere: bool) -> ModelProto:
    made = model(graph())
    made.training_info.add().algorithm.CopyFrom(graph(initializer=[tensor(elsewhere)]))
    return made


PLACES = (initializer, sparse_values, attribute, list_of_tensors, sparse_attribute, subgraph, deep_subgraph, function)


@pytest.mark.parametrize("place", [*PLACES, training])
def test_data_in_another_file_is_refused_at_any_depth(place: Callable[[bool], ModelProto], tmp_path: Path):
    path = tmp_path / "model.onnx"
    path.write_bytes(place(False).SerializeToString())
    assert read_onnx(path) == place(False)
    path.write_bytes(place(True).SerializeToString())
    with pytest.raises(UsageError, match=r"model.onnx keeps its weights in other files, which may point anywhere"):
        read_onnx(path)


def test_place_without_the_location_flag_is_refused_too(tmp_path: Path):
    odd = tensor(True)
    odd.ClearField("data_location")
    path = tmp_path / "model.onnx"
    path.write_bytes(model(graph(initializer=[odd])).SerializeToString())
    with pytest.raises(UsageError, match="keeps its weights in other files"):
        read_onnx(path)


@pytest.mark.parametrize(("content", "cause"), [(None, "cannot read"), (b"PK\x03\x04", "is not an ONNX file")])
def test_what_is_no_file_of_onnx_is_one_line(content: bytes | None, cause: str, tmp_path: Path):
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=cause) as caught:
        read_onnx(path)
    assert "\n" not in str(caught.value)
