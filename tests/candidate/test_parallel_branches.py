"""Parallel convolutions of one input are one in a file, and nothing else becomes another."""

from collections import Counter
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.export import EXPORTERS, export
from autocompress.candidate.parallel_branches import merged_convolutions
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
    found = Counter(node.op_type for node in onnx.load(str(path)).graph.node)
    assert merged_convolutions(path) == sum(n.name.startswith("merged/") for n in onnx.load(str(path)).graph.node)
    return found


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
