"""Parallel convolutions of one input are one in a file, and nothing else becomes another."""

from collections import Counter
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.export import EXPORTERS, export
from autocompress.candidate.parallel_branches import merge_parallel_branches, merged_convolutions
from autocompress.data import feed_of
from tests.layouts import layout_of

WIDTH = 8
IMAGES = torch.randn(2, WIDTH, 9, 11, generator=torch.Generator().manual_seed(0))


def branch(kernel: int | tuple[int, int], *, stride: int = 1, groups: int = 1, dilation: int = 1) -> nn.Module:
    padding = tuple(k // 2 * dilation for k in ((kernel, kernel) if isinstance(kernel, int) else kernel))
    return nn.Sequential(
        nn.Conv2d(WIDTH, WIDTH, kernel, stride, padding, groups=groups, dilation=dilation, bias=False),
        nn.BatchNorm2d(WIDTH),
    )


class Summed(nn.Module):
    """What several branches give, added; ``twice``: the first one's is read again."""

    def __init__(self, *branches: nn.Module, shortcut: bool = False, twice: bool = False) -> None:
        super().__init__()
        self.branches, self.shortcut, self.twice = nn.ModuleList(branches), shortcut, twice

    def forward(self, x: Tensor) -> Tensor:
        gave = [own(x) for own in self.branches]
        total = gave[0]
        for other in gave[1:]:
            total = other + total
        total = x + total if self.shortcut else total
        return torch.relu(total) + torch.tanh(gave[0]) if self.twice else torch.relu(total)


class Chained(nn.Module):
    """Branches of another input are added to those of this one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.one, self.other = branch(3), branch(3), branch(1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first(x))
        return torch.relu(x.exp() + self.one(y) + self.other(y))


def with_statistics(model: nn.Module) -> nn.Module:
    """Norms that do something."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, 0, 0.3)
    return model.eval()


def file_of(model: nn.Module, folder: Path, exporter: str = "torchscript") -> Counter[str]:
    """Its operators. The file gives what the module gives."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with_statistics(model)
    path = folder / "model.onnx"
    export(model, layout_of(model, IMAGES), IMAGES, path, exporter)
    onnx.checker.check_model(onnx.load(str(path)))
    (given,) = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feed_of(IMAGES))
    torch.testing.assert_close(torch.from_numpy(given), model(IMAGES).detach(), atol=1e-4, rtol=1e-4)
    return Counter(node.op_type for node in onnx.load(str(path)).graph.node)


MERGED = {
    "a norm of the input": lambda: Summed(branch(3), branch(1), nn.BatchNorm2d(WIDTH)),
    "the input": lambda: Summed(branch(3), branch(1), shortcut=True),
    "depthwise": lambda: Summed(*(branch(5, groups=WIDTH) for _ in range(2)), branch(1, groups=WIDTH), shortcut=True),
    "in groups": lambda: Summed(branch(3, groups=2), branch(1, groups=2), nn.BatchNorm2d(WIDTH)),
    "strides": lambda: Summed(branch(3, stride=2), branch(1, stride=2)),
    "kernels of other shapes": lambda: Summed(branch(3), branch((1, 3)), branch((3, 1))),
}


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", MERGED)
def test_branches_of_one_input_are_one_convolution(name: str, exporter: str, tmp_path: Path):
    assert file_of(MERGED[name](), tmp_path, exporter) == {"Conv": 1, "Relu": 1}
    assert merged_convolutions(tmp_path / "model.onnx") == 1


def test_what_else_is_added_stays_added(tmp_path: Path):
    assert file_of(Chained(), tmp_path) == {"Conv": 2, "Relu": 2, "Exp": 1, "Add": 1}


class OfTwoInputs(nn.Module):
    """Branches of two inputs in one sum."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branch(kernel) for kernel in (3, 1, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(x)
        a, b, c, d = (own(given) for own, given in zip(self.branches, (x, x, y, y), strict=True))
        return torch.relu(a + b + c + d)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_branches_of_two_inputs_in_one_sum_are_a_convolution_each(exporter: str, tmp_path: Path):
    assert file_of(OfTwoInputs(), tmp_path, exporter) == {"Conv": 2, "Relu": 2, "Add": 1}
    assert merged_convolutions(tmp_path / "model.onnx") == 2


class Broadcast(nn.Module):
    """What is added has one channel, or all of them."""

    def __init__(self, *kernels: int, norm: bool) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(WIDTH, 1, kernel, padding=kernel // 2) for kernel in kernels)
        self.other = nn.BatchNorm2d(WIDTH) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        total = self.other(x)
        for own in self.branches:
            total = total + own(x)
        return torch.relu(total)


@pytest.mark.parametrize(("kernels", "norm", "left"), [((3, 1), False, 1), ((3, 1), True, 2), ((1,), True, 1)])
def test_an_addition_that_repeats_a_channel_stays(kernels: tuple[int, ...], norm: bool, left: int, tmp_path: Path):
    assert file_of(Broadcast(*kernels, norm=norm), tmp_path)["Conv"] == left


def test_what_the_body_of_a_condition_reads_is_read() -> None:
    """An initializer that nothing else reads, and what a branch gives."""
    make, tensor = onnx.helper.make_node, onnx.helper.make_tensor
    kernel, image = torch.randn(2, 2, 1, 1, generator=torch.Generator().manual_seed(0)), ["n", 2, "h", "w"]
    floats, given = onnx.TensorProto.FLOAT, torch.randn(1, 2, 3, 3, generator=torch.Generator().manual_seed(1))

    def value(name: str, kind: int = floats, shape: list[object] | None = None) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(name, kind, image if shape is None else shape)

    def model_of(read: str) -> onnx.ModelProto:
        bodies = {
            way: onnx.helper.make_graph([make(kind, [read, "k"], [way])], way, [], [value(way)])
            for way, kind in (("then_branch", "Add"), ("else_branch", "Mul"))
        }
        nodes = [
            make("Conv", ["x", "w"], ["a"]),
            make("Conv", ["x", "w"], ["b"]),
            make("Add", ["a", "b"], ["sum"]),
            make("If", ["which"], ["chosen"], **bodies),
            make("Add", ["sum", "chosen"], ["out"]) if read == "a" else make("Mul", ["sum", "chosen"], ["out"]),
        ]
        constants = [tensor("w", floats, kernel.shape, kernel.flatten().tolist()), tensor("k", floats, [1], [2.0])]
        given = [value("x"), value("which", onnx.TensorProto.BOOL, [])]
        graph = onnx.helper.make_graph(nodes, "g", given, [value("out")], constants)
        return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)

    feed = {"x": given.numpy(), "which": torch.tensor(True).numpy()}
    for read, merges in (("sum", 1), ("a", 0)):
        model = model_of(read)
        (before,) = ort.InferenceSession(model.SerializeToString()).run(None, feed)
        assert merge_parallel_branches(model) == merges
        onnx.checker.check_model(model, full_check=True)
        (after,) = ort.InferenceSession(model.SerializeToString()).run(None, feed)
        torch.testing.assert_close(torch.from_numpy(after), torch.from_numpy(before))


APART = {
    "one branch and a shortcut": (lambda: Summed(branch(3), shortcut=True), 1),
    "one that is read again": (lambda: Summed(branch(3), branch(1), twice=True), 2),
    "dearer together": (lambda: Summed(branch((1, 3)), branch((3, 1))), 2),
    "gaps in a kernel": (lambda: Summed(branch(3, dilation=2), branch(1)), 2),
    "other groups": (lambda: Summed(branch(3, groups=2), branch(1)), 2),
}


@pytest.mark.parametrize("name", APART)
def test_what_is_not_the_same_as_one_stays_apart(name: str, tmp_path: Path):
    make, convolutions = APART[name]
    assert file_of(make(), tmp_path)["Conv"] == convolutions
    assert merged_convolutions(tmp_path / "model.onnx") == 0
