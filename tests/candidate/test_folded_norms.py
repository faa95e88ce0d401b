"""Batch norms beside products with constant weights are part of them in a file, where that computes the same."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.export import EXPORTERS, export
from autocompress.candidate.folded_norms import fold_batch_norms
from autocompress.candidate.graph_digest import graph_digest
from autocompress.data import feed_of
from autocompress.plugin.contract import NORM_BEFORE
from tests.layouts import layout_of

ROWS, STEPS, IMAGES = (2, 6), (2, 5, 6), (2, 6, 7, 7)


class AlongSteps(nn.Module):
    """(N, L, 6) -> (N, L, 3): a norm of the features of a sequence lies between two transpositions."""

    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 8, bias=bias), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.norm(self.first(x).transpose(1, 2)).transpose(1, 2)))


class Flattened(nn.Module):
    """(N, L, 6) -> (N, L, 8): steps are rows for the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(6, 8), nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return torch.relu(self.norm(y.flatten(0, 1)).reshape(y.shape))


class Branching(nn.Module):
    """A norm goes into two layers, and where ``added`` into a sum."""

    def __init__(self, *, added: bool) -> None:
        super().__init__()
        self.norm, self.one, self.other = nn.BatchNorm1d(6), nn.Linear(6, 6), nn.Linear(6, 6, bias=False)
        self.added = added

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(torch.relu(x))
        return torch.tanh(self.one(y)) * self.other(y) + (y if self.added else 0.0)


class ReadTwice(nn.Module):
    """What a layer gives is read in front of its norm too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(6, 6), nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return torch.relu(self.norm(y)) + torch.tanh(y)


class PooledAlong(nn.Module):
    """(N, 6, H, W) -> (N, H, 1, 4): a mean over the channels, and over one of the other axes."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.pool, self.last = nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Linear(1, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.pool(self.norm(torch.relu(x)).permute(0, 2, 3, 1)))


