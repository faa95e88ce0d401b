"""What the strategies share: nodes with names, and the distance between the outputs of two files."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from autocompress.plugin.contract import Context
from autocompress_plugins.quantization.ort_quantization import (
    file_outputs,
    has_constant_weights,
    named,
    opened,
    output_error,
)


class Affine(nn.Module):
    """Ten times the inputs, and a term."""

    def __init__(self, term: float) -> None:
        super().__init__()
        self.term = nn.Parameter(torch.tensor([term]))

    def forward(self, x: Tensor) -> Tensor:
        return 10 * x + self.term


def test_error_is_a_share_of_the_deviation_of_the_outputs(
    graph_context: Callable[..., Context], noise: Callable[..., Tensor], tmp_path: Path
) -> None:
    inputs = noise(64, 50)
    context = graph_context(Affine(100.0), inputs)
    reference = context.reference.rename(tmp_path / "first.onnx")
    for term, error in ((100.0, 0), (101.0, 0.1), (99.0, 0.1), (float("nan"), float("inf"))):
        other = graph_context(Affine(term), inputs).reference
        found = output_error(file_outputs(opened(reference), context.feeds(64)), opened(other), context.feeds(64))
        assert found == pytest.approx(error, rel=0.05, abs=1e-6)


def test_every_node_gets_a_name_of_its_own_and_keeps_the_one_it_had(
    graph_context: Callable[..., Context], tiny_model: nn.Module
) -> None:
    path = graph_context(tiny_model, torch.zeros(2, 1, 8, 8)).reference
    model = onnx.load(str(path))
    before = [node.name for node in model.graph.node]
    for node in model.graph.node[::2]:
        node.name = ""
    onnx.save(model, str(path))
    after = [node.name for node in named(path).graph.node]
    assert len({*after}) == len(after)
    assert after[1::2] == before[1::2]
    assert after
    assert all(after)


def test_product_of_activations_has_no_constant_weights(graph_context: Callable[..., Context]) -> None:
    class Product(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x @ x.transpose(1, 2) + 1

    path = graph_context(Product(), torch.zeros(2, 3, 4)).reference
    assert not has_constant_weights(path, {"MatMul"})
    assert has_constant_weights(path, {"Add"})
