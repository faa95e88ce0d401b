"""Every output of a model is in its file by name, whatever holds it, and equals what the module returns."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.export import EXPORTERS, export_right
from autocompress.errors import UsageError
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from tests.layouts import layout_of

PROFILE = HardwareProfile(name="cpu")
X = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))


class Named(NamedTuple):
    kind: Tensor
    box: Tensor


@dataclass
class Held:
    logits: Tensor
    hidden: Tensor | None = None
    loss: Tensor | None = None


class Heads(nn.Module):
    """``returned`` of (input, one head's output, the other's)."""

    def __init__(self, returned: Callable[[Tensor, Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.a, self.b, self.returned = nn.Linear(4, 3), nn.Linear(4, 2), returned

    def forward(self, x: Tensor) -> Any:
        return self.returned(x, self.a(x), self.b(x))


class LastState(nn.Module):
    """Its states have their examples on axis 1."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 5, batch_first=True)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        outputs, (state, _) = self.rnn(x[:, None].expand(-1, 3, -1))
        return {"logits": outputs[:, -1], "state": state}


class Squeezing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(1, keepdim=True).squeeze()


MODELS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "tuple": (lambda: Heads(lambda x, a, b: (a, b)), ["output_0", "output_1"]),
    "named tuple": (lambda: Heads(lambda x, a, b: Named(a, b)), ["kind", "box"]),
    "dataclass": (lambda: Heads(lambda x, a, b: Held(a, b)), ["logits", "hidden"]),
    "nested": (
        lambda: Heads(lambda x, a, b: {"logits": a, "more": [b, {"c": a + 1}]}),
        ["logits", "more.0", "more.1.c"],
    ),
    "one tensor twice": (lambda: Heads(lambda x, a, b: {"one": a, "two": a}), ["one", "two"]),
    "an input": (lambda: Heads(lambda x, a, b: {"logits": a, "again": x}), ["logits", "again"]),
    "whole numbers": (lambda: Heads(lambda x, a, b: {"logits": a, "label": a.argmax(1)}), ["logits", "label"]),
    "the same for any batch": (
        lambda: Heads(lambda x, a, b: {"logits": a, "anchors": torch.arange(6.0)}),
        ["logits", "anchors"],
    ),
    "examples on another axis": (LastState, ["logits", "state"]),
    "an input's name": (lambda: Heads(lambda x, a, b: {"logits": a, "input": b}), ["logits", "input_output"]),
    "a weight's name": (lambda: Heads(lambda x, a, b: {"model.a.bias": a, "b": b}), ["model.a.bias_output", "b"]),
    "other characters": (
        lambda: Heads(lambda x, a, b: {"class: α": a, "7": b, "": x * 2}),
        ["class___", "output_7", "output_"],
    ),
    "two of one path": (lambda: Heads(lambda x, a, b: {"a.b": a, "a": {"b": b}}), ["a.b", "a.b_2"]),
}


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("kind", MODELS)
def test_every_output_is_in_the_file_by_name(kind: str, exporter: str, plugins: PluginSet, tmp_path: Path) -> None:
    make, names = MODELS[kind]
    model, path, runtime = make().eval(), tmp_path / "m.onnx", plugins.runtime("onnxruntime")
    layout = layout_of(model, X)
    export_right(exporter, model, layout, [X[:1], X[1:2]], path, lambda file: runtime.open(file, PROFILE))
    assert [value.name for value in onnx.load(str(path)).graph.output] == names
    found = runtime.open(path, PROFILE).run({"input": X[2:3].numpy()})
    with torch.no_grad():
        expected = layout.delivered(model(X[2:3]))
    for own, wanted in zip(found, expected.values(), strict=True):
        torch.testing.assert_close(torch.from_numpy(own), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("kind", [torch.uint8, torch.bool])
def test_an_input_keeps_its_type(kind: torch.dtype, exporter: str, plugins: PluginSet, tmp_path: Path) -> None:
    class AsFloat(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x.float()

    x, path, runtime = (X > 0).to(kind), tmp_path / "m.onnx", plugins.runtime("onnxruntime")
    layout = layout_of(AsFloat(), x)
    export_right(exporter, AsFloat(), layout, [x[:1]], path, lambda file: runtime.open(file, PROFILE))
    (value,) = onnx.load(str(path)).graph.input
    assert onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type) == x.numpy().dtype


def test_a_model_that_squeezes_the_axis_of_examples_away_is_refused() -> None:
    with pytest.raises(UsageError, match=r"shape \(\) for one example and \(2,\) for two: .*squeeze\(-1\)"):
        layout_of(Squeezing(), X)
