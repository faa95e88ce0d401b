"""Files of one structure have one digest, whatever their weights; another structure has another."""

import copy
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from autocompress.candidate.export import EXPORTERS, export_with
from autocompress.candidate.graph_digest import graph_digest
from autocompress.plugin.loader import PluginSet
from tests.layouts import layout_of


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's tools leave files where they are run."""
    monkeypatch.chdir(tmp_path)


def exported(folder: Path, model: nn.Module, inputs: Tensor, exporter: str = "torchscript") -> Path:
    target = folder / f"{len(list(folder.iterdir()))}.onnx"
    export_with(exporter, model.eval(), layout_of(model, inputs), inputs, target)
    return target


def trained_again(model: nn.Module, seed: int) -> nn.Module:
    """The same structure with other values."""
    other, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    for tensor in other.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
    return other


class Attention(nn.Module):
    """Three products of one input, told apart by what is done with them alone."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.queries, self.keys, self.values = (nn.Linear(width, width, bias=False) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.queries(x) @ self.keys(x).transpose(1, 2), -1) @ self.values(x)


class Last(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0][:, -1]


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "attention": (Attention, (1, 6, 8)),
    "recurrent": (lambda: Last(nn.GRU(5, 6, batch_first=True)), (1, 7, 5)),
    "norms": (lambda: nn.Sequential(nn.Conv1d(4, 4, 3), nn.BatchNorm1d(4), nn.Hardtanh(0, 6)), (1, 4, 9)),
}


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", ["tiny", *MODELS])
def test_trainings_of_one_structure_have_one_digest(name: str, exporter: str, tiny_model: nn.Module, tmp_path: Path):
    build, shape = MODELS.get(name, (lambda: tiny_model, (1, 1, 8, 8)))
    model = build()
    files = [
        exported(tmp_path, m, torch.zeros(shape), exporter) for m in (model, *(trained_again(model, s) for s in (1, 2)))
    ]
    assert len({file.read_bytes() for file in files}) == 3
    assert len(set(map(graph_digest, files))) == 1
    assert len(graph_digest(files[0])) == 20


def conv(channels: int = 6, outputs: int = 4, **others: Any) -> nn.Module:
    first = nn.Conv2d(2, channels, 3, padding=1, **others)
    return nn.Sequential(first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs))


def test_another_structure_has_another_digest(tmp_path: Path):
    models = [conv(), conv(7), conv(outputs=5), conv(stride=2), conv(groups=2), conv(dilation=2), conv(bias=False)]
    models += [
        nn.Sequential(*conv()[:1], nn.Hardswish(), *conv()[2:]),
        nn.Sequential(*conv(), nn.Identity(), nn.ReLU()),
    ]
    files = [exported(tmp_path, model, torch.zeros(1, 2, 8, 8)) for model in models]
    files.append(exported(tmp_path, conv(), torch.zeros(2, 2, 8, 8)))
    files.append(exported(tmp_path, conv(), torch.zeros(1, 2, 8, 9)))
    digests = [graph_digest(file) for file in files]
    assert len(set(digests)) == len(digests)


def test_an_attribute_that_says_what_holds_anyway_is_as_if_left_out(tmp_path: Path):
    path = exported(tmp_path, conv(), torch.zeros(1, 2, 8, 8))
    digests = [graph_digest(path)]
    for attribute, value in (("transA", 0), ("transA", 1)):
        model = onnx.load(str(path))
        (product,) = (node for node in model.graph.node if node.op_type == "Gemm")
        product.attribute.append(onnx.helper.make_attribute(attribute, value))
        onnx.save(model, str(tmp_path / "written.onnx"))
        digests.append(graph_digest(tmp_path / "written.onnx"))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("strategy", "params"),
    [
        ("quantize_static", {"activations": "QUInt8", "calibration": "minmax"}),
        ("quantize_static", {"activations": "QInt8", "calibration": "minmax"}),
        ("quantize_dynamic", {"weights": "QInt8"}),
        ("quantize_weights", {"bits": 8}),
        ("float16", {}),
    ],
)
def test_quantized_files_of_one_structure_have_one_digest_and_not_that_of_their_source(
    strategy: str, params: dict[str, Any], plugins: PluginSet, tiny_model: nn.Module, tmp_path: Path
):
    digests, contents = [], set()
    for seed in (1, 2):
        source = exported(tmp_path, trained_again(tiny_model, seed), torch.zeros(1, 1, 8, 8))
        target = tmp_path / f"quantized{seed}.onnx"
        feeds = [{"input": torch.randn(1, 1, 8, 8).numpy() * seed} for _ in range(4)]
        plugins.strategies[strategy].apply(source, target, params, Calibrated(feeds))  # type: ignore[attr-defined]
        digests.append(graph_digest(target))
        contents.add(target.read_bytes())
        assert digests[-1] != graph_digest(source)
    assert len(contents) == 2
    assert digests[0] == digests[1]


class Calibrated:
    """A context of nothing but inputs to calibrate with."""

    def __init__(self, inputs: Sequence[dict[str, Any]]) -> None:
        self.inputs = inputs
        self.task = SimpleNamespace(keep=())

    def feeds(self, count: int) -> Any:
        return iter(self.inputs[:count])


# -- graphs made by hand -----------------------------------------------------------------------------------------------


def value(name: str, *shape: int | str, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def digest_of(model: ModelProto, folder: Path) -> str:
    path = folder / "made.onnx"
    onnx.save(model, str(path))
    return graph_digest(path)


def made(
    nodes: Sequence[NodeProto],
    constants: dict[str, np.ndarray] | None = None,
    inputs: Sequence[onnx.ValueInfoProto] = (value("x", 1, 4),),
    outputs: Sequence[onnx.ValueInfoProto] = (value("y", 1, 4),),
    opset: int = 18,
) -> ModelProto:
    tensors = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def renamed(model: ModelProto) -> ModelProto:
    """With other names of values and nodes."""
    other = copy.deepcopy(model)
    for part in (*other.graph.input, *other.graph.output, *other.graph.initializer):
        part.name = f"{part.name}_other"
    for at, step in enumerate(other.graph.node):
        step.name, step.doc_string = f"n{at}", "said"
        step.input[:] = [f"{name}_other" if name else "" for name in step.input]
        step.output[:] = [f"{name}_other" for name in step.output]
    return other


BRANCHES = (node("Relu", "x", "a"), node("Neg", "x", "b"), node("Relu", "x", "c"), node("Sub", "a b", "d"))
SUM = (*BRANCHES, node("Mul", "c d", "y"))


def test_names_and_the_order_of_nodes_do_not_count(tmp_path: Path):
    plain = digest_of(made(SUM), tmp_path)
    assert digest_of(renamed(made(SUM)), tmp_path) == plain
    for seed in range(5):
        first = list(BRANCHES[:3])
        random.Random(seed).shuffle(first)
        assert digest_of(made([*first, *SUM[3:]]), tmp_path) == plain


def test_the_names_of_axes_that_vary_do_not_count_and_which_are_alike_does(tmp_path: Path):
    def of(*names: str) -> str:
        nodes = [node("Add", "x z", "y")]
        return digest_of(made(nodes, {}, [value("x", names[0], 4), value("z", names[1], 4)]), tmp_path)

    assert of("batch", "batch") == of("n", "n")
    assert of("batch", "batch") != of("batch", "other")


@pytest.mark.parametrize(
    "other",
    [
        (*BRANCHES, node("Mul", "d c", "y")),
        (*BRANCHES, node("Mul", "a d", "y")),
        (*BRANCHES[:3], node("Sub", "b a", "d"), node("Mul", "c d", "y")),
        (*BRANCHES[:3], node("Sub", "a b", "d"), node("Div", "c d", "y")),
        (*SUM, node("Relu", "d", "unused")),
    ],
    ids=["swapped", "one branch read twice", "subtracted the other way", "another operator", "a node more"],
)
def test_how_nodes_are_connected_counts(other: Sequence[NodeProto], tmp_path: Path):
    assert digest_of(made(other), tmp_path) != digest_of(made(SUM), tmp_path)


def test_versions_of_operators_count_where_they_are_used(tmp_path: Path):
    assert digest_of(made(SUM, opset=17), tmp_path) != digest_of(made(SUM), tmp_path)
    more = made(SUM)
    more.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert digest_of(more, tmp_path) == digest_of(made(SUM), tmp_path)


def floats(*shape: int, by: float = 1.0) -> np.ndarray:
    return np.full(shape, by, np.float32)


def test_shapes_and_types_of_constants_count_and_values_of_weights_do_not(tmp_path: Path):
    def of(weights: np.ndarray) -> str:
        return digest_of(made([node("Mul", "x w", "y")], {"w": weights}), tmp_path)

    assert of(floats(4)) == of(floats(4, by=3))
    assert len({of(floats(4)), of(floats(1, 4)), of(floats(1)), of(floats()), of(np.ones(4, np.float16))}) == 5


def test_constants_stored_once_or_twice_or_as_nodes_are_the_same(tmp_path: Path):
    twice = made([node("Mul", "x v", "a"), node("Add", "a w", "y")], {"v": floats(4), "w": floats(4, by=2)})
    once = made([node("Mul", "x w", "a"), node("Add", "a w", "y")], {"w": floats(4)})
    constant = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(floats(4)))
    inside = made([constant, node("Mul", "x w", "a"), node("Add", "a w", "y")])
    assert digest_of(twice, tmp_path) == digest_of(once, tmp_path) == digest_of(inside, tmp_path)


@pytest.mark.parametrize("stored", ["initializer", "Constant", "numbers"])
def test_shapes_given_as_constants_count(stored: str, tmp_path: Path):
    def of(*shape: int) -> str:
        nodes, tensors = [node("Reshape", "x s", "a"), node("Flatten", "a", "y")], {}
        if stored == "initializer":
            tensors = {"s": np.array(shape)}
        elif stored == "Constant":
            nodes.insert(0, helper.make_node("Constant", [], ["s"], value=numpy_helper.from_array(np.array(shape))))
        else:
            nodes.insert(0, helper.make_node("Constant", [], ["s"], value_ints=shape))
        return digest_of(made(nodes, tensors), tmp_path)

    assert of(1, 2, 2) == of(1, 2, 2)
    assert of(1, 2, 2) != of(1, 4, 1)


def test_long_tables_of_whole_numbers_are_no_shapes(tmp_path: Path):
    def of(count: int, first: int) -> str:
        return digest_of(made([node("Gather", "x i", "y", axis=1)], {"i": np.array([first] * count)}), tmp_path)

    assert of(64, 0) != of(64, 1)
    assert of(65, 0) == of(65, 1)


def test_scales_of_a_resize_count_and_bounds_do_not(tmp_path: Path):
    image = [value("x", 1, 1, 4, 4)]

    def resized(scale: float) -> str:
        scales = np.array([1, 1, scale, scale], np.float32)
        steps = [node("Resize", "x", "a"), node("GlobalAveragePool", "a", "y")]
        steps[0].input.extend(["", "s"])
        return digest_of(made(steps, {"s": scales}, image, [value("y", 1, 1, 1, 1)]), tmp_path)

    def clipped(high: float) -> str:
        return digest_of(made([node("Clip", "x l h", "y")], {"l": floats(), "h": floats(by=high)}), tmp_path)

    assert resized(2) != resized(3)
    assert clipped(6) == clipped(5.5)


def quantized(scale: float, bias: int, kind: type[np.signedinteger | np.unsignedinteger] = np.int8) -> ModelProto:
    steps = [
        node("QuantizeLinear", "x s z", "q"),
        node("DequantizeLinear", "q s z", "d"),
        node("DequantizeLinear", "w s z", "v"),
        node("DequantizeLinear", "b s", "c"),
        node("Gemm", "d v c", "y"),
    ]
    tensors = {
        "s": floats(by=scale),
        "z": np.array(bias % 7, kind),
        "w": np.full((4, 4), bias, kind),
        "b": np.full(4, bias, np.int32),
    }
    return made(steps, tensors)


def test_quantized_weights_biases_scales_and_zero_points_do_not_count_and_their_types_do(tmp_path: Path):
    plain = digest_of(quantized(0.1, 3), tmp_path)
    assert digest_of(quantized(0.2, 5), tmp_path) == plain
    assert digest_of(quantized(0.1, 3, np.uint8), tmp_path) != plain


def test_attributes_count(tmp_path: Path):
    def of(**attributes: Any) -> str:
        return digest_of(made([node("Softmax", "x", "y", **attributes)]), tmp_path)

    assert of(axis=1) == of(axis=1)
    assert len({of(), of(axis=1), of(axis=0)}) == 3


def branching(operator: str = "Relu", read: str = "a", bias: float = 1.0, width: int = 4) -> ModelProto:
    """``If`` whose first body reads a value of the graph around it."""
    weights = numpy_helper.from_array(floats(width, by=bias), "w")
    one = helper.make_graph(
        [node(operator, read, "t"), node("Add", "t w", "o")], "one", [], [value("o", 1, 4)], [weights]
    )
    other = helper.make_graph([node("Neg", "a", "p")], "other", [], [value("p", 1, 4)])
    steps = [node("Exp", "x", "a"), node("Log", "x", "b")]
    steps.append(helper.make_node("If", ["flag"], ["y"], then_branch=one, else_branch=other))
    return made(steps, {}, [value("flag", kind=TensorProto.BOOL), value("x", 1, 4)])


def test_bodies_are_part_of_the_graph(tmp_path: Path):
    plain = digest_of(branching(), tmp_path)
    assert digest_of(branching(bias=2.0), tmp_path) == plain
    others = [branching("Sigmoid"), branching(read="b"), branching(width=1)]
    assert len({plain, *(digest_of(other, tmp_path) for other in others)}) == 4


def test_data_in_other_files_is_not_read(tmp_path: Path):
    model = made([node("Mul", "x w", "y")], {"w": floats(4)})
    plain = digest_of(model, tmp_path)
    onnx.save(model, str(tmp_path / "apart.onnx"), save_as_external_data=True, location="apart.bin", size_threshold=0)
    (tmp_path / "apart.bin").unlink()
    assert graph_digest(tmp_path / "apart.onnx") == plain