class Tied(nn.Module):
    """One layer, in front of a norm and again without."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(6, 6), nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.first(torch.relu(self.norm(self.first(x))))


def grouped(**how: int) -> nn.Module:
    return nn.Sequential(nn.ReLU(), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3, **how), nn.ReLU())


FOLDED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "behind a linear layer": (lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Sigmoid()), ROWS),
    "behind one without a bias": (
        lambda: nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.Tanh()),
        ROWS,
    ),
    "between linear layers": (
        lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 3)),
        ROWS,
    ),
    "in front of one without a bias": (
        lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm1d(6), nn.Linear(6, 3, bias=False)),
        ROWS,
    ),
    "in front and behind": (
        lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm1d(6), nn.Linear(6, 3, bias=False), nn.BatchNorm1d(3)),
        ROWS,
    ),
    "of the features of a sequence": (lambda: AlongSteps(bias=True), STEPS),
    "of these without a bias": (lambda: AlongSteps(bias=False), STEPS),
    "of a sequence as rows": (Flattened, STEPS),
    "in front of two": (lambda: Branching(added=False), ROWS),
    "in front of a convolution": (grouped, IMAGES),
    "in front of one in groups": (lambda: grouped(groups=2, bias=False), IMAGES),
    "in front of a flattened image": (
        lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6 * 49, 3)),
        IMAGES,
    ),
}
KEPT: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "of what the model is given": (lambda: nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3)), ROWS),
    "in front of a padded convolution": (lambda: grouped(padding=1), IMAGES),
    "in front of a sum too": (lambda: Branching(added=True), ROWS),
    "of what is read elsewhere": (ReadTwice, ROWS),
    "behind shared weights": (Tied, ROWS),
    "of other axes than a layer's": (lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(5), nn.ReLU()), STEPS),
}


def with_statistics(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights, and norms that do something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.reset_parameters()
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                for tensor in (module.weight, module.running_var):
                    nn.init.uniform_(tensor, 0.3, 1.5)
                for tensor in (module.bias, module.running_mean):
                    nn.init.normal_(tensor)
    return model.eval()


def exported(model: nn.Module, shape: tuple[int, ...], path: Path, exporter: str) -> Counter[str]:
    """Its operators. The file gives what the module gives."""
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    export(model, layout_of(model, inputs), inputs, path, exporter)
    onnx.checker.check_model(onnx.load(str(path)), full_check=True)
    (given,) = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feed_of(inputs))
    torch.testing.assert_close(torch.from_numpy(given), model(inputs).detach(), atol=1e-4, rtol=1e-4)
    graph = onnx.load(str(path)).graph
    read = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= read, "nothing of the norm is left behind"
    return Counter(node.op_type for node in graph.node)


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", FOLDED)
def test_a_norm_beside_a_product_is_part_of_it(name: str, exporter: str, tmp_path: Path) -> None:
    make, shape = FOLDED[name]
    operators = exported(with_statistics(make()), shape, tmp_path / "model.onnx", exporter)
    assert "BatchNormalization" not in operators


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", KEPT)
def test_a_norm_stays_where_its_values_are_needed(name: str, exporter: str, tmp_path: Path) -> None:
    make, shape = KEPT[name]
    operators = exported(with_statistics(make()), shape, tmp_path / "model.onnx", exporter)
    assert operators["BatchNormalization"] == 1


def test_a_norm_in_front_of_a_pooled_image_goes_through_the_pooling(tmp_path: Path) -> None:
    layers = nn.ReLU(), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    operators = exported(with_statistics(nn.Sequential(*layers)), IMAGES, tmp_path / "model.onnx", "torchscript")
    assert operators == {"Relu": 1, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1}


def test_a_norm_in_front_of_a_mean_over_its_channels_stays(tmp_path: Path) -> None:
    operators = exported(with_statistics(PooledAlong()), IMAGES, tmp_path / "model.onnx", "torchscript")
    assert operators["BatchNormalization"] == operators["GlobalAveragePool"] == 1, "and that exporter's file is kept"


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_files_of_a_structure_have_one_graph_whatever_its_norms_hold(exporter: str, tmp_path: Path) -> None:
    digests = set()
    for seed, ready in enumerate((lambda m: m.eval(), with_statistics, lambda m: with_statistics(m, 7))):
        model = ready(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 3), nn.BatchNorm1d(3)))
        exported(model, ROWS, tmp_path / f"{seed}.onnx", exporter)
        digests.add(graph_digest(tmp_path / f"{seed}.onnx"))
    assert len(digests) == 1


def test_who_rewrites_a_file_sees_which_layers_a_norm_in_front_is_part_of(tmp_path: Path) -> None:
    layers = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 3), nn.BatchNorm1d(3)
    exported(with_statistics(nn.Sequential(*layers)), ROWS, tmp_path / "model.onnx", "torchscript")
    products = [node for node in onnx.load(str(tmp_path / "model.onnx")).graph.node if node.op_type == "Gemm"]
    assert [node.input[1].startswith(NORM_BEFORE) for node in products] == [False, True]


def test_a_norm_of_its_own_input_stays(tmp_path: Path) -> None:
    """It takes the statistics of the batch, which no weights hold."""
    path, layers = tmp_path / "model.onnx", (nn.Linear(6, 8), nn.BatchNorm1d(8))
    exported(with_statistics(nn.Sequential(*layers[:1], nn.Tanh(), layers[1], nn.Tanh())), ROWS, path, "torchscript")
    model = onnx.load(str(path))
    (norm,) = (node for node in model.graph.node if node.op_type == "BatchNormalization")
    (tanh,) = (node for node in model.graph.node if node.op_type == "Tanh" and node.output[0] == norm.input[0])
    norm.input[0] = tanh.input[0]
    model.graph.node.remove(tanh)
    statistics = next(own for own in norm.attribute if own.name == "training_mode")
    norm.output.extend(["mean", "variance"])
    statistics.i = 1
    assert fold_batch_norms(model) == 0
    del norm.output[1:]
    statistics.i = 0
    assert fold_batch_norms(model) == 1
